"""Noise injection, then JPEG with a random block position relative to the crop."""

import io
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np
from PIL import Image

from realsr.core.errors import UserError
from realsr.core.ranges import Range
from realsr.data.cache import Images
from realsr.data.degradations.degradation import KEY, OnlineDegradation
from realsr.data.degradations.noise import Match, MatchedPatches, centre, draw_patch
from realsr.data.pool_files import JpegTables

MCU = 16  # JPEG's blocks with 4:2:0 colour: 16 x 16 pixels
Quality = Annotated[int, Range(1, 100)]


class NoiseJPEG(OnlineDegradation):
    """Adds noise as `Noise` does, rounds to 8 bits, and compresses by JPEG.

    The block grid of a camera's JPEG is independent of the crop. Therefore the compressed region
    consists of whole blocks, and begins 0 to 15 rows above the crop and 0 to 15 columns left of it.

    quality: lowest and highest JPEG quality.
    match: see `Noise`.
    jpeg: `quality`: a random quality, 4:2:0; `source`: the quantisation tables and the chroma
        subsampling of a random source photo.
    patches: the noise patches of the pool; none for JPEG only.
    jpeg_tables: those of the source photos; without any, `source` equals `quality`.
    """

    margin = 2 * MCU - 1  # enough for the region at any offset and any side of the crop
    pool_conditions: ClassVar = {"jpeg_tables": {"jpeg": "source"}}

    def __init__(
        self,
        quality: tuple[Quality, Quality],
        match: Match,
        jpeg: Literal["quality", "source"],
        patches: Images,
        jpeg_tables: Sequence[JpegTables],
    ):
        if quality[0] > quality[1]:
            raise UserError(
                f"{KEY}.quality={list(quality)}: expected [lowest,highest] between 1 and 100"
            )
        self._quality, self._patches = quality, patches
        self._matched = MatchedPatches(patches) if match == "brightness" and len(patches) else None
        self._tables = list(jpeg_tables) if jpeg == "source" else []
        # A photo's number is that of the first sum above it.
        self._photos = np.cumsum([tables.photos for tables in self._tables])

    def prepare(
        self, crop: np.ndarray, margin: int, scale: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Return `lr`, the crop with noise and JPEG; with margin 0, its corner starts the grid."""
        if margin == 0:
            return {"lr": self._compress(crop, rng)}
        size = crop.shape[0] - 2 * margin, crop.shape[1] - 2 * margin
        above, before = int(rng.integers(MCU)), int(rng.integers(MCU))
        top, left = margin - above, margin - before
        height, width = (-(-side // MCU) * MCU + MCU for side in size)
        region = self._compress(crop[top : top + height, left : left + width], rng)
        return {"lr": region[above : above + size[0], before : before + size[1]]}

    def _compress(self, image_uint8: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        image = image_uint8.astype(np.float32) / 255
        if self._matched is not None:
            image += self._matched.draw(image_uint8, rng)
        elif len(self._patches):
            image += centre(draw_patch(self._patches, (image.shape[0], image.shape[1]), rng))
        levels = np.rint(image.clip(0, 1) * 255).astype(np.uint8)
        if self._tables:
            photo = rng.integers(self._photos[-1])
            tables = self._tables[int(np.searchsorted(self._photos, photo, "right"))]
            return compress_with(tables, levels)
        return compress(levels, draw_quality(self._quality, rng))


def compress(image_uint8: np.ndarray, quality: int) -> np.ndarray:
    """Compress an image (h, w, 3) uint8 by JPEG (4:2:0, as is usual in cameras) and decode it."""
    image_bgr = cv2.cvtColor(image_uint8, cv2.COLOR_RGB2BGR)
    return _decode(cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def compress_with(tables: JpegTables, image_uint8: np.ndarray) -> np.ndarray:
    """Compress an image (h, w, 3) uint8 by JPEG with these tables and decode it."""
    with io.BytesIO() as file:
        qtables = [list(tables.luma), list(tables.chroma)]
        image = Image.fromarray(image_uint8)
        image.save(file, "JPEG", qtables=qtables, subsampling=tables.subsampling)
        return _decode(np.frombuffer(file.getvalue(), np.uint8))


def _decode(jpeg: np.ndarray) -> np.ndarray:
    image_bgr = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    assert image_bgr is not None
    return cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB)


def draw_quality(limits: tuple[int, int], rng: np.random.Generator) -> int:
    """Draw a JPEG quality between two limits, both included."""
    return int(rng.integers(limits[0], limits[1] + 1))
