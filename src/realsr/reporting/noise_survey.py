"""A survey of noise tiles as files and as text: tiles.csv, summary.json, survey.png and a short table."""

import csv
import io
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from realsr.core.file_names import printable
from realsr.core.files import write_bytes
from realsr.imaging import write_uint8
from realsr.noise.survey import SURVEYED, WANTED, Survey, pick_tiles, read_tiles
from realsr.reporting.noise_picture import Thumbnail, draw_survey

logger = logging.getLogger("realsr")
SHOWN = 24  # tiles of a section


def report_survey(survey: Survey, folder: Path) -> None:
    """Write a survey's files and print its table."""
    write_survey(folder, survey)
    logger.info("%s", describe(survey, folder))


def write_survey(folder: Path, survey: Survey) -> None:
    """Write `tiles.csv` (all tiles), `summary.json` (percentiles, yields, suggestions) and `survey.png` to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow([*(SURVEYED.names or ()), "against", "kept"])
    for tile, reason, kept in zip(survey.tiles, survey.judge(), survey.kept(), strict=True):
        facts = (f"{value:.6g}" for value in tile.tolist()[1:])
        writer.writerow(
            [printable(survey.photos[tile["photo"]]), *("" if fact == "nan" else fact for fact in facts), reason, kept]
        )
    write_bytes(folder / "tiles.csv", table.getvalue().encode())
    write_bytes(folder / "summary.json", json.dumps(summarise(survey), indent=1).encode())
    write_uint8(folder / "survey.png", _draw(survey))


def _draw(survey: Survey) -> np.ndarray:
    kept = survey.kept()
    nearly = ~kept & (survey.tiles["variance"] < 2 * survey.config.max_variance)
    reasons = survey.judge()
    sections = {}
    for title, among in (("kept", kept), ("nearly kept", nearly)):
        indices = pick_tiles(survey, among, SHOWN)
        pixels = read_tiles(survey, indices)
        thumbnails = []
        for index in indices:
            tile = survey.tiles[index]
            name = Path(survey.photos[tile["photo"]]).stem
            label = f"{printable(name)[-10:]}  v{tile['variance']:.1f} m{tile['mean']:.0f} s{tile['structure']:.2f}"
            thumbnails.append(Thumbnail(pixels[int(index)], label, str(reasons[index])))
        sections[f"{title}: {among.sum()} tiles, {len(thumbnails)} of them from low variance to high"] = thumbnails
    return draw_survey(survey, sections)


def summarise(survey: Survey) -> dict[str, Any]:
    """Return the survey in numbers, as JSON takes them."""
    percents = (0, 1, 5, 25, 50, 75, 95, 100)
    return {
        "photos": len(survey.photos),
        "failures": survey.failures,
        "tiles": len(survey.tiles),
        "kept": int(survey.kept().sum()),
        "config": asdict(survey.config),
        "percentiles": {
            name: {str(p): float(np.percentile(survey.tiles[name], p)) for p in percents}
            for name in ("variance", "mean")
        },
        "yields": [{"max_variance": v, **_titled(survey.yields(v))} for v in _table_variances(survey)],
        "suggestions": [{"wanted": n, **asdict(survey.suggest(n))} for n in WANTED if survey.suggest(n).patches],
    }


def _table_variances(survey: Survey) -> list[float]:
    """Return the thresholds that are worth a row of a table; above the survey's limit nothing was judged."""
    tenfold = (round(survey.config.max_variance * factor, 3) for factor in (0.1, 0.25, 0.5, 1, 2, 4, 10))
    return [variance for variance in tenfold if variance < survey.limit] + [survey.limit]


def _titled(counts: dict[str, int]) -> dict[str, int]:
    return {"good": counts.get("", 0)} | {name: counts.get(name, 0) for name in ("structured", "clipped", "constant")}


def describe(survey: Survey, folder: Path) -> str:
    """Return the survey as a short table, where its files are, and what to do next."""
    passing, kept = int(survey.passes().sum()), int(survey.kept().sum())
    config = survey.config
    lines = [
        f"noise survey: {len(survey.photos) - len(survey.failures)} photos, {len(survey.tiles)} tiles of "
        f"{config.size}x{config.size}; noise.max_variance={config.max_variance:g} noise.min_mean={config.min_mean:g} "
        f"let in {passing} of them, {kept} would be kept",
        f"  {'max_variance':>12} {'tiles':>7} {'good':>7} {'structured':>10} {'clipped':>8} {'constant':>8}",
    ]
    for variance in _table_variances(survey):
        counts = _titled(survey.yields(variance))
        lines.append(
            f"  {variance:12g} {sum(counts.values()):7d} {counts['good']:7d} {counts['structured']:10d} "
            f"{counts['clipped']:8d} {counts['constant']:8d}"
        )
    offer = survey.suggest(config.wanted, config.max_variance)
    if config.auto:
        lines.append(f"picture: {folder / 'survey.png'}")
    elif offer.patches:
        lines.append(
            f"next: look at {folder / 'survey.png'}, then noise.max_variance={offer.max_variance:g} "
            f"noise.min_mean={offer.min_mean:g} noise.drop_structured=true for {offer.patches} good patches "
            f"({config.wanted} wanted), or let noise=auto choose"
        )
    else:
        lines.append(
            f"next: look at {folder / 'survey.png'}: no tile below {survey.limit:g} is free of structure. Try "
            f"noise.size={config.size // 2} noise.stride={config.size // 2}, or "
            "photos with something flat and evenly lit"
        )
    return "\n".join(lines)
