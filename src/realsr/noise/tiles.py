"""Tiles of a photo: what is measured of them, and which hold noise and nothing else."""

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
CONSTANT = 0.05  # variance; the rounding of a smooth gradient to 8 bit alone has 1/12
SAME = 0.8  # correlation of signatures; other frames of one scene reach 0.6, one frame saved again as JPEG 85 has 0.9
_DISTANCES = (
    8,
    16,
)  # pixels: beyond what demosaicing, sharpening, denoising and JPEG's blocks correlate
_GRID = 12


def measure_photo(
    path: Path, config: NoiseConfig, damaged: str, max_variance: float, min_mean: float = -1
) -> tuple[np.ndarray, np.ndarray, str | None]:
    """Return a photo's pixels, all its tiles (n,) of TILES, and what is wrong with its file, None for nothing.

    `clipped` and `structure` are measured for tiles between the thresholds and are nan for all others. Raises
    ImageError where the photo cannot be read, ValueError where it is smaller than a tile.
    """
    image, damage = read_uint8_and_damage(path, damaged)
    tiles = measure_tiles(image, config)
    for index in np.flatnonzero(mask_tiles(tiles, max_variance, min_mean)):
        pixels = cut(image, tiles[index], config.size)
        tiles["clipped"][index] = measure_clipped(pixels)
        tiles["structure"][index] = measure_structure(remove_shading(pixels))
    return image, tiles, damage


def mask_tiles(tiles: np.ndarray, max_variance: float, min_mean: float) -> np.ndarray:
    """Return which tiles have a variance below the one threshold and a mean above the other."""
    return (tiles["variance"] < max_variance) & (tiles["mean"] > min_mean)


def judge_tiles(tiles: np.ndarray, config: NoiseConfig) -> np.ndarray:
    """Return the reject reason of each tile, apart from its variance: "constant", "clipped", "structured", or ""."""
    reasons = [tiles["variance"] < CONSTANT, tiles["clipped"] > config.max_clipped]
    reasons.append(tiles["structure"] > config.max_structure)
    return np.select(reasons, ["constant", "clipped", "structured"], "")


def list_drop_reasons(config: NoiseConfig) -> tuple[str, ...]:
    """Return the reasons of `judge_tiles` for which a tile is no noise patch."""
    if config.released_rule:
        return ()
    return (
        ("constant", "clipped", "structured") if config.drop_structured else ("constant", "clipped")
    )


def measure_tiles(image_uint8: np.ndarray, config: NoiseConfig) -> np.ndarray:
    """Measure all tiles of a photo (H, W, 3), row by row: (n,) of TILES, without `clipped` and `structure` (nan).

    Gray is the luma of ITU-R 601 rounded to 8 bit; its sums are exact. Raises ValueError where the photo is smaller
    than a tile.
    """
    height, width = image_uint8.shape[:2]
    if min(height, width) < config.size:
        raise ValueError(
            f"{width}x{height} pixels are too few for a noise tile of {config.size}: take a larger photo or a smaller "
            "noise.size"
        )
    rows, columns = (
        length - config.size + (not config.released_rule) for length in (height, width)
    )
    # Tiles that overlap share blocks, which are summed once: a tenth of the time for tiles of 64 every 16 pixels.
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
    tiles["top"], tiles["left"] = np.mgrid[
        : rows : config.stride, : columns : config.stride
    ].reshape(2, -1)
    tiles["variance"] = (squares * pixels - sums**2) / pixels**2
    tiles["mean"] = sums / pixels
    return tiles


def to_gray(image_uint8: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> (H, W), both 8 bit."""
    return cv2.cvtColor(np.ascontiguousarray(image_uint8), cv2.COLOR_RGB2GRAY)


def cut(image_uint8: np.ndarray, tile: np.void, size: int) -> np.ndarray:
    """Return a tile's pixels, a view (size, size, 3)."""
    return image_uint8[tile["top"] : tile["top"] + size, tile["left"] : tile["left"] + size]


def measure_clipped(tile_uint8: np.ndarray) -> float:
    """Return the part of pixels (h, w, 3) that have a channel at 0 or 255, where noise is cut off."""
    ends = tile_uint8 + np.uint8(1) < 2  # 255 + 1 is 0
    return np.count_nonzero(ends[..., 0] | ends[..., 1] | ends[..., 2]) / ends[..., 0].size


def remove_shading(tile_uint8: np.ndarray) -> np.ndarray:
    """Return the gray tile (s, s), float32, less its least-squares polynomial of degree 2: the sky's gradient."""
    gray = to_gray(tile_uint8).astype(np.float32)
    basis = _polynomials(len(gray))
    gray -= gray.mean()
    weights = basis.T @ gray @ basis
    weights[1:, 2] = weights[2, 1] = 0
    return gray - basis @ weights @ basis.T


@cache
def _polynomials(size: int) -> np.ndarray:
    return np.linalg.qr(np.vander(np.linspace(-1, 1, size), 3, increasing=True))[0].astype(
        np.float32
    )


def measure_structure(residual: np.ndarray) -> float:
    """Return how far a tile without its shading (s, s) resembles itself some pixels away: 0 noise, 1 content.

    The largest absolute autocorrelation at shifts of 8 and 16 pixels (a quarter of a small tile) along rows, columns
    and both diagonals, less four standard deviations of white noise's, 4/s, but not below 0. An edge in one direction
    has it along that direction, blotches in all.
    """
    size, power = len(residual), float(np.square(residual).mean())
    if power < 1e-6:
        return 0.0
    correlations = []
    for shift in {min(distance, size // 4) for distance in _DISTANCES}:
        first, last, full = slice(None, -shift), slice(shift, None), slice(None)
        rows, columns = ((last, full), (first, full)), ((full, last), (full, first))
        diagonals = ((last, last), (first, first)), ((last, first), (first, last))
        for a, b in (rows, columns, *diagonals):
            correlations.append(
                float(np.einsum("ij,ij->", residual[a], residual[b])) / residual[a].size
            )
    return max(0.0, max(map(abs, correlations)) / power - 4 / size)


def make_signature(residual: np.ndarray) -> np.ndarray:
    """Return a signature of a tile without its shading (s, s), noise included: a unit vector of 144 values.

    They are means of up to 4x4 pixels on a grid, which survive being saved again; its products are correlations.
    """
    grid = min(_GRID, len(residual))
    step = len(residual) // grid
    cells = residual[: grid * step, : grid * step].reshape(grid, step, grid, step)
    values = cells[:, : min(step, 4), :, : min(step, 4)].mean((1, 3)).ravel()
    values -= values.mean()
    return (values / max(float(np.linalg.norm(values)), 1e-6)).astype(np.float32)


class SeenTiles:
    """Remembers tiles by place and signature, so that copies of a photo give no patch twice."""

    def __init__(self) -> None:
        self._signatures: dict[
            tuple[int, int], tuple[np.ndarray, int]
        ] = {}  # with room to grow, and their number

    def add(self, place: tuple[int, int], signature: np.ndarray) -> bool:
        """Remember the tile and return True, unless one nearly the same was at this place of an earlier photo."""
        signatures, count = self._signatures.get(
            place, (np.empty((1, len(signature)), np.float32), 0)
        )
        if (signatures[:count] @ signature).max(initial=0) > SAME:
            return False
        if count == len(signatures):
            signatures = np.concatenate([signatures, np.empty_like(signatures)])
        signatures[count] = signature
        self._signatures[place] = signatures, count + 1
        return True
