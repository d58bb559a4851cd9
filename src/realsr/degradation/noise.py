"""The stage that collects noise patches: flat tiles of source photos, where all that varies is noise."""

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from realsr.degradation.photos import list_photos
from realsr.errors import UserError
from realsr.imaging import ImageError, read_uint8, write_uint8
from realsr.manifest import name_inputs, open_stage, refuse_foreign
from realsr.progress import Progress

STAGE = "noise"

logger = logging.getLogger("realsr")


@dataclass
class NoiseConfig:
    """Which tiles are noise patches. Variance and mean are those of the gray tile, in 8-bit units."""

    size: int = 256
    stride: int = 256
    max_variance: float = 20.0
    min_mean: float = 0.0
    released_rule: bool = False  # forget the last exact tile of a row and column, as the published code does


@dataclass(frozen=True)
class Tile:
    """A tile of a photo: where it is, and the variance and mean of its gray values (0..255)."""

    top: int
    left: int
    variance: float
    mean: float


def measure_tiles(image_uint8: np.ndarray, config: NoiseConfig) -> list[Tile]:
    """Measure all tiles of a photo (H, W, 3), row by row. Gray is the luma of ITU-R 601 rounded to 8 bit.

    Raises ValueError where the photo is smaller than a tile.
    """
    height, width = image_uint8.shape[:2]
    if min(height, width) < config.size:
        raise ValueError(
            f"{width}x{height} pixels are too few for a noise tile of {config.size}: take a larger photo or a smaller "
            "noise.size"
        )
    gray = cv2.cvtColor(image_uint8, cv2.COLOR_RGB2GRAY)
    return [
        Tile(top, left, float(tile.var()), float(tile.mean()))
        for top in _starts(height, config)
        for left in _starts(width, config)
        for tile in [gray[top : top + config.size, left : left + config.size]]
    ]


def _starts(length: int, config: NoiseConfig) -> range:
    last = length - config.size
    return range(0, last if config.released_rule else last + 1, config.stride)


def select_tiles(tiles: list[Tile], config: NoiseConfig) -> list[Tile]:
    """Return the tiles whose variance is below the one threshold and whose mean is above the other."""
    return [tile for tile in tiles if tile.variance < config.max_variance and tile.mean > config.min_mean]


def collect_noise(source: Path | None, pool: Path, config: NoiseConfig, overwrite: bool = False) -> None:
    """Write the noise patches of a folder of source photos to `pool/noise/<photo>_000.png` and on.

    Photos that are done already are left as they are. Raises UserError at the end if a photo cannot be read or is
    too small (all others are done then), or if no tile of any photo is below the thresholds.
    """
    photos = list_photos(source, "source", pool)
    refuse_foreign(pool, STAGE, "noise/**/*.png")
    inputs = name_inputs("source", list(photos.values()))
    measured: list[Tile] = []
    with open_stage(pool, STAGE, config=asdict(config), seed=None, inputs=inputs, overwrite=overwrite) as record:
        # As long as nothing was found all tiles are measured again, so that the message can tell of them all.
        found = any(item["files"] for item in record.items.values())
        missing = [name for name in photos if not (found and record.is_done(name))]
        with Progress(STAGE, total=len(photos), done=len(photos) - len(missing)) as progress:
            for name in missing:
                path = photos[name]
                progress.advance()
                try:
                    image = read_uint8(path)
                    tiles = measure_tiles(image, config)
                except (ImageError, ValueError) as error:
                    record.fail(name, f"source/{path.name}", path, error)
                    continue
                kept = select_tiles(tiles, config)
                files = list(_write(image, kept, name, pool / "noise", config.size))
                record.add(name, files, source=path.name, tiles=[asdict(tile) for tile in kept])
                measured += tiles
        if record.items and not any(item["files"] for item in record.items.values()):
            record.forget()
            raise UserError(_nothing_found(measured, config) + record.list_failures())
        counts = [len(item["files"]) for item in record.items.values()]
        logger.info("noise: %d patches from %d of %d photos", sum(counts), sum(map(bool, counts)), len(photos))
        record.finish()


def _write(image: np.ndarray, tiles: list[Tile], name: str, folder: Path, size: int) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    for index, tile in enumerate(tiles):
        path = folder / f"{name}_{index:03d}.png"
        write_uint8(path, image[tile.top : tile.top + size, tile.left : tile.left + size])
        yield path


def _nothing_found(tiles: list[Tile], config: NoiseConfig, wanted: int = 100) -> str:
    given = f"noise: none of {len(tiles)} tiles of {config.size}x{config.size} has a variance below "
    given += f"noise.max_variance={config.max_variance:g} and a mean above noise.min_mean={config.min_mean:g}.\n"
    variances = sorted(tile.variance for tile in tiles if tile.mean > config.min_mean)
    if not variances:
        brightest = max((tile.mean for tile in tiles), default=0)
        return given + f"No tile is bright enough: the brightest has a mean of {brightest:.1f}. Lower noise.min_mean."
    percentiles = np.percentile(variances, [0, 1, 5, 25, 50])
    names = ("lowest", "1 %", "5 %", "25 %", "median")
    listing = ", ".join(f"{name} {value:.1f}" for name, value in zip(names, percentiles, strict=True))
    # The threshold is exclusive, so it lies just above the variance of the last tile wanted.
    threshold = np.ceil(variances[min(wanted, len(variances)) - 1] * 10 + 1) / 10
    enough = sum(variance < threshold for variance in variances)
    return (
        given + f"Variances of the {len(variances)} tiles that are bright enough: {listing}.\n"
        f"noise.max_variance={threshold:.1f} would yield {enough} patches; look at them, since a threshold far above "
        "20 lets in content. Smaller tiles (noise.size, noise.stride) or other photos find more that is flat."
    )
