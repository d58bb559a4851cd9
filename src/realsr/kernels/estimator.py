"""Protocol of kernel estimators: components that make kernels from photos or their own items.

An estimator is the file `kernels/<name>.py` with its values in `conf/kernels/<name>.yaml`. The
stage (`kernels/estimation.py`) adds resuming, shards, gates and files.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import ExifTags, Image
from scipy import ndimage

from realsr.core.components import Values, build_component, locate_error
from realsr.core.errors import UserError
from realsr.core.workers import count_workers, map_items
from realsr.imaging import ImageError, read_uint8_and_damage
from realsr.imaging.kernel_shapes import Kernel, aligned_centre, filter_small, moments
from realsr.kernels.gates import Gates, read_gates
from realsr.provenance.manifest import Shard

HEALTH = ("sum", "negative", "centre_offset", "border", "spread_long", "spread_short", "entropy")

ALL_SCALES = (1, 2, 3, 4, 8)  # those of the RRDB generator

Advance = Callable[[int], None]  # called with the number of steps done since the last call


class NoKernelError(ValueError):
    """A photo yields no kernel. This does not fail the stage. The message gives the reason."""


@dataclass(frozen=True)
class PhotoTags:
    """A photo's EXIF tags, None if missing.

    focal_length: in mm. width, height: in pixels as stored, before the orientation is applied.
    """

    camera: str | None
    lens: str | None
    focal_length: float | None
    orientation: int
    width: int
    height: int


@dataclass(frozen=True)
class SourcePhoto:
    """An input of an estimator: its name in the pool and its file.

    damaged: `refuse` or `accept` a damaged file.
    """

    name: str
    path: Path
    damaged: str

    def read(self) -> tuple[np.ndarray, str | None]:
        """Return the upright photo (H, W, 3) uint8 and its file's damage. Raises ImageError."""
        return read_uint8_and_damage(self.path, self.damaged)

    @cached_property
    def tags(self) -> PhotoTags:
        """Tags of the photo, read without its pixels. Raises OSError if Pillow cannot open it."""
        with Image.open(self.path) as image:
            exif = image.getexif()
            inner = exif.get_ifd(ExifTags.IFD.Exif)
            focal = inner.get(ExifTags.Base.FocalLength)
            orientation = exif.get(ExifTags.Base.Orientation, 1)
            return PhotoTags(
                camera=str(exif.get(ExifTags.Base.Model, "")).strip("\0 ") or None,
                lens=str(inner.get(ExifTags.Base.LensModel, "")).strip("\0 ") or None,
                focal_length=float(focal) if focal else None,
                orientation=orientation if orientation in range(1, 9) else 1,
                width=image.width,
                height=image.height,
            )


@dataclass(frozen=True)
class Observation:
    """Numbers, text and arrays that an estimator measures on one photo, by name.

    damage: description of the file's damage, None if intact.
    """

    values: Mapping[str, np.ndarray]
    damage: str | None = None


@dataclass(frozen=True)
class KernelEstimate:
    """A photo's kernels by scale, one or several draws each (float64, square, sum 1, aligned).

    numbers: what gates can limit. facts: other entries of the manifest.
    """

    kernels: Mapping[int, Sequence[Kernel]]
    numbers: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


Batch = Mapping[str, Observation | Exception]


class KernelEstimator(Protocol):
    """An estimator of kernels. The constructor takes the values of its YAML file.

    The stage supplies `scale`, `workers` and `device_index` if the constructor has these
    parameters. Results must not depend on the order of the photos or on the batch size: random
    numbers derive from the seed and the photo's name. A subclass overrides only the attributes that
    differ.

    An estimator may have `derive(kernel, scale)`, which returns the kernel for a scale from that
    for scale 2. The stage calls it at a scale whose kernels `estimate` does not return.

    inputs: `source` if `observe` takes source photos; otherwise the estimator has `list_items`.
    joint: whether `estimate` needs the observations of all photos at once. They are stored then.
    numbers: names of all numbers that an estimate may report. Gates can limit them.
    runtime_only: arguments that do not change the result, such as a device. They are not recorded.
    scales: the scales for which it makes kernels.
    steps, unit: number of progress steps per item, and their name ("" for items).
    """

    inputs: str = "source"
    joint: bool = False
    numbers: Sequence[str] = ()
    runtime_only: frozenset[str] = frozenset()
    scales: Sequence[int] = (2, 4)
    steps: int = 1
    unit: str = ""

    def observe(
        self, photos: Sequence[SourcePhoto], seed: int, advance: Advance
    ) -> Iterator[Batch]:
        """Yield observations by the photos' names, in batches that are saved together.

        Instead of an observation, yield a NoKernelError if the photo gives no evidence of its
        kernel, or another exception if it cannot be read. By default a batch is the result of
        `observe_photo`, computed in `self.workers` processes if the estimator has this attribute.
        """
        workers = count_workers(len(photos), getattr(self, "workers", 0))
        outcomes = map_items(self._try_photo, photos, workers)
        for photo, outcome in zip(photos, outcomes, strict=True):
            advance(1)
            yield {photo.name: outcome}

    def observe_photo(self, photo: SourcePhoto) -> Observation:
        """Return the observation of a photo, by default an empty one.

        Raises ImageError or ValueError if the photo cannot be read, NoKernelError if it gives no
        evidence of its kernel.
        """
        return Observation({})

    def _try_photo(self, photo: SourcePhoto) -> Observation | Exception:
        # In the worker process, whose traceback has the place of the fault.
        with name_faults(self, f"observe_photo of photo {photo.name}"):
            try:
                return self.observe_photo(photo)
            except (ImageError, ValueError) as error:
                return error

    def estimate(
        self, observations: Mapping[str, Observation], seed: int
    ) -> Mapping[str, KernelEstimate | NoKernelError]:
        """Return the kernels by name. A joint estimator gets the observations of all photos."""


_LIST = (tuple, list, range, Set)
_ATTRIBUTES: Mapping[str, tuple[Any, str]] = {
    "inputs": (str, "text"),
    "joint": (bool, "True or False"),
    "numbers": (_LIST, "a list of names"),
    "runtime_only": (Set, "a set of names"),
    "scales": (_LIST, "a list of scales"),
    "steps": (int, "a whole number"),
    "unit": (str, "text"),
    "observe": (Callable, "a method"),
    "estimate": (Callable, "a method"),
}


def is_custom(estimator: KernelEstimator) -> bool:
    """Return whether an estimator's class is not of this package."""
    return not type(estimator).__module__.startswith("realsr.kernels.")


def name_estimator(estimator: KernelEstimator) -> str:
    """Return an estimator's class, for messages."""
    return f"estimator {type(estimator).__module__}.{type(estimator).__qualname__}"


@contextmanager
def name_faults(estimator: KernelEstimator, action: str) -> Iterator[None]:
    """Raise errors of custom code as a UserError that names the estimator, action and place."""
    try:
        yield
    except (UserError, ImageError):
        raise
    except Exception as error:
        if not is_custom(estimator):
            raise
        message = f"{name_estimator(estimator)}: {action} failed: {locate_error(error)}"
        raise UserError(message) from error


def check_photo_size(image_uint8: np.ndarray, min_side: int) -> None:
    """Raise ValueError if a photo (H, W, 3) has a side of fewer than `min_side` pixels."""
    height, width = image_uint8.shape[:2]
    if min(height, width) < min_side:
        raise ValueError(
            f"{width}x{height} pixels are too few for kernel estimation; "
            f"use a photo of at least {min_side}x{min_side} pixels"
        )


def measure_health(raw: Kernel, final: Kernel) -> dict[str, float]:
    """Measure a kernel, `raw` as estimated and `final` as saved.

    Raises ValueError if raw has no positive sum.

    sum: sum of raw, which is not normalised; near 1, or near 0 if training failed.
    negative: share of |raw| that is negative, 0..1.
    centre_offset: distance of raw's centre of mass (small values removed) from that of an aligned
    kernel, in pixels.
    border: share of raw (small values removed) in its outermost ring, 0..1; large if the blur
    exceeds the kernel's size.
    spread_long, spread_short: standard deviations of final along its axes, in pixels.
    entropy: of final, in bits; 0 for a single pixel, 7.4 for a flat 13x13.
    """
    magnitude, main_values = np.abs(raw), filter_small(raw)
    offset = np.array(ndimage.center_of_mass(main_values)) - [
        aligned_centre(size, scale=2) for size in raw.shape
    ]
    short, long = np.linalg.eigvalsh(moments(np.clip(final, 0, None))[1])
    mass = final[final > 0] / final[final > 0].sum()
    return {
        "sum": float(raw.sum()),
        "negative": float(magnitude[raw < 0].sum() / magnitude.sum()),
        "centre_offset": float(np.hypot(*offset)),
        "border": float(1 - main_values[1:-1, 1:-1].sum()),
        "spread_long": math.sqrt(max(long, 0.0)),
        "spread_short": math.sqrt(max(short, 0.0)),
        "entropy": float(-(mass * np.log2(mass)).sum()),
    }


def make_estimator(
    values: Values, key: str, scale: int, workers: int | None, shard: Shard | None
) -> tuple[KernelEstimator, Gates]:
    """Return the estimator and gates that `values` define; key: their config key.

    Raises UserError for invalid values.
    """
    arguments = {name: value for name, value in values.items() if name != "gates"}
    estimator: KernelEstimator = build_component(
        "realsr.kernels",
        key,
        arguments,
        ("gates",),
        scale=scale,
        workers=workers,
        device_index=shard.index if shard else 0,
    )
    for name, (kinds, text) in _ATTRIBUTES.items():
        value = getattr(estimator, name, None)
        if not isinstance(value, kinds):
            raise UserError(
                f"{key}.name={values['name']}: has {name}={value!r}: expected {text}; "
                "a subclass of realsr.kernels.estimator.KernelEstimator inherits it"
            )
    if estimator.inputs != "source" and getattr(estimator, "list_items", None) is None:
        raise UserError(
            f"{key}.name={values['name']}: has inputs={estimator.inputs!r} and no list_items: "
            "expected inputs='source', or the method list_items(pool)"
        )
    if scale not in estimator.scales:
        *first_scales, last = map(str, estimator.scales)
        others_text = f"s {', '.join(first_scales)} and" if first_scales else ""
        advice = "kernels=spectral, pool=gaussian or " if scale in ALL_SCALES else ""
        raise UserError(
            f"scale={scale}: {key}.name={values['name']} makes kernels for scale{others_text} "
            f"{last}; set {advice}pool=from_mat (kernels of your own)"
        )
    return estimator, read_gates(values.get("gates"), f"{key}.gates", estimator.numbers)
