"""Report of a noise survey: tiles.csv, summary.json, survey.png and a short table."""

import csv
import io
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from realsr.core.file_names import printable
from realsr.core.files import write_bytes
from realsr.imaging import write_uint8
from realsr.noise.noise_config import NOISE_MODEL
from realsr.noise.survey import PATCH_COUNTS, SURVEY_TILES, Survey, read_tiles
from realsr.reporting.drawing import (
    FAINT,
    FRAME,
    GAP,
    INK,
    Page,
    Tile,
    choose_evenly,
    draw_tiles,
    repeat_pixels,
    stack,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

logger = logging.getLogger("realsr")
MAX_TILES = 24  # in a section of the figure
COLUMNS, SIDE = 6, 256
LINE = "#c81e1e"
CHANNELS = {"red": "#c83c3c", "green": "#3c9650", "blue": "#3c64c8"}
PLOT_LEFTS, PLOT_SIZE = (40, 580, 1120), (470, 250)
MAX_POINTS = 4000  # of each channel in the plot of the noise level
COLOURS = {
    "": "#3c9650",
    "structured": "#f09628",
    "clipped": "#c83c78",
    "constant": "#6e6ec8",
    "too varied": "#cdcdcd",
}


def report_survey(survey: Survey, folder: Path) -> None:
    """Write `tiles.csv` (all tiles), `summary.json` (statistics, suggestions) and `survey.png`.

    Log the survey as a table.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow([*(SURVEY_TILES.names or ()), "reject_reason", "kept"])
    verdicts = zip(survey.tiles, survey.judge(), survey.selection(), strict=True)
    for tile, reason, keep in verdicts:
        photo = printable(survey.photos[tile["photo"]])
        values = ["" if math.isnan(value) else f"{value:.6g}" for value in tile.tolist()[1:]]
        writer.writerow([photo, *values, reason, keep])
    write_bytes(folder / "tiles.csv", table.getvalue().encode())
    write_bytes(folder / "summary.json", json.dumps(summarise(survey), indent=1).encode())
    write_uint8(folder / "survey.png", draw_survey(survey, _make_sections(survey)))
    logger.info("%s", describe(survey, folder))


def choose_tiles(survey: Survey, mask: np.ndarray, count: int) -> list[int]:
    """Return the indices of up to `count` tiles of a mask, evenly spaced by rank of variance."""
    indices = np.flatnonzero(mask)
    order = np.argsort(survey.tiles["variance"][indices], kind="stable")
    return choose_evenly(indices[order].tolist(), count)


def _classify(survey: Survey) -> np.ndarray:
    """Return the reject reason of each tile, `too varied` for those that were not judged."""
    return np.where(np.isnan(survey.tiles["structure"]), "too varied", survey.judge())


def _make_sections(survey: Survey) -> dict[str, list[Tile]]:
    """Return, by title, selected tiles and other tiles of up to twice the variance threshold.

    If there are neither, return the tiles of lowest variance.
    """
    selection, reasons = survey.selection(), _classify(survey)
    close = ~selection & (survey.tiles["variance"] < 2 * survey.config.max_variance)
    masks = {"kept": selection, "nearly kept": close}
    if not (selection | close).any():
        ranks = survey.tiles["variance"].argsort(kind="stable").argsort()
        masks = {"lowest variance": ranks < MAX_TILES}
    sections = {}
    for title, mask in masks.items():
        indices = choose_tiles(survey, mask, MAX_TILES)
        pixels, tiles = read_tiles(survey, indices), []
        for index in indices:
            tile = survey.tiles[index]
            name = printable(Path(survey.photos[tile["photo"]]).stem)[-10:]
            text = f"{name}  v{tile['variance']:.1f} m{tile['mean']:.0f} s{tile['structure']:.2f}"
            tiles.append(Tile(stretch(pixels[index]), [(text, INK)], COLOURS[str(reasons[index])]))
        title += f": {mask.sum()} tiles, {len(tiles)} shown from low to high variance"
        sections[title] = tiles
    return sections


def summarise(survey: Survey) -> dict[str, Any]:
    """Return the content of summary.json; its noise levels are of 8 bits."""
    percents = (0, 1, 5, 25, 50, 75, 95, 100)
    deviations = None if survey.level is None else survey.level.deviations
    return {
        "photos": len(survey.photos),
        "failures": survey.failures,
        "tiles": len(survey.tiles),
        "kept": int(survey.selection().sum()),
        "config": asdict(survey.config),
        "percentiles": {
            name: {str(p): float(np.percentile(survey.tiles[name], p)) for p in percents}
            for name in ("variance", "mean")
        },
        "yields": [
            {"max_variance": v, **_name_counts(survey.yields(v))} for v in _table_variances(survey)
        ],
        "suggestions": [
            {"min_patches": n, **asdict(survey.suggest(n))}
            for n in PATCH_COUNTS
            if survey.suggest(n).patches
        ],
        "noise_level": None
        if deviations is None
        else {
            "flat_blocks": len(survey.blocks),
            "brightness": np.linspace(0, 255, deviations.shape[1]).tolist(),
            **dict(zip(CHANNELS, deviations.round(3).tolist(), strict=True)),
        },
    }


def _table_variances(survey: Survey) -> list[float]:
    """Return the variance thresholds of the table, up to the survey's limit."""
    factors = (0.1, 0.25, 0.5, 1, 2, 4, 10)
    variances = [round(survey.config.max_variance * factor, 3) for factor in factors]
    return [variance for variance in variances if variance < survey.limit] + [survey.limit]


def _name_counts(counts: dict[str, int]) -> dict[str, int]:
    """Return the counts of tiles by verdict, with 0 for missing verdicts."""
    reasons = ("structured", "clipped", "constant")
    return {"good": counts.get("", 0)} | {name: counts.get(name, 0) for name in reasons}


def describe(survey: Survey, folder: Path) -> str:
    """Return the survey as a short table, with the path of its figure and the next step."""
    passes, selection = int(survey.passes().sum()), int(survey.selection().sum())
    config, photos = survey.config, len(survey.photos) - len(survey.failures)
    lines = [
        f"noise survey: {photos} photos, {len(survey.tiles)} tiles of {config.size}x{config.size}; "
        f"{passes} pass noise.max_variance={config.max_variance:g} "
        f"noise.min_mean={config.min_mean:g}, {selection} would be kept "
        f"(noise.drop_structured={str(config.drop_structured).lower()})",
        f"  {'max_variance':>12} {'tiles':>7} {'good':>7} {'structured':>10} {'clipped':>8} "
        f"{'constant':>8}",
    ]
    for variance in _table_variances(survey):
        counts = _name_counts(survey.yields(variance))
        lines.append(
            f"  {variance:12g} {sum(counts.values()):7d} {counts['good']:7d} "
            f"{counts['structured']:10d} {counts['clipped']:8d} {counts['constant']:8d}"
        )
    offer = survey.suggest(config.min_patches)
    if config.auto:
        lines.append(f"figure: {folder / 'survey.png'}")
    elif offer.patches:
        lines.append(
            f"next: look at {folder / 'survey.png'}, then set "
            f"noise.max_variance={offer.max_variance:g} noise.min_mean={offer.min_mean:g} "
            f"noise.drop_structured=true for {offer.patches} good patches "
            f"({config.min_patches} required), or set noise=auto"
        )
    else:
        lines.append(
            f"next: look at {folder / 'survey.png'}: no threshold up to "
            f"noise.max_variance={survey.limit:g} yields more good tiles than structured ones. Set "
            f"noise.size={config.size // 2} noise.stride={config.size // 2} or "
            f"{NOISE_MODEL}, or use photos with flat, evenly lit areas"
        )
    return "\n".join(lines)


def draw_survey(survey: Survey, sections: Mapping[str, Sequence[Tile]]) -> np.ndarray:
    """Draw histograms of variance and mean, the yield by threshold, and tiles: (H, W, 3) uint8."""
    config, tiles = survey.config, survey.tiles
    page = Page(COLUMNS * (SIDE + GAP) - GAP + 2 * FRAME, 415 if survey.level is None else 820)
    page.write(f"Noise survey: {len(survey.photos)} photos, {len(tiles)} tiles", FRAME, 0, 22)
    text = f"noise.max_variance={config.max_variance:g}  noise.min_mean={config.min_mean:g} "
    text += f"(red lines)   max_clipped={config.max_clipped:g}  "
    text += f"max_structure={config.max_structure:g}"
    page.write(text, 700, 46, 13)
    low = tiles["variance"] < survey.limit
    titles = (
        "variance of tiles",
        f"mean of the {low.sum()} tiles of variance below {survey.limit:g}",
        "tiles below max_variance: all, and good ones",
    )
    variance, mean, counts = (
        page.plot(left, 100, *PLOT_SIZE, title)
        for left, title in zip(PLOT_LEFTS, titles, strict=True)
    )
    _plot_histogram(variance, survey, tiles["variance"].clip(0.1, 10_000), np.logspace(-1, 4, 51))
    variance.set_xscale("log")
    corner = -0.1, 1.12
    variance.legend(loc="lower left", bbox_to_anchor=corner, ncols=5, frameon=False, fontsize=13)
    _plot_histogram(mean, survey, np.where(low, tiles["mean"], -1), np.linspace(0, 256, 33))
    mean.set_xticks(range(0, 257, 32))
    mean.axvline(config.min_mean, color=LINE, linewidth=2)
    _plot_yields(counts, survey)
    for axes in (variance, counts):
        axes.axvline(config.max_variance, color=LINE, linewidth=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
    for axes, label in ((variance, "variance"), (mean, "mean"), (counts, "max_variance")):
        axes.locator_params(axis="y", integer=True)
        axes.set_xlabel(label, fontsize=11)
        axes.tick_params(axis="x", pad=8)  # clear of the y axis's 0
    _plot_level(page, survey)
    sheets = [draw_tiles(group, COLUMNS, SIDE, title) for title, group in sections.items()]
    return stack([page.render(), *sheets])


def _plot_histogram(axes: "Axes", survey: Survey, values: np.ndarray, edges: np.ndarray) -> None:
    """Draw a histogram stacked by reject reason."""
    reasons = _classify(survey)
    groups = [values[reasons == reason] for reason in COLOURS]
    names, colours = [reason or "good" for reason in COLOURS], list(COLOURS.values())
    axes.hist(groups, edges.tolist(), stacked=True, color=colours, label=names, rwidth=0.9)
    axes.set_xlim(edges[0], edges[-1])


def _plot_yields(axes: "Axes", survey: Survey) -> None:
    """Draw how many tiles each variance threshold yields: all, and good ones."""
    thresholds = np.geomspace(min(0.1, survey.limit / 10), survey.limit, 120)
    yields = [survey.yields(threshold) for threshold in thresholds]
    for colour, curve in (
        (FAINT, [sum(counts.values()) for counts in yields]),
        (COLOURS[""], [counts.get("", 0) for counts in yields]),
    ):
        axes.semilogx(thresholds, curve, color=colour, linewidth=3)
        end = thresholds[-1], curve[-1]
        axes.annotate(str(curve[-1]), end, ha="right", va="bottom", fontsize=13)


def _plot_level(page: Page, survey: Survey) -> None:
    """Draw the flat blocks' standard deviations by brightness and the fitted noise level, if any."""
    if survey.level is None:
        return
    nodes = np.linspace(0, 255, survey.level.deviations.shape[1])
    points = survey.blocks[:: -(-len(survey.blocks) // MAX_POINTS)]
    top = 1.3 * float(np.sqrt(np.percentile(points["variance"], 99)))
    count = f": {len(survey.blocks)} flat blocks"
    for index, (name, colour) in enumerate(CHANNELS.items()):
        title = f"noise level of {name}, by brightness{count if index == 0 else ''}"
        axes = page.plot(PLOT_LEFTS[index], 505, *PLOT_SIZE, title)
        deviations = np.sqrt(points["variance"][:, index])
        axes.plot(points["mean"][:, index], deviations, ".", color=colour, markersize=2, alpha=0.4)
        axes.plot(nodes, survey.level.deviations[index], color=INK, linewidth=2)
        axes.set(xlim=(0, 255), ylim=(0, top), xticks=range(0, 257, 32))
        axes.set_xlabel("mean of the block, 0..255; line: fit", fontsize=11)


def stretch(pixels: np.ndarray) -> np.ndarray:
    """Return a tile (s, s, 3) at a contrast of 35 levels per standard deviation, for display.

    It is shrunk or magnified by a whole number to at most `SIDE` pixels a side.
    """
    factor = -(-len(pixels) // SIDE)
    side = len(pixels) // factor
    inner = pixels[: side * factor, : side * factor].astype(np.float32)
    means = inner.reshape(side, factor, side, factor, 3).mean((1, 3))
    flat = means - means.mean((0, 1))
    levels = flat * (35 / max(float(flat.std()), 0.2)) + 128
    return repeat_pixels(np.rint(levels).clip(0, 255).astype(np.uint8), SIDE)
