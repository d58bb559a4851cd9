"""JPEG as a camera's files have it: quantisation tables and chroma subsampling."""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from realsr.core.errors import UserError
from realsr.core.files import parse_json, write_bytes
from realsr.imaging.quantisation import read_quantisation

JPEG_TABLES = "jpeg_tables.json"  # in the noise pool's folder
SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")


@dataclass(frozen=True)
class JpegTables:
    """luma, chroma: the quantisation tables, 64 values each, row by row.

    subsampling: one of SUBSAMPLINGS. photos: number of photos with these tables.
    """

    luma: tuple[int, ...]
    chroma: tuple[int, ...]
    subsampling: str
    photos: int = 1


def find_tables(path: Path) -> JpegTables | None:
    """Return the tables of a photo's file; None if it is no colour JPEG.

    A subsampling that libjpeg cannot write through Pillow becomes 4:2:2 if only one direction is
    halved (as in a photo on its side), otherwise 4:2:0. Raises OSError for an unreadable file.
    """
    quantisation = read_quantisation(path)
    if quantisation is None or quantisation.subsampling == "gray":
        return None
    luma, chroma = (_to_baseline(table) for table in quantisation.tables)
    names = {"4:4:4": "4:4:4", "4:2:2": "4:2:2", "4:4:0": "4:2:2"}
    return JpegTables(luma, chroma, names.get(quantisation.subsampling, "4:2:0"))


def _to_baseline(table: Sequence[int]) -> tuple[int, ...]:
    """Return a table in the range of baseline JPEG, 8 bit."""
    return tuple(min(value, 255) for value in table)


def compress_with(tables: JpegTables, image_uint8: np.ndarray) -> np.ndarray:
    """Compress an image (h, w, 3) uint8 by JPEG with these tables and decode it."""
    with io.BytesIO() as file:
        Image.fromarray(image_uint8).save(
            file,
            "JPEG",
            qtables=[list(tables.luma), list(tables.chroma)],
            subsampling=tables.subsampling,
        )
        result = cv2.imdecode(np.frombuffer(file.getbuffer(), np.uint8), cv2.IMREAD_COLOR)
    assert result is not None
    return cv2.cvtColor(result, cv2.COLOR_BGR2RGB)


def write_jpeg_tables(path: Path, tables: Sequence[JpegTables]) -> None:
    """Write tables as JSON, atomically."""
    write_bytes(path, json.dumps([asdict(item) for item in tables]).encode())


def read_jpeg_tables(path: Path) -> list[JpegTables]:
    """Read tables. Raises UserError if the file does not hold any."""
    try:
        tables = []
        for item in parse_json(path.read_bytes()):
            luma, chroma = (tuple(item[name]) for name in ("luma", "chroma"))
            values = [*luma, *chroma]
            if len(luma) != 64 or len(chroma) != 64 or item["subsampling"] not in SUBSAMPLINGS:
                raise ValueError("a table has not 64 values, or its subsampling is unknown")
            if not all(type(value) is int and 1 <= value <= 255 for value in values):
                raise ValueError("a table has values outside 1 to 255")
            if type(item["photos"]) is not int or item["photos"] < 1:
                raise ValueError("its number of photos is not a positive whole number")
            tables.append(JpegTables(luma, chroma, item["subsampling"], item["photos"]))
        if not tables:
            raise ValueError("it is empty")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: no JPEG tables ({error}). Make them with: python -m realsr.collect_noise "
            "+track=<track> online_degradation=noise_jpeg online_degradation.jpeg=source "
            "data.source=FOLDER work_dir=FOLDER"
        ) from error
    return tables
