"""Regions of a photo on which it is measured, so that a photo's size does not matter."""

import numpy as np

REGION = 64  # pixels; a multiple of JPEG's block
TILE = 32


def choose_regions(image_uint8: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return up to `count` regions (n, 64, 64, 3) of a photo (H, W, 3), at multiples of 64 pixels.

    They are drawn without repetition, evenly over the photo.
    Raises ValueError if the photo is smaller than a region.
    """
    height, width = image_uint8.shape[:2]
    rows, columns = height // REGION, width // REGION
    if not rows * columns:
        raise ValueError(
            f"{width}x{height} pixels are too few to be measured; expected {REGION}x{REGION} or more"
        )
    selection = np.arange(rows * columns)
    if len(selection) > count:  # one of each of `count` equal parts of the rows of regions
        edges = np.linspace(0, len(selection), count + 1)
        selection = (edges[:-1] + rng.random(count) * np.diff(edges)).astype(int)
    regions = image_uint8[: rows * REGION, : columns * REGION]
    regions = regions.reshape(rows, REGION, columns, REGION, 3).swapaxes(1, 2)
    return regions[selection // columns, selection % columns]


def cut_tiles(regions: np.ndarray) -> np.ndarray:
    """Return the tiles (4n, 32, 32, 3) of regions (n, 64, 64, 3)."""
    count, side = len(regions), REGION // TILE
    tiles = regions.reshape(count, side, TILE, side, TILE, 3).swapaxes(2, 3)
    return tiles.reshape(-1, TILE, TILE, 3)
