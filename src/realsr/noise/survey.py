"""What the tiles of a folder of photos are like, and which thresholds find noise in them."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from realsr.core.errors import UserError
from realsr.core.progress import Progress
from realsr.core.ranges import check_ranges
from realsr.core.workers import count_workers, map_items
from realsr.data.folders import list_photos
from realsr.imaging import ImageError, log_damage, read_uint8_and_damage
from realsr.noise.noise_config import NoiseConfig
from realsr.noise.tiles import TILES, cut, judge_tiles, list_drop_reasons, mask_tiles, measure_photo
from realsr.provenance.manifest import name_inputs, open_stage, refuse_foreign

STAGE = "noise_survey"
SURVEYED = np.dtype([("photo", np.int64), *TILES.descr])
ROOM = 10  # thresholds are looked for up to so many times max_variance
SUGGESTED = (50, 100, 200, 500, 1000)
_STEPS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)


@dataclass(frozen=True)
class Thresholds:
    """Thresholds and how many good tiles they yield."""

    max_variance: float
    min_mean: float
    patches: int


@dataclass(frozen=True)
class Survey:
    """All tiles of a folder's photos.

    source: the folder. photos: names of its files. tiles: (n,) of SURVEYED; `photo` is an index, `clipped` and
    `structure` are nan for tiles of a variance not below `limit`, the highest threshold that is looked at. failures:
    file name -> why the photo could not be measured. damaged: whether damaged photos were taken (`read_uint8`).
    """

    source: Path
    photos: list[str]
    tiles: np.ndarray
    config: NoiseConfig
    limit: float
    failures: dict[str, str]
    damaged: str = "refuse"

    def judge(self) -> np.ndarray:
        """Return what rejects each tile, see `judge_tiles`."""
        return judge_tiles(self.tiles, self.config)

    def passes(self) -> np.ndarray:
        """Return which tiles the config's thresholds let in, judged or not."""
        return mask_tiles(self.tiles, self.config.max_variance, self.config.min_mean)

    def selection(self) -> np.ndarray:
        """Return which tiles realsr.collect_noise keeps; near-duplicates are not looked for here."""
        return self.passes() & ~np.isin(self.judge(), list_drop_reasons(self.config))

    def yields(self, max_variance: float) -> dict[str, int]:
        """Count the tiles below a variance and above min_mean, by reject reason; "" are the good ones."""
        reasons = self.judge()[mask_tiles(self.tiles, max_variance, self.config.min_mean)]
        return {
            str(reason): int(count)
            for reason, count in zip(*np.unique(reasons, return_counts=True), strict=True)
        }

    def suggest(self, min_patches: int, lowest: float = 0.0) -> Thresholds:
        """Return the lowest thresholds, of round numbers from `lowest` on, that yield so many good tiles.

        The mean is above three standard deviations of the noise, so that it is not cut off at 0. A threshold is
        raised only as long as half of what it lets in is good: beyond it is content. Where there are too few good
        tiles, the thresholds that yield nine tenths of them.
        """
        reasons = self.judge()
        offers: list[Thresholds] = []
        first = 0, 0
        for variance in _round_numbers(lowest, self.limit):
            mean = max(self.config.min_mean, math.ceil(3 * math.sqrt(variance)))
            let_in = mask_tiles(self.tiles, variance, mean)
            good, content = (
                int((let_in & (reasons == reason)).sum()) for reason in ("", "structured")
            )
            if not offers:
                first = (good, content) if lowest else first
            elif good - first[0] < content - first[1]:
                continue
            offers.append(Thresholds(variance, float(mean), good))
        enough = min(min_patches, math.ceil(0.9 * max(offer.patches for offer in offers)))
        return next(offer for offer in offers if offer.patches >= enough)


def _round_numbers(lowest: float, highest: float) -> list[float]:
    numbers = (step * 10.0**power for power in range(-4, 5) for step in _STEPS)
    return [lowest] * (lowest > 0) + [round(n, 6) for n in numbers if lowest < n <= highest]


def survey_noise(
    source: Path | None,
    pool: Path,
    config: NoiseConfig,
    workers: int | None = None,
    damaged: str = "refuse",
) -> Survey:
    """Measure all tiles of a folder of source photos. Raises UserError where no photo can be measured."""
    check_ranges(config, "noise")
    photos = list(list_photos(source, "source", pool).values())
    limit = ROOM * config.max_variance
    measure = partial(_survey_photo, config=config, damaged=damaged, limit=limit)
    tables, failures = [np.empty(0, SURVEYED)], {}
    with Progress("noise survey", total=len(photos)) as progress:
        for index, result in enumerate(
            map_items(measure, photos, count_workers(len(photos), workers))
        ):
            path = photos[index]
            progress.advance()
            if isinstance(result, Exception):
                failures[path.name] = (
                    str(result) if path.name in str(result) else f"{path}: {result}"
                )
                continue
            tiles, damage = result
            log_damage(path, damage)
            tiles["photo"] = index
            tables.append(tiles)
    if len(failures) == len(photos):
        raise UserError(
            "noise survey: no photo can be measured:"
            + "".join(f"\n  {line}" for line in failures.values())
        )
    names = [path.name for path in photos]
    return Survey(photos[0].parent, names, np.concatenate(tables), config, limit, failures, damaged)


def _survey_photo(
    path: Path, config: NoiseConfig, damaged: str, limit: float
) -> tuple[np.ndarray, str | None] | ImageError | ValueError:
    """Return a photo's tiles, of SURVEYED, and what is wrong with its file; or why it cannot be measured."""
    try:
        _, measured, damage = measure_photo(path, config, damaged, limit)
    except (ImageError, ValueError) as error:
        return error
    tiles = np.zeros(len(measured), SURVEYED)
    tiles[list(TILES.names or ())] = measured
    return tiles, damage


class NothingFlatError(UserError):
    """No thresholds yield a patch; `survey` is what was looked at."""

    def __init__(self, survey: Survey):
        super().__init__(_nothing_flat(survey))
        self.survey = survey


def choose_thresholds(
    source: Path | None,
    pool: Path,
    config: NoiseConfig,
    overwrite: bool = False,
    workers: int | None = None,
    damaged: str = "refuse",
) -> tuple[NoiseConfig, Survey | None]:
    """Return the config with thresholds that suit the photos, and the survey they were chosen by.

    They are the lowest ones, at least those of the config, that yield `config.min_patches` good tiles. The pool's
    manifest stores them; the survey is None where an earlier run has chosen. Raises UserError where no tile is flat.
    """
    photos = list_photos(source, "source", pool)
    refuse_foreign(pool, "noise", "noise/**/*.png")
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
                raise NothingFlatError(survey)
            record.add("thresholds", [], **asdict(thresholds), failures=survey.failures)
        chosen = record.items["thresholds"]
        if not chosen["failures"]:
            record.finish()
        for name, reason in chosen[
            "failures"
        ].items():  # once mended they are collected from, by these thresholds
            record.fail(name, f"source/{name}", Path(name), UserError(reason))
    config = replace(config, max_variance=chosen["max_variance"], min_mean=chosen["min_mean"])
    return config, replace(survey, config=config) if survey else None


def _check_item(item: dict[str, Any]) -> None:
    """Raise KeyError or TypeError where a recorded item lacks what `choose_thresholds` records."""
    if not all(isinstance(item[key], int | float) for key in ("max_variance", "min_mean")):
        raise TypeError("its thresholds are not numbers")
    if not all(isinstance(reason, str) for reason in item["failures"].values()):
        raise TypeError("its failures are not reasons")


def _nothing_flat(survey: Survey) -> str:
    counts = survey.yields(survey.limit)
    reasons = [
        f"{count} {reason or 'so dark that their noise is cut off'}"
        for reason, count in counts.items()
    ]
    return (
        f"noise: no thresholds suit these photos: {sum(counts.values())} of {len(survey.tiles)} tiles of "
        f"{survey.config.size}x{survey.config.size} have a variance below {survey.limit:g} and a mean above "
        f"{survey.config.min_mean:g}{' (' * bool(reasons)}{', '.join(reasons)}{')' * bool(reasons)}. Smaller tiles "
        f"find more (noise.size={survey.config.size // 2} noise.stride={survey.config.size // 2}), or photos with "
        "something flat and evenly lit: sky, a wall, blur. The survey's figure shows the tiles."
    )


def read_tiles(survey: Survey, indices: Sequence[int] | np.ndarray) -> dict[int, np.ndarray]:
    """Read the pixels (size, size, 3) of tiles by their index; each photo is decoded once."""
    pixels: dict[int, np.ndarray] = {}
    for photo in np.unique(survey.tiles["photo"][indices]):
        image, _ = read_uint8_and_damage(
            survey.source / survey.photos[photo], survey.damaged
        )  # logged by the survey
        for index in indices:
            if survey.tiles["photo"][index] == photo:
                pixels[int(index)] = cut(image, survey.tiles[index], survey.config.size).copy()
    return pixels
