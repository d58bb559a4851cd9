"""What a kernel estimator is: a component that makes kernels of photos, or of items that it lists itself.

Its file is `kernels/<name>.py`, its values `conf/kernels/<name>.yaml`. The stage (`kernels/estimation.py`) adds
resuming, shards, gates and files.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import ExifTags, Image
from scipy import ndimage

from realsr.imaging import read_uint8_and_damage
from realsr.imaging.kernel_shapes import Kernel, aligned_centre, filter_small, moments

HEALTH = ("sum", "negative", "centre_offset", "border", "spread_long", "spread_short", "entropy")

Advance = Callable[[int], None]  # called with the number of steps done since the last call


class NoKernelError(ValueError):
    """A photo that has no kernel, which is no error of the stage; the message says why."""


@dataclass(frozen=True)
class PhotoTags:
    """A photo's EXIF tags, None where missing. Focal length in mm; width and height of the samples in the file."""

    camera: str | None
    lens: str | None
    focal_length: float | None
    orientation: int
    width: int
    height: int


@dataclass(frozen=True)
class SourcePhoto:
    """An input of an estimator: its name in the pool, its file, and whether to `refuse` or `accept` a damaged file."""

    name: str
    path: Path
    damaged: str = "refuse"

    def read(self) -> tuple[np.ndarray, str | None]:
        """Return the photo (H, W, 3) uint8, upright, and what is wrong with its file. Raises ImageError."""
        return read_uint8_and_damage(self.path, self.damaged)

    @cached_property
    def tags(self) -> PhotoTags:
        """The photo's tags, read without its pixels. Raises OSError for a file that Pillow cannot open."""
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
    """What an estimator takes from one photo: numbers and arrays by name; damage: what is wrong with its file."""

    values: Mapping[str, np.ndarray]
    damage: str | None = None


@dataclass(frozen=True)
class KernelEstimate:
    """A photo's kernels by scale, one or several draws (float64, sum 1, aligned); numbers for gates; further facts."""

    kernels: Mapping[int, Sequence[Kernel]]
    numbers: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


Batch = Mapping[str, Observation | Exception]


class KernelEstimator(Protocol):
    """An estimator of kernels. The constructor takes the values of its YAML file.

    The stage supplies `scale`, `workers` and `device_index` to a constructor that has them. Results depend neither on
    the order of the photos nor on how many are observed at a time: chance comes from the seed and a photo's name.
    A class that inherits from this one states only the attributes that differ.

    inputs: `source` if `observe` takes source photos; else the estimator has `list_items`.
    joint: whether `estimate` needs the observations of all photos at once, which are then stored.
    numbers: the names of all numbers that an estimate may report, which gates are for.
    runtime_only: arguments that do not change the result, such as a device; they are not recorded.
    scales: the scales that it makes kernels for.
    steps, unit: how many steps of work an item is, for the display of progress, and their name ("" for items).
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

        In place of an observation: NoKernelError where the photo shows nothing of a kernel, another exception where
        it cannot be read.
        """

    def estimate(
        self, observations: Mapping[str, Observation], seed: int
    ) -> Mapping[str, KernelEstimate | NoKernelError]:
        """Return the kernels by the observations' names: of all photos if the estimator is joint, else of some."""


def check_room(image_uint8: np.ndarray, needed: int) -> None:
    """Raise ValueError where a photo (H, W, 3) has fewer than `needed` pixels on a side."""
    height, width = image_uint8.shape[:2]
    if min(height, width) < needed:
        raise ValueError(
            f"{width}x{height} pixels are too few for kernel estimation, which needs {needed} on each side: "
            "take a larger photo"
        )


def measure_health(raw: Kernel, final: Kernel) -> dict[str, float]:
    """Measure a kernel, `raw` as estimated, `final` as saved. Raises ValueError where raw has no positive sum.

    sum: of raw, which is not normalised; near 1, and near 0 if training failed.
    negative: share of |raw| that is negative, 0..1.
    centre_offset: pixels from raw's centre of mass (small values removed) to where an aligned kernel has it.
    border: share of raw (small values removed) in its outermost ring, 0..1; large where 13x13 is too small for it.
    spread_long, spread_short: standard deviations of final along its axes, in pixels.
    entropy: of final, in bits; 0 for a single pixel, 7.4 for a flat 13x13.
    """
    magnitude, filtered = np.abs(raw), filter_small(raw)
    offset = np.array(ndimage.center_of_mass(filtered)) - [
        aligned_centre(size, scale=2) for size in raw.shape
    ]
    short, long = np.linalg.eigvalsh(moments(np.clip(final, 0, None))[1])
    mass = final[final > 0] / final[final > 0].sum()
    return {
        "sum": float(raw.sum()),
        "negative": float(magnitude[raw < 0].sum() / magnitude.sum()),
        "centre_offset": float(np.hypot(*offset)),
        "border": float(1 - filtered[1:-1, 1:-1].sum()),
        "spread_long": math.sqrt(max(long, 0.0)),
        "spread_short": math.sqrt(max(short, 0.0)),
        "entropy": float(-(mass * np.log2(mass)).sum()),
    }
