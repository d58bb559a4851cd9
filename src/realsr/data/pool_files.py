"""The files of a pool that online degradations read: patches, noise model, JPEG tables, kernels."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from realsr.core.errors import UserError
from realsr.core.files import parse_json, write_bytes
from realsr.data.cache import DecodedImages, Images
from realsr.imaging.jpeg import read_quantisation
from realsr.imaging.kernel_shapes import load_kernel
from realsr.provenance.sections import STAGE_FILES

NOISE_MODEL = STAGE_FILES["noise_model"]  # in the noise pool's folder
JPEG_TABLES = STAGE_FILES["jpeg_tables"]  # in the noise pool's folder
KERNEL_SUFFIX = ".mat"
SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")
POOL_INPUTS = {
    "patches": "noise",
    "camera_noise": "noise_model",
    "jpeg_tables": "jpeg_tables",
    "kernels": "kernels",
}
"""Argument of an online degradation's constructor -> the stage that makes its files of a pool."""
NOISE_INPUTS = {"patches", "camera_noise"}  # read only with pool.noise
_OPTIONS = {  # of realsr.collect_noise, to make one file
    "camera_noise": "online_degradation=noise_model",
    "jpeg_tables": "online_degradation=noise_jpeg online_degradation.jpeg=source",
}


def name_input(path: Path) -> str:
    """Return the name in POOL_INPUTS that a pool's file belongs to."""
    if path.suffix == KERNEL_SUFFIX:
        return "kernels"
    return {NOISE_MODEL: "camera_noise", JPEG_TABLES: "jpeg_tables"}.get(path.name, "patches")


def list_patches(files: Sequence[Path]) -> list[Path]:
    """Return the noise patches among the files of a pool that an online degradation reads."""
    return [path for path in files if name_input(path) == "patches"]


def read_inputs(files: Sequence[Path], patches: Images | None) -> dict[str, Any]:
    """Read files of a pool; return the values of the arguments in POOL_INPUTS.

    patches: the noise patches; None: those among `files`, which are decoded when they are drawn.
    Raises UserError if a file is invalid.
    """
    paths = {name: [path for path in files if name_input(path) == name] for name in POOL_INPUTS}
    return {
        "patches": DecodedImages(paths["patches"]) if patches is None else patches,
        "camera_noise": next(map(read_noise_model, paths["camera_noise"]), None),
        "jpeg_tables": [table for path in paths["jpeg_tables"] for table in read_jpeg_tables(path)],
        "kernels": [load_kernel(path) for path in paths["kernels"]],
    }


@dataclass(frozen=True)
class CameraNoise:
    """Gaussian noise whose level depends on brightness, with correlated pixels and channels.

    deviations: (3, K), standard deviation per channel at K levels of this channel, evenly spaced
        from 0 to 1; linear between them. Image range 0..1.
    filter: (3, 3, k, k), output and input channel: noise of unit variance is white noise
        correlated with it; k is odd.
    gains: (photos,), factor on the deviations of each photo, e.g. for its ISO speed.
    """

    deviations: np.ndarray
    filter: np.ndarray
    gains: np.ndarray

    def level(self, brightness: np.ndarray) -> np.ndarray:
        """Return the standard deviations (3, …) at a brightness in 0..1, at a gain of 1."""
        nodes = np.linspace(0, 1, self.deviations.shape[1])
        return np.stack([np.interp(brightness, nodes, channel) for channel in self.deviations])


@dataclass(frozen=True)
class JpegTables:
    """luma, chroma: the quantisation tables, 64 values each, row by row.

    subsampling: one of SUBSAMPLINGS. photos: number of photos with these tables.
    """

    luma: tuple[int, ...]
    chroma: tuple[int, ...]
    subsampling: str
    photos: int = 1


def write_noise_model(path: Path, noise: CameraNoise) -> None:
    """Write a noise model as JSON, atomically."""
    values = {name: np.round(array, 8).tolist() for name, array in asdict(noise).items()}
    write_bytes(path, json.dumps(values).encode())


def read_noise_model(path: Path) -> CameraNoise:
    """Read a noise model. Raises UserError if the file is not one."""
    with _refuse_invalid(path, "not a noise model", "camera_noise"):
        content = parse_json(path.read_bytes())
        arrays = [np.array(content[name], np.float32) for name in CameraNoise.__dataclass_fields__]
        noise = CameraNoise(*arrays)
        levels, side, photos = noise.deviations.shape[-1], noise.filter.shape[-1], len(noise.gains)
        if [array.shape for array in arrays] != [(3, levels), (3, 3, side, side), (photos,)]:
            raise ValueError("its arrays have other shapes")
        if side % 2 == 0 or levels < 2 or not photos:
            raise ValueError("its filter is even, or it has no levels or gains")
        if not all(np.isfinite(array).all() for array in arrays) or noise.deviations.min() < 0:
            raise ValueError("it has values that are not finite, or negative deviations")
    return noise


def find_tables(path: Path) -> JpegTables | None:
    """Return the tables of a photo's file, in the range of baseline JPEG; None if it is no colour JPEG.

    A subsampling that libjpeg cannot write through Pillow becomes 4:2:2 if only one direction is
    halved (as in a photo on its side), otherwise 4:2:0. Raises OSError for an unreadable file.
    """
    quantisation = read_quantisation(path)
    if quantisation is None or quantisation.subsampling == "gray":
        return None
    luma, chroma = (tuple(min(value, 255) for value in table) for table in quantisation.tables)
    names = {"4:4:4": "4:4:4", "4:2:2": "4:2:2", "4:4:0": "4:2:2"}
    return JpegTables(luma, chroma, names.get(quantisation.subsampling, "4:2:0"))


def write_jpeg_tables(path: Path, tables: Sequence[JpegTables]) -> None:
    """Write tables as JSON, atomically."""
    write_bytes(path, json.dumps([asdict(item) for item in tables]).encode())


def read_jpeg_tables(path: Path) -> list[JpegTables]:
    """Read tables. Raises UserError if the file does not hold any."""
    with _refuse_invalid(path, "no JPEG tables", "jpeg_tables"):
        tables = []
        for item in parse_json(path.read_bytes()):
            luma, chroma = (tuple(item[name]) for name in ("luma", "chroma"))
            if len(luma) != 64 or len(chroma) != 64 or item["subsampling"] not in SUBSAMPLINGS:
                raise ValueError("a table has not 64 values, or its subsampling is unknown")
            if not all(type(value) is int and 1 <= value <= 255 for value in (*luma, *chroma)):
                raise ValueError("a table has values outside 1 to 255")
            if type(item["photos"]) is not int or item["photos"] < 1:
                raise ValueError("its number of photos is not a positive whole number")
            tables.append(JpegTables(luma, chroma, item["subsampling"], item["photos"]))
        if not tables:
            raise ValueError("it is empty")
    return tables


@contextmanager
def _refuse_invalid(path: Path, verdict: str, name: str) -> Iterator[None]:
    """Turn the errors of reading a file into a UserError with the command that makes the file."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{path}: {verdict} ({error}). {advise_collection(name)}") from error


def advise_collection(name: str) -> str:
    """Return the advice to make a file of a pool, by its name in POOL_INPUTS."""
    return (
        "Make the file with: python -m realsr.collect_noise +track=<track> "
        f"{_OPTIONS[name]} data.source=FOLDER work_dir=FOLDER"
    )
