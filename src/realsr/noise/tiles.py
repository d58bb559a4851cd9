"""Tiles of a photo: what is measured of them, and which hold noise and nothing else."""

import math
from functools import cache

import cv2
import numpy as np

from realsr.noise.noise_config import NoiseConfig

TILES = np.dtype([("top", np.int64), ("left", np.int64), ("variance", np.float64), ("mean", np.float64)])
CONSTANT = 0.05  # variance; the rounding of a smooth gradient to 8 bit alone has 1/12
SAME = 0.8  # correlation of signatures; other frames of one scene reach 0.6, one frame saved again as JPEG 85 has 0.9
_DISTANCES = (8, 16)  # pixels: beyond what demosaicing, sharpening, denoising and JPEG's blocks correlate
_GRID = 12


def measure_tiles(image_uint8: np.ndarray, config: NoiseConfig) -> np.ndarray:
    """Measure all tiles of a photo (H, W, 3), row by row: a structured array (n,) of TILES.

    Gray is the luma of ITU-R 601 rounded to 8 bit; its sums are exact. Raises ValueError where the photo is smaller
    than a tile.
    """
    height, width = image_uint8.shape[:2]
    if min(height, width) < config.size:
        raise ValueError(
            f"{width}x{height} pixels are too few for a noise tile of {config.size}: take a larger photo or a smaller "
            "noise.size"
        )
    tops, lefts = (_starts(length, config) for length in (height, width))
    sums, squares = (
        _sum_tiles(sums, config)[: len(tops), : len(lefts)].ravel()
        for sums in _sum_blocks(to_gray(image_uint8), config)
    )
    pixels = config.size**2
    tiles = np.empty(sums.size, TILES)
    tiles["top"], tiles["left"] = (axis.ravel() for axis in np.meshgrid(tops, lefts, indexing="ij"))
    tiles["variance"] = (squares * pixels - sums**2) / pixels**2
    tiles["mean"] = sums / pixels
    return tiles


def to_gray(image_uint8: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> (H, W), both 8 bit."""
    return cv2.cvtColor(np.ascontiguousarray(image_uint8), cv2.COLOR_RGB2GRAY)


def _starts(length: int, config: NoiseConfig) -> range:
    last = length - config.size
    return range(0, last if config.released_rule else last + 1, config.stride)


def _sum_blocks(gray: np.ndarray, config: NoiseConfig) -> tuple[np.ndarray, np.ndarray]:
    """Sum the values and their squares in the largest blocks that all tiles consist of: (rows, columns), int64."""
    block = math.gcd(config.size, config.stride)
    rows, columns = (length // block for length in gray.shape)
    sums, squares = np.empty((2, rows, columns), np.int64)
    for row in range(rows):  # band by band, so that what is computed in between stays in the processor's cache
        band = gray[row * block : (row + 1) * block, : columns * block].reshape(block, columns, block)
        sums[row] = band.sum(2, dtype=np.uint32).sum(0)
        squares[row] = np.square(band, dtype=np.uint16).sum(2, dtype=np.uint32).sum(0)
    return sums, squares


def _sum_tiles(blocks: np.ndarray, config: NoiseConfig) -> np.ndarray:
    """Sum the blocks of each tile, by an integral image of theirs."""
    block = math.gcd(config.size, config.stride)
    side, step = config.size // block, config.stride // block
    sums = np.pad(blocks.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    corners = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return corners[::step, ::step]


def select_tiles(tiles: np.ndarray, config: NoiseConfig) -> np.ndarray:
    """Return the tiles whose variance is below the one threshold and whose mean is above the other."""
    return tiles[(tiles["variance"] < config.max_variance) & (tiles["mean"] > config.min_mean)]


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
    return np.linalg.qr(np.vander(np.linspace(-1, 1, size), 3, increasing=True))[0].astype(np.float32)


def measure_structure(residual: np.ndarray) -> float:
    """Return how far a tile without its shading (s, s) resembles itself some pixels away: 0 noise, 1 content.

    The largest absolute autocorrelation at shifts of 8 and 16 pixels (a quarter of a small tile) along rows, columns
    and both diagonals, less four standard deviations of white noise's, 4/s, but not below 0. An edge in one direction
    has it along that direction, blotches in all.
    """
    size, power = len(residual), float(np.square(residual).mean())
    if power < 1e-6:
        return 0.0
    found = []
    for shift in {min(distance, size // 4) for distance in _DISTANCES}:
        first, last = slice(None, -shift), slice(shift, None)
        all_ = slice(None)
        for a, b in (((last, all_), (first, all_)), ((all_, last), (all_, first))):
            found.append(_mean_product(residual[a], residual[b]))
        found.append(_mean_product(residual[last, last], residual[first, first]))
        found.append(_mean_product(residual[last, first], residual[first, last]))
    return max(0.0, max(map(abs, found)) / power - 4 / size)


def _mean_product(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.einsum("ij,ij->", a, b)) / a.size


def make_signature(residual: np.ndarray) -> np.ndarray:
    """Return what tells a tile without its shading (s, s) from others, noise and all: a unit vector of 144 values.

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
        self._signatures: dict[tuple[int, int], np.ndarray] = {}
        self._counts: dict[tuple[int, int], int] = {}

    def add(self, place: tuple[int, int], signature: np.ndarray) -> bool:
        """Remember the tile and return True, unless one nearly the same was at this place of an earlier photo."""
        known, count = self._signatures.get(place), self._counts.get(place, 0)
        if known is None:
            known = np.empty((1, len(signature)), np.float32)
        elif (known[:count] @ signature).max() > SAME:
            return False
        elif count == len(known):
            known = np.concatenate([known, np.empty_like(known)])
        known[count] = signature
        self._signatures[place], self._counts[place] = known, count + 1
        return True
