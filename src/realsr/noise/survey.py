"""Statistics of all tiles of a folder of photos, and thresholds that select noise patches."""

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from realsr.core.errors import UserError
from realsr.core.ranges import check_ranges
from realsr.core.workers import map_with_progress
from realsr.data.folders import list_photos
from realsr.imaging import ImageError, log_damage, read_uint8_and_damage
from realsr.noise.noise_config import NOISE_MODEL, NoiseConfig
from realsr.noise.noise_fit import BLOCKS, LevelFit, fit_levels, measure_blocks
from realsr.noise.tiles import TILES, cut, judge_tiles, list_drop_reasons, mask_tiles, measure_photo
from realsr.provenance.manifest import name_inputs, open_stage, refuse_foreign

logger = logging.getLogger("realsr")

STAGE = "noise_survey"
SURVEY_TILES = np.dtype([("photo", np.int64), *TILES.descr])
LIMIT_FACTOR = 10  # the highest threshold is this multiple of max_variance
SMALL_TILE = 64  # pixels; smaller tiles hold little of the correlation of noise
PATCH_COUNTS = (50, 100, 200, 500, 1000)
_STEPS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)


@dataclass(frozen=True)
class Thresholds:
    """Thresholds and the number of good tiles that they yield."""

    max_variance: float
    min_mean: float
    patches: int


@dataclass(frozen=True)
class Survey:
    """All tiles of a folder's photos.

    source: the folder. photos: names of its files.
    tiles: (n,) of SURVEY_TILES; `photo` is an index into `photos`; `clipped` and `structure` are
    nan for tiles whose variance is not below `limit`.
    limit: the highest threshold that is considered.
    failures: file name -> reason why the photo cannot be measured.
    damaged: `accept` or `refuse` damaged photos, see `read_uint8`.
    blocks: flat blocks of all photos, (n,) of BLOCKS, their variance divided by their photo's gain.
    level: noise level by brightness, fitted to them; None if there are too few.
    """

    source: Path
    photos: list[str]
    tiles: np.ndarray
    config: NoiseConfig
    limit: float
    failures: dict[str, str]
    damaged: str
    blocks: np.ndarray
    level: LevelFit | None

    def __repr__(self) -> str:
        return (
            f"Survey({len(self.photos)} photos of {self.source}, {len(self.failures)} failed; "
            f"{len(self.tiles)} tiles, {self.selection().sum()} to collect)"
        )

    def judge(self) -> np.ndarray:
        """Return the reject reason of each tile, see `judge_tiles`."""
        return judge_tiles(self.tiles, self.config)

    def passes(self) -> np.ndarray:
        """Return a mask of the tiles that meet the config's thresholds, with any reject reason."""
        return mask_tiles(self.tiles, self.config.max_variance, self.config.min_mean)

    def selection(self) -> np.ndarray:
        """Return a mask of the tiles that realsr.collect_noise keeps, including near-duplicates."""
        return self.passes() & ~np.isin(self.judge(), list_drop_reasons(self.config))

    def yields(self, max_variance: float) -> dict[str, int]:
        """Count the tiles below a variance and above min_mean by reject reason; "" means good."""
        reasons = self.judge()[mask_tiles(self.tiles, max_variance, self.config.min_mean)]
        values, counts = np.unique(reasons, return_counts=True)
        return dict(zip(values.tolist(), counts.tolist(), strict=True))

    def suggest(self, min_patches: int, lowest: float = 0.0) -> Thresholds:
        """Return the lowest thresholds that yield `min_patches` good tiles.

        Candidates for the variance are `lowest` and round numbers above it. The mean must exceed
        three standard deviations of the noise, so that the noise is not clipped at 0. A higher
        candidate is valid only if it adds at least as many good as structured tiles, because the
        rest is content. If no valid candidate yields `min_patches`, the thresholds are the lowest
        that yield nine tenths of the largest number of a valid candidate.
        """
        reasons = self.judge()
        candidates: list[Thresholds] = []
        first = 0, 0
        for variance in _round_numbers(lowest, self.limit):
            mean = max(self.config.min_mean, math.ceil(3 * math.sqrt(variance)))
            mask = mask_tiles(self.tiles, variance, mean)
            good, content = (int((mask & (reasons == r)).sum()) for r in ("", "structured"))
            if not candidates:
                first = (good, content) if lowest else first
            elif good - first[0] < content - first[1]:
                continue
            candidates.append(Thresholds(variance, float(mean), good))
        most = max(candidate.patches for candidate in candidates)
        target = min(min_patches, math.ceil(0.9 * most))
        return next(candidate for candidate in candidates if candidate.patches >= target)


def _round_numbers(lowest: float, highest: float) -> list[float]:
    numbers = (step * 10.0**power for power in range(-4, 5) for step in _STEPS)
    return [lowest] * (lowest > 0) + [round(n, 6) for n in numbers if lowest < n <= highest]


def survey_noise(
    source: Path | None, pool: Path, config: NoiseConfig, workers: int | None, damaged: str
) -> Survey:
    """Measure all tiles of a folder of source photos.

    Raises UserError if no photo can be measured.
    """
    check_ranges(config, "noise")
    photos = list(list_photos(source, "source", pool).values())
    limit = LIMIT_FACTOR * config.max_variance
    measure = partial(_survey_photo, config=config, damaged=damaged, limit=limit)
    tables, failures = [np.empty(0, SURVEY_TILES)], {}
    blocks, owners = [np.empty(0, BLOCKS)], [np.empty(0, int)]
    for index, (path, result) in enumerate(
        map_with_progress("noise survey", measure, photos, workers)
    ):
        if isinstance(result, Exception):
            text = str(result)
            failures[path.name] = text if path.name in text else f"{path}: {text}"
            continue
        tiles, photo_blocks, damage = result
        log_damage(path, damage)
        tiles["photo"] = index
        tables.append(tiles)
        blocks.append(photo_blocks)
        owners.append(np.full(len(photo_blocks), index))
    if len(failures) == len(photos):
        reasons = "".join(f"\n  {reason}" for reason in failures.values())
        raise UserError(f"noise survey: no photo can be measured:{reasons}")
    owner, flat = np.concatenate(owners), np.concatenate(blocks)
    level = fit_levels(flat, owner, len(photos))
    flat = flat[level.flat] if level else flat[:0]
    if level:
        flat["variance"] /= level.gains[owner[level.flat], None] ** 2
    names, table = [path.name for path in photos], np.concatenate(tables)
    return Survey(photos[0].parent, names, table, config, limit, failures, damaged, flat, level)


def _survey_photo(
    path: Path, config: NoiseConfig, damaged: str, limit: float
) -> tuple[np.ndarray, np.ndarray, str | None] | ImageError | ValueError:
    """Return a photo's tiles, of SURVEY_TILES, its blocks, and its file's damage, or the error."""
    try:
        image, table, damage = measure_photo(path, config, damaged, limit)
    except (ImageError, ValueError) as error:
        return error
    tiles = np.zeros(len(table), SURVEY_TILES)
    tiles[list(TILES.names or ())] = table
    return tiles, measure_blocks(image), damage


class NoFlatTilesError(UserError):
    """No thresholds yield a patch. `survey` holds all tiles, `reason` is the message's first part."""

    def __init__(self, survey: Survey):
        size = survey.config.size // 2
        self.survey, self.reason = survey, _explain_no_flat_tiles(survey)
        super().__init__(
            f"{self.reason} Set smaller tiles (noise.size={size} noise.stride={size}) or "
            f"{NOISE_MODEL}, or use photos with flat, evenly lit regions: sky, a wall, defocus. The "
            "survey's figure (survey.png) shows the flattest tiles."
        )


def choose_thresholds(
    source: Path | None,
    pool: Path,
    config: NoiseConfig,
    overwrite: bool,
    workers: int | None,
    damaged: str,
) -> tuple[NoiseConfig, Survey | None]:
    """Return the config with thresholds that suit the photos, and the survey of the photos.

    The thresholds are the lowest, not below those of the config, that yield `config.min_patches`
    good tiles. They are stored in the pool's manifest; the survey is None if an earlier call stored
    them. Raises UserError if no tile is flat.
    """
    photos = list_photos(source, "source", pool)
    refuse_foreign(pool, "noise")
    inputs = name_inputs("source", list(photos.values()))
    survey = None
    with open_stage(
        pool,
        STAGE,
        config=asdict(config),
        seed=None,
        inputs=inputs,
        overwrite=overwrite,
        check_item=_check_item,
    ) as record:
        if "thresholds" not in record.items:
            survey = survey_noise(source, pool, config, workers, damaged)
            thresholds = survey.suggest(config.min_patches, config.max_variance)
            if not thresholds.patches:
                raise NoFlatTilesError(survey)
            if thresholds.patches < config.min_patches:
                logger.warning("%s", _explain_few_tiles(thresholds.patches, config))
            record.add("thresholds", [], **asdict(thresholds), failures=survey.failures)
        item = record.items["thresholds"]
        if not item["failures"]:
            record.finish()
        # Photos that are repaired later are used with these thresholds.
        for name, reason in item["failures"].items():
            record.fail(name, f"source/{name}", Path(name), UserError(reason))
    config = replace(config, max_variance=item["max_variance"], min_mean=item["min_mean"])
    return config, replace(survey, config=config) if survey else None


def _check_item(item: dict[str, Any]) -> None:
    """Raise KeyError or TypeError if an item lacks what `choose_thresholds` records."""
    if not all(isinstance(item[key], int | float) for key in ("max_variance", "min_mean")):
        raise TypeError("its thresholds are not numbers")
    if not all(isinstance(reason, str) for reason in item["failures"].values()):
        raise TypeError("its failures are not texts")


def _explain_few_tiles(patches: int, config: NoiseConfig) -> str:
    half = config.size // 2
    tiles = f", or set smaller tiles (noise.size={half} noise.stride={half} overwrite=true)"
    return (
        f"noise: only {patches} good tiles instead of noise.min_patches={config.min_patches}, so "
        "that training repeats the same noise. For more, use more photos with flat, evenly lit "
        f"regions{tiles if config.size > SMALL_TILE else ''}, or let realsr.train use {NOISE_MODEL}"
    )


def _explain_no_flat_tiles(survey: Survey) -> str:
    counts, size = survey.yields(survey.limit), survey.config.size
    reasons = ", ".join(
        f"{count} {reason or 'too dark, with clipped noise'}" for reason, count in counts.items()
    )
    return (
        f"noise: no thresholds suit these photos: {sum(counts.values())} of {len(survey.tiles)} "
        f"tiles of {size}x{size} have a variance below {survey.limit:g} and a mean above "
        f"{survey.config.min_mean:g}{f' ({reasons})' if reasons else ''}."
    )


def read_tiles(survey: Survey, indices: Sequence[int] | np.ndarray) -> dict[int, np.ndarray]:
    """Return the pixels (size, size, 3) of tiles by index. Each photo is decoded once."""
    pixels: dict[int, np.ndarray] = {}
    photos = survey.tiles["photo"]
    for photo in np.unique(photos[indices]):
        # The survey has already logged any damage.
        image, _ = read_uint8_and_damage(survey.source / survey.photos[photo], survey.damaged)
        for index in indices:
            if photos[index] == photo:
                pixels[int(index)] = cut(image, survey.tiles[index], survey.config.size).copy()
    return pixels
