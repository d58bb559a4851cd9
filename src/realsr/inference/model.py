"""A model of any source as one function on tensors, for all that enlarges pictures."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from realsr.core.devices import HALVES, Precision, choose_precision
from realsr.core.errors import UserError
from realsr.imaging import resize
from realsr.inference.fast_rrdb import FastRRDB
from realsr.inference.foreign import load_foreign
from realsr.inference.onnx_files import load_onnx
from realsr.networks.rrdb import RRDB
from realsr.weights.generators import is_generator, make_generator
from realsr.weights.sources import find_weights
from realsr.weights.state_files import identify_weights, read_weights

logger = logging.getLogger("realsr")

Run = Callable[[Tensor], Tensor]
BICUBIC = "bicubic"


@dataclass(frozen=True)
class SRModel:
    """`run`: (N, 3, h, w), float32, 0..1, on `device` -> (N, 3, scale*h, scale*w), float32, there, not clamped.

    The results of a model that `load_model` returns are finite; `run` raises UserError where they cannot be.
    bytes_per_pixel: the memory that it takes for an LR pixel, where that cannot be seen from outside.
    """

    scale: int
    device: torch.device
    run: Run
    bytes_per_pixel: float | None = None


def load_model(
    source: str | Path,
    device: torch.device,
    precision: str = "auto",
    allow_custom_code: bool = False,
    scale: int | None = None,
) -> SRModel:
    """Return a model, ready to run on a device.

    Args:
        source: `bicubic`; all that `load_generator` takes; a file of another author's network that spandrel knows; or
            an `.onnx` that `realsr.export` has written.
        device: where it runs; an `.onnx` runs on a GPU only where onnxruntime has a build for it.
        precision: auto, bf16, fp16 or fp32, see `choose_precision`. Bicubic is always float32, an `.onnx` what it is.
        allow_custom_code: whether a file may name a network of the user's own, whose code is then imported.
        scale: bicubic's; of another model what it must have, None for any.

    Raises:
        UserError: where the source cannot be loaded, its scale is another, or the precision cannot be had.
    """
    numbers = choose_precision(precision, device)
    if source == BICUBIC:
        if scale is None:
            raise UserError("bicubic: has no scale of its own: say scale=4, or which one is wanted")
        factor = float(scale)
        return SRModel(scale, device, lambda x: resize(x, factor=factor))
    path = find_weights(source)
    kind = identify_weights(path)
    if kind.format == "onnx" or (not kind.format and path.suffix.lower() == ".onnx"):
        return _load_onnx(path, device, precision, scale)
    file = read_weights(path)
    if is_generator(file):
        generator, found = make_generator(file, allow_custom_code)
        network: Run = generator.to(device)
    else:
        network, found, numbers = load_foreign(file, numbers, automatic=precision == "auto")
    _check_scale(source, scale, found)
    half = "float32" if numbers.half is None else str(numbers.half).removeprefix("torch.")
    logger.info("%s: scale %d, on %s in %s", source, found, device, half)
    exact = None if numbers.half is None else partial(_prepare, network, replace(numbers, half=None))
    return SRModel(found, device, only_finite(_prepare(network, numbers), str(source), exact))


def only_finite(run: Run, source: str, exact: Callable[[], Run] | None = None) -> Run:
    """Return a model's function that never gives NaN or infinity.

    Args:
        run: the function.
        source: the model's file, for messages.
        exact: makes the function in float32 where `run` computes in less. It takes the place of `run`, with a
            warning, at the first result that is not finite.

    The returned function raises UserError where the result (in float32) is not finite.
    """

    def run_checked(x: Tensor) -> Tensor:
        nonlocal run, exact
        y = run(x)
        if not torch.isfinite(y).all() and exact is not None:
            logger.warning(
                "%s: its half precision overflows (values that are not finite): this tile and all that follow are "
                "computed in float32",
                source,
            )
            run, exact = exact(), None
            y = run(x)
        if not torch.isfinite(y).all():
            raise UserError(
                f"{source}: the network gives values that are not finite (NaN or infinity) on this photo, so that no "
                "result is written: use other weights"
            )
        return y

    return run_checked


def _load_onnx(path: Path, device: torch.device, precision: str, scale: int | None) -> SRModel:
    run, facts, device = load_onnx(path, device)
    _check_scale(path, scale, facts.scale)
    if precision in HALVES:
        raise UserError(f"precision={precision}: {path} computes in {facts.precision}: leave precision out")
    logger.info("%s: scale %d, on %s in %s, by onnxruntime", path, facts.scale, device, facts.precision)
    return SRModel(facts.scale, device, only_finite(run, str(path)), facts.bytes_per_pixel)


def _check_scale(source: str | Path, asked: int | None, found: int) -> None:
    if asked not in (None, found):
        raise UserError(f"{source}: trained for scale {found}, but scale={asked} was asked for")


def _prepare(network: Run, precision: Precision) -> Run:
    if isinstance(network, RRDB):
        fast = FastRRDB(network, precision.half)

        def run(x: Tensor) -> Tensor:
            with precision.computing():
                return fast(x)

        return run
    return precision.wrap(network)
