"""Statistics of a photo's tiles, and which tiles contain only noise."""

import math
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from realsr.imaging import read_uint8_and_damage
from realsr.noise.noise_config import NoiseConfig

TILES = np.dtype(
    [(name, np.int64) for name in ("top", "left")]
    + [(name, np.float64) for name in ("variance", "mean", "clipped", "structure")]
)
CONSTANT = 0.05  # variance of a constant tile; rounding a smooth gradient to 8 bit gives 1/12
# Correlation of the signatures of duplicates. Other frames of a scene reach 0.6; the same frame
# resaved as JPEG 85 has 0.9.
DUPLICATE_CORRELATION = 0.8
# Pixels; longer than the correlations of demosaicing, sharpening, denoising and JPEG blocks.
_DISTANCES = (8, 16)
_GRID = 12


def measure_photo(
    path: Path, config: NoiseConfig, damaged: str, max_variance: float, min_mean: float = -1
) -> tuple[np.ndarray, np.ndarray, str | None]:
    """Return a photo's pixels, all its tiles (n,) of TILES, and its file's damage, None if intact.

    `clipped` and `structure` are measured for tiles that meet both thresholds and are nan for all
    others. Raises ImageError if the photo cannot be read, ValueError if it is smaller than a tile.
    """
    image, damage = read_uint8_and_damage(path, damaged)
    tiles = measure_tiles(image, config)
    for index in np.flatnonzero(mask_tiles(tiles, max_variance, min_mean)):
        pixels = cut(image, tiles[index], config.size)
        tiles["clipped"][index] = mask_clipped(pixels).mean()
        tiles["structure"][index] = measure_structure(remove_shading(pixels))
    return image, tiles, damage


def mask_tiles(tiles: np.ndarray, max_variance: float, min_mean: float) -> np.ndarray:
    """Return a mask of the tiles with variance < max_variance and mean > min_mean."""
    return (tiles["variance"] < max_variance) & (tiles["mean"] > min_mean)


def judge_tiles(tiles: np.ndarray, config: NoiseConfig) -> np.ndarray:
    """Return each tile's reject reason: "constant", "clipped", "structured", or "" for none.

    The thresholds on variance and mean are not checked here.
    """
    reasons = {
        "constant": tiles["variance"] < CONSTANT,
        "clipped": tiles["clipped"] > config.max_clipped,
        "structured": tiles["structure"] > config.max_structure,
    }
    return np.select(list(reasons.values()), list(reasons), "")


def list_drop_reasons(config: NoiseConfig) -> tuple[str, ...]:
    """Return the reasons of `judge_tiles` for which a tile is dropped."""
    if config.released_rule:
        return ()
    reasons = ("constant", "clipped")
    return (*reasons, "structured") if config.drop_structured else reasons


def measure_tiles(image_uint8: np.ndarray, config: NoiseConfig) -> np.ndarray:
    """Return the variance and mean of all tiles of a photo (H, W, 3), row by row: (n,) of TILES.

    They are exact for the gray tile, the luma of ITU-R 601 rounded to 8 bit. `clipped` and
    `structure` are nan. Raises ValueError if the photo is smaller than a tile.
    """
    height, width = image_uint8.shape[:2]
    if min(height, width) < config.size:
        raise ValueError(
            f"{width}x{height} pixels are too few for a noise tile of {config.size}; "
            "use a larger photo or set a smaller noise.size"
        )
    margin = config.size - (not config.released_rule)
    rows, columns = height - margin, width - margin
    # Overlapping tiles share blocks, which are summed once. This takes a tenth of the time for
    # 64x64 tiles at a stride of 16.
    block = math.gcd(config.size, config.stride)
    side, step = config.size // block, config.stride // block
    blocks = sliding_window_view(to_gray(image_uint8), (block, block))[::block, ::block]
    block_sums = (
        blocks.sum((2, 3), dtype=np.int64),
        np.einsum("ijkl,ijkl->ij", blocks, blocks, dtype=np.int64),
    )
    starts = slice(0, -(-rows // block), step), slice(0, -(-columns // block), step)
    sums, squares = (
        sliding_window_view(values, (side, side))[starts].sum((2, 3)).ravel()
        for values in block_sums
    )
    pixels = config.size**2
    tiles = np.empty(sums.size, TILES)
    tiles["clipped"] = tiles["structure"] = np.nan
    positions = np.mgrid[: rows : config.stride, : columns : config.stride]
    tiles["top"], tiles["left"] = positions.reshape(2, -1)
    tiles["variance"] = (squares * pixels - sums**2) / pixels**2
    tiles["mean"] = sums / pixels
    return tiles


def to_gray(image_uint8: np.ndarray) -> np.ndarray:
    """Convert RGB (H, W, 3) to luma (H, W), both 8 bit."""
    return cv2.cvtColor(np.ascontiguousarray(image_uint8), cv2.COLOR_RGB2GRAY)


def cut(image_uint8: np.ndarray, tile: np.void, size: int) -> np.ndarray:
    """Return a tile's pixels, a view (size, size, 3)."""
    return image_uint8[tile["top"] : tile["top"] + size, tile["left"] : tile["left"] + size]


def mask_clipped(image_uint8: np.ndarray) -> np.ndarray:
    """Return a mask (...) of the pixels (..., 3) with a channel at 0 or 255."""
    limits = image_uint8 + np.uint8(1) < 2  # 255 + 1 wraps to 0
    return limits[..., 0] | limits[..., 1] | limits[..., 2]


def remove_shading(tile_uint8: np.ndarray) -> np.ndarray:
    """Return the gray tile (s, s), float32, minus its least-squares polynomial of degree 2.

    The polynomial models smooth shading, such as the gradient of the sky.
    """
    gray = to_gray(tile_uint8).astype(np.float32)
    basis = polynomials(len(gray))
    gray -= gray.mean()
    weights = basis.T @ gray @ basis
    weights[1:, 2] = weights[2, 1] = 0
    return gray - basis @ weights @ basis.T


@cache
def polynomials(size: int) -> np.ndarray:
    """Return an orthonormal basis (size, 3) of the polynomials of degree 2 on a line of pixels."""
    powers = np.vander(np.linspace(-1, 1, size), 3, increasing=True)
    return np.linalg.qr(powers)[0].astype(np.float32)


def measure_structure(residual: np.ndarray) -> float:
    """Return the structure of a tile without shading (s, s): 0 for white noise, near 1 for content.

    It is the largest absolute autocorrelation at shifts of 8 and 16 pixels (at most s/4) along
    rows, columns and both diagonals. Four standard deviations of the autocorrelation of white
    noise, 4/s, are subtracted, and the result is clamped at 0. An edge correlates along its own
    direction, blotches in all directions.
    """
    size, power = len(residual), float(np.square(residual).mean())
    if power < 1e-6:
        return 0.0
    correlations = []
    for shift in {min(distance, size // 4) for distance in _DISTANCES}:
        for a, b in shift_pairs(shift):
            product = float(np.einsum("ij,ij->", residual[a], residual[b]))
            correlations.append(product / residual[a].size)
    return max(0.0, max(map(abs, correlations)) / power - 4 / size)


def shift_pairs(shift: int) -> list[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Return pairs of the rows and columns `shift` apart: down, right, and on both diagonals."""
    first, last, full = slice(None, -shift), slice(shift, None), slice(None)
    return [
        ((last, full), (first, full)),
        ((full, last), (full, first)),
        ((last, last), (first, first)),
        ((last, first), (first, last)),
    ]


def make_signature(residual: np.ndarray) -> np.ndarray:
    """Return the signature of a tile without shading (s, s): a unit vector of at most 144 values.

    The values are means of up to 4x4 pixels on a grid, noise included. They are robust to
    recompression. The scalar product of two signatures is their correlation.
    """
    grid = min(_GRID, len(residual))
    step = len(residual) // grid
    cells = residual[: grid * step, : grid * step].reshape(grid, step, grid, step)
    values = cells[:, : min(step, 4), :, : min(step, 4)].mean((1, 3)).ravel()
    values -= values.mean()
    return (values / max(float(np.linalg.norm(values)), 1e-6)).astype(np.float32)


class DuplicateFilter:
    """Stores tiles by position and signature, so that copies of a photo yield no duplicates."""

    def __init__(self) -> None:
        # By position: an array that grows by doubling, and the number of signatures in it.
        self._signatures: dict[tuple[int, int], tuple[np.ndarray, int]] = {}

    def add(self, position: tuple[int, int], signature: np.ndarray) -> bool:
        """Store a tile; return False if an earlier photo has a near-duplicate at its position."""
        empty = np.empty((1, len(signature)), np.float32)
        signatures, count = self._signatures.get(position, (empty, 0))
        if (signatures[:count] @ signature).max(initial=0) > DUPLICATE_CORRELATION:
            return False
        if count == len(signatures):
            signatures = np.concatenate([signatures, np.empty_like(signatures)])
        signatures[count] = signature
        self._signatures[position] = signatures, count + 1
        return True
