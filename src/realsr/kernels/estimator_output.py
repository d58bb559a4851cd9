"""Calls of an estimator, with checks of what an estimator of the user's own returns."""

import io
import json
import reprlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from realsr.core.errors import UserError
from realsr.imaging.kernel_shapes import Kernel, check_kernel
from realsr.kernels.estimator import (
    Advance,
    Batch,
    KernelEstimate,
    KernelEstimator,
    NoKernelError,
    Observation,
    SourcePhoto,
    is_custom,
    name_estimator,
    name_faults,
)

RECORD_KEYS = {"name", "files", "source", "damaged", "health", "rejected"}  # of an item


def observe(
    estimator: KernelEstimator, photos: Sequence[SourcePhoto], seed: int, advance: Advance
) -> Iterator[Batch]:
    """Yield the observations of all photos, in batches.

    Raises UserError if custom code fails, or does not yield an outcome for each photo.
    """
    text = f"{name_estimator(estimator)}: observe yields"
    names = {photo.name for photo in photos}
    outcomes: set[str] = set()
    with name_faults(estimator, "observe"):
        for batch in estimator.observe(photos, seed, advance):
            for name, item in batch.items():
                if not isinstance(item, Observation | Exception):
                    kind = type(item).__name__
                    raise UserError(
                        f"{text} {kind} for photo {name}: expected an Observation or an exception"
                    )
            outcomes |= batch.keys()
            if outcomes - names:
                raise UserError(f"{text} unknown photos: {', '.join(sorted(outcomes - names))}")
            yield batch
    if names - outcomes:
        raise UserError(f"{text} nothing for the photos {', '.join(sorted(names - outcomes))}")


def pack_observation(estimator: KernelEstimator, name: str, observation: Observation) -> bytes:
    """Return a photo's observation as an .npz file.

    Raises UserError for a value that NumPy would pickle, since such a file cannot be read.
    """
    content = io.BytesIO()
    with name_faults(estimator, f"storing the observation of photo {name}"):
        arrays = {key: np.asanyarray(value) for key, value in observation.values.items()}
        for key, array in arrays.items():
            if array.dtype.hasobject:
                raise UserError(
                    f"{name_estimator(estimator)}: observation {key} of photo {name} is "
                    f"{reprlib.repr(observation.values[key])}: expected a number, text or an array "
                    "of these; a missing text may be ''"
                )
        np.savez(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def estimate(
    estimator: KernelEstimator, observations: Mapping[str, Observation], seed: int, scale: int
) -> Mapping[str, KernelEstimate | NoKernelError]:
    """Return the kernels of the observations by name.

    Raises UserError if custom code fails, or returns other than sound kernels for `scale`.
    """
    with name_faults(estimator, "estimate"):
        estimates = estimator.estimate(observations, seed)
    if not is_custom(estimator):
        return estimates
    text = f"{name_estimator(estimator)}: estimate returned"
    if not isinstance(estimates, Mapping):
        raise UserError(f"{text} {type(estimates).__name__}: expected estimates by name")
    absent = observations.keys() - estimates.keys()
    if absent:
        raise UserError(f"{text} nothing for the photos {', '.join(sorted(absent))}")
    scales = {scale} if getattr(estimator, "derive", None) is None else {scale, 2}
    outcomes: dict[str, KernelEstimate | NoKernelError] = {}
    for name in observations:
        with name_faults(estimator, f"the estimate for photo {name}"):
            outcomes[name] = _check_estimate(estimates[name], scales, f"{text} for photo {name}")
    return outcomes


def derive(estimator: KernelEstimator, kernel: Kernel, scale: int) -> Kernel:
    """Return the kernel for a scale from that for scale 2.

    Raises UserError if custom code fails or returns other than a sound kernel.
    """
    with name_faults(estimator, f"derive for scale {scale}"):
        result: Kernel = estimator.derive(kernel, scale)  # type: ignore[attr-defined]
        if is_custom(estimator):
            _check_kernel(result, f"{name_estimator(estimator)}: derive for scale {scale} returned")
    return result


def _check_estimate(
    item: KernelEstimate | NoKernelError, scales: Collection[int], text: str
) -> KernelEstimate | NoKernelError:
    """Return an estimate with its numbers as floats. Raises UserError, which `text` starts."""
    if isinstance(item, NoKernelError):
        return item
    if not isinstance(item, KernelEstimate):
        kind = type(item).__name__
        raise UserError(f"{text} {kind}: expected a KernelEstimate or a NoKernelError")
    if not any(item.kernels.get(scale) is not None for scale in scales):
        raise UserError(
            f"{text} kernels for the scales {list(item.kernels)}: expected scale "
            f"{' or '.join(map(str, sorted(scales)))}"
        )
    for scale, kernels in item.kernels.items():
        if len(kernels) == 0:
            raise UserError(f"{text} an empty list for scale {scale}: expected 1 kernel or more")
        for kernel in kernels:
            _check_kernel(kernel, f"{text} in the list for scale {scale}")
    if RECORD_KEYS & item.facts.keys():
        names = ", ".join(sorted(RECORD_KEYS & item.facts.keys()))
        raise UserError(f"{text} facts with the reserved names {names}: rename them")
    json.dumps(dict(item.facts))
    return replace(item, numbers={name: float(value) for name, value in item.numbers.items()})


def _check_kernel(kernel: Kernel, text: str) -> None:
    """Raise UserError, which `text` starts, unless a kernel is square and finite with sum 1."""
    array = np.asarray(kernel, dtype=np.float64)
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise UserError(f"{text} an array of shape {array.shape}: expected a square 2-D array")
    check_kernel(array, text)
