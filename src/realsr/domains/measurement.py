"""Measurement of one photo: what a camera, or a degradation, leaves in its pixels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from realsr.core.seeding import numpy_generator
from realsr.data.degradations.degradation import OnlineDegradation, to_batch
from realsr.domains.edges import measure_blocking, measure_edges
from realsr.domains.tile_statistics import MIN_NOISE, measure_tiles
from realsr.imaging import ImageError, read_uint8_and_damage, to_uint8
from realsr.imaging.jpeg import Quantisation, read_quantisation

REGION = 64  # pixels; a multiple of JPEG's block


@dataclass(frozen=True)
class PhotoMeasurement:
    """The statistics of a photo's regions by name, and features of some of its patches.

    statistics: see `measure_regions`. features: (n, F); content: (n, C), see `measure_tiles`.
    jpeg: the tables of a JPEG file. damage: of a file decoded in part; the caller reports it.
    """

    name: str
    statistics: dict[str, np.ndarray]
    features: np.ndarray
    content: np.ndarray
    jpeg: Quantisation | None
    damage: str | None

    @property
    def has_noise(self) -> bool:
        """Whether flat tiles were found, with more noise than rounding to 8 bits."""
        return bool((np.nan_to_num(self.statistics["noise_level"]) >= MIN_NOISE).any())

    @property
    def has_detail(self) -> bool:
        """Whether detailed tiles were found."""
        return bool(np.isfinite(self.statistics["detail_spectrum"]).all())


def measure_photo(
    path: Path,
    regions: int,
    patches: int,
    seed: int,
    damaged: str,
    degradation: OnlineDegradation | None,
) -> PhotoMeasurement | ImageError | ValueError:
    """Measure a photo, or return the error if it cannot be read or is too small.

    regions: measured at most, so that a photo's size does not matter. patches: for the classifier,
    at most. seed: of both. degradation: one that reads LR, applied to each region; None: none.
    """
    rng = numpy_generator(seed, "domains", path.name)
    try:
        image, damage = read_uint8_and_damage(path, damaged)
        pixels = choose_regions(image, regions, rng)
    except (ImageError, ValueError) as error:
        return error if path.name in str(error) else ValueError(f"{path}: {error}")
    if degradation is not None:
        pixels = np.stack([_degrade(region, degradation, rng) for region in pixels])
    measurement = measure_regions(pixels, patches, rng)
    try:
        jpeg = read_quantisation(path)
    except OSError:  # Pillow cannot read the header of a damaged file
        jpeg = None
    return PhotoMeasurement(path.stem, *measurement, jpeg, damage)


def _degrade(
    region: np.ndarray, degradation: OnlineDegradation, rng: np.random.Generator
) -> np.ndarray:
    """Degrade a region as a whole image, rounded to 8 bits."""
    arrays = degradation.prepare(region, 0, 1, rng)
    return to_uint8(degradation.apply(to_batch(arrays, region))[0])


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


def measure_regions(
    regions_uint8: np.ndarray, patches: int, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return statistics of regions (n, 64, 64, 3), and up to `patches` patches' features and content.

    The statistics, in levels of 0..255 or as named, with channels R, G, B first:
    - noise_level (3, 8): standard deviation in flat tiles by brightness, in bins of 32 levels.
    - noise_autocorrelation (3, 2, 4): down and to the right, at lags of 1 to 4 pixels.
    - noise_colour_correlation (3,): of R and G, R and B, G and B.
    - flat_spectrum, detail_spectrum (3, 12): power in dB at FREQUENCIES.
    - flat_direction, detail_direction (3, 4): fine detail by direction, in dB of its mean.
    - edge_width (3, 4): see `measure_edges`, in pixels. overshoot (3,): fraction of the contrast.
    - blocking (3, 2): see `measure_blocking`.
    - saturation (3,): fraction of pixels at 255. black_level (3,): 0.1 % quantile.
    """
    statistics, features, content = measure_tiles(regions_uint8)
    levels = statistics["noise_level"]
    noise = [float(np.nanmedian(row)) if np.isfinite(row).any() else MIN_NOISE for row in levels]
    channels = np.ascontiguousarray(np.moveaxis(regions_uint8, 3, 0)).astype(np.float32)
    edges = [measure_edges(x, level, rng) for x, level in zip(channels, noise, strict=True)]
    statistics["edge_width"] = np.stack([widths for widths, _ in edges])
    statistics["overshoot"] = np.array([overshoot for _, overshoot in edges])
    statistics["blocking"] = np.stack([measure_blocking(x) for x in channels])
    pixels = regions_uint8.reshape(-1, 3)
    statistics["saturation"] = (pixels == 255).mean(0)
    statistics["black_level"] = np.quantile(pixels, 0.001, axis=0)
    if len(features) > patches:
        selection = rng.choice(len(features), patches, replace=False)
        features, content = features[selection], content[selection]
    return statistics, features, content
