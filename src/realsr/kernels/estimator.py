"""What a kernel estimator is: a component that makes kernels of photos, or of what it names itself.

Its file is `kernels/<name>.py`, its values `conf/kernels/<name>.yaml`. The stage (`kernels/estimation.py`) gives it
resuming, shards, gates and files.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import ExifTags, Image

from realsr.imaging import read_uint8_and_damage
from realsr.imaging.kernel_shapes import Kernel

Advance = Callable[[int], None]  # is told how many of an estimator's steps have been done since the last call


class NoKernelError(ValueError):
    """A photo that has no kernel, which is no error of the stage; the message says why."""


@dataclass(frozen=True)
class PhotoTags:
    """What a photo's EXIF tells of camera and lens, None where it does not; focal length in mm, size in pixels.

    width, height: of the samples as the file holds them. orientation: 1..8 as the tag in EXIF, 1 where none is told.
    """

    camera: str | None
    lens: str | None
    focal_length: float | None
    orientation: int
    width: int
    height: int


@dataclass(frozen=True)
class SourcePhoto:
    """An input of an estimator: its name in the pool, and its file.

    damaged: `refuse`, or `accept` to use what can be decoded of a damaged photo.
    """

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
                camera=_text(exif.get(ExifTags.Base.Model)),
                lens=_text(inner.get(ExifTags.Base.LensModel)),
                focal_length=float(focal) if focal else None,
                orientation=orientation if orientation in range(1, 9) else 1,
                width=image.width,
                height=image.height,
            )


def _text(value: object) -> str | None:
    return str(value).strip("\0 ") or None if value is not None else None


@dataclass(frozen=True)
class Observation:
    """What an estimator takes from one photo: numbers and arrays by name; damage: what is wrong with its file."""

    values: Mapping[str, np.ndarray]
    damage: str | None = None


@dataclass(frozen=True)
class KernelEstimate:
    """A photo's kernels by scale, one or several draws (float64, sum 1, aligned), and numbers that tell how sound.

    facts: what else its item in the manifest tells.
    """

    kernels: Mapping[int, Sequence[Kernel]]
    numbers: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


Batch = Mapping[str, Observation | Exception]


class KernelEstimator(Protocol):
    """An estimator of kernels. The constructor takes the values of its YAML file.

    The stage supplies `scale`, `workers` and `device_index` to a constructor that has them. Results depend neither on
    the order of the photos nor on how many are observed at a time: chance comes from the seed and a photo's name.

    inputs: what `observe` is given: `source` for the source photos; else the estimator has `list_items`.
    joint: whether `estimate` needs the observations of all photos at once, which are then stored.
    numbers: the names of all numbers that an estimate may report, which gates are for.
    runtime_only: arguments that do not change the result, such as a device; they are not recorded.
    scales: the scales that it makes kernels for.
    steps, unit: how many steps of work an item is, for the display of progress, and their name ("" for items).
    """

    inputs: str
    joint: bool
    numbers: Sequence[str]
    runtime_only: frozenset[str]
    scales: Sequence[int]
    steps: int
    unit: str

    def observe(self, photos: Sequence[SourcePhoto], seed: int, advance: Advance) -> Iterator[Batch]:
        """Yield what is taken from photos, by name, as many at a time as are to be kept at a time.

        An exception in an observation's place says why there is none: NoKernelError where the photo shows nothing of
        a kernel, another one where it cannot be read.
        """
        ...

    def estimate(
        self, observations: Mapping[str, Observation], seed: int
    ) -> Mapping[str, KernelEstimate | NoKernelError]:
        """Return the kernels by the observations' names: of all photos if the estimator is joint, else of some."""
        ...
