"""A survey of noise tiles as files and as text: tiles.csv, summary.json, survey.png and a short table."""

import csv
import io
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from realsr.core.file_names import printable
from realsr.core.files import write_bytes
from realsr.imaging import write_uint8
from realsr.noise.survey import SURVEYED, WANTED, Survey, pick_tiles, read_tiles

logger = logging.getLogger("realsr")
SHOWN = 24  # tiles of a section
WIDTH, MARGIN = 1660, 30
PANEL = (500, 250)  # of a plot, without its labels
COLUMNS, SIDE = 8, 190
INK, FAINT, LINE = (30, 30, 30), (150, 150, 150), (200, 30, 30)
COLOURS = {
    "": (60, 150, 80),
    "structured": (240, 150, 40),
    "clipped": (200, 60, 120),
    "constant": (110, 110, 200),
    "too varied": (205, 205, 205),
}
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Thumbnail:
    """A tile to be shown: pixels (s, s, 3) uint8, the text below it, and what speaks against it."""

    pixels: np.ndarray
    label: str
    against: str


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


def draw_survey(survey: Survey, sections: Mapping[str, Sequence[Thumbnail]]) -> np.ndarray:
    """Draw histograms of variance and mean, the yield of each threshold, and sections of tiles: (H, W, 3) uint8."""
    rows = [-(-len(tiles) // COLUMNS) for tiles in sections.values()]
    height = 130 + PANEL[1] + 60 + sum(50 + row * (SIDE + 30) for row in rows) + MARGIN
    image = Image.new("RGB", (WIDTH, height), (255, 255, 255))
    canvas, config = ImageDraw.Draw(image), survey.config
    _write(canvas, (MARGIN, 20), f"Noise survey: {len(survey.photos)} photos, {len(survey.tiles)} tiles", 24)
    x = MARGIN
    for reason, colour in COLOURS.items():
        canvas.rectangle((x, 62, x + 14, 76), fill=colour)
        _write(canvas, (x + 20, 60), reason or "good", 15)
        x += 120
    text = f"noise.max_variance={config.max_variance:g}  noise.min_mean={config.min_mean:g} (red lines)   "
    text += f"max_clipped={config.max_clipped:g}  max_structure={config.max_structure:g}"
    _write(canvas, (x + 10, 60), text, 15)
    for index, plot in enumerate((_plot_variance, _plot_mean, _plot_yield)):
        left = MARGIN + 20 + index * (PANEL[0] + 50)
        plot(canvas, (left, 130, left + PANEL[0], 130 + PANEL[1]), survey)
    top = 130 + PANEL[1] + 60
    for (title, tiles), row in zip(sections.items(), rows, strict=True):
        _write(canvas, (MARGIN, top), title, 18)
        _paste(image, canvas, tiles, top + 36)
        top += 50 + row * (SIDE + 30)
    return np.asarray(image)


def _plot_variance(canvas: ImageDraw.ImageDraw, box: Box, survey: Survey) -> None:
    values = np.log10(survey.tiles["variance"].clip(0.1, 10_000))
    place = _frame(canvas, box, "variance of tiles", (-1, 4), {p: f"{10.0**p:g}" for p in range(-1, 5)})
    _draw_bars(canvas, box, survey, values, np.linspace(-1, 4, 51))
    _draw_line(canvas, box, place(np.log10(survey.config.max_variance)))


def _plot_mean(canvas: ImageDraw.ImageDraw, box: Box, survey: Survey) -> None:
    low = survey.tiles["variance"] < survey.limit
    title = f"mean of the {low.sum()} tiles of variance below {survey.limit:g}"
    place = _frame(canvas, box, title, (0, 256), {v: str(v) for v in range(0, 257, 32)})
    _draw_bars(canvas, box, survey, np.where(low, survey.tiles["mean"], np.nan), np.linspace(0, 256, 33))
    _draw_line(canvas, box, place(survey.config.min_mean))


def _plot_yield(canvas: ImageDraw.ImageDraw, box: Box, survey: Survey) -> None:
    limit = float(np.log10(survey.limit))
    ticks = {float(np.log10(v)): f"{v:g}" for v in (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000) if v <= survey.limit}
    first = min(-1.0, limit - 1)
    place = _frame(canvas, box, "tiles found against max_variance: all, and good ones", (first, limit), ticks)
    thresholds = np.linspace(first, limit, 120)
    counts = [survey.yields(10**value) for value in thresholds]
    most = max(1, *(sum(count.values()) for count in counts))
    curves: tuple[tuple[tuple[int, int, int], list[int]], ...] = (
        (FAINT, [sum(count.values()) for count in counts]),
        (COLOURS[""], [count.get("", 0) for count in counts]),
    )
    for colour, curve in curves:
        points = [
            (place(value), box[3] - count / most * (box[3] - box[1] - 10))
            for value, count in zip(thresholds, curve, strict=True)
        ]
        canvas.line(points, fill=colour, width=3)
        _write(canvas, (box[2] - 6, int(points[-1][1]) - 2), str(curve[-1]), 14, "rb")
    _draw_line(canvas, box, place(np.log10(survey.config.max_variance)))


def _frame(
    canvas: ImageDraw.ImageDraw, box: Box, title: str, span: tuple[float, float], ticks: Mapping[float, str]
) -> Callable[[float], float]:
    """Draw a plot's axes; return the function that turns a value into a pixel's x."""

    def place(value: float) -> float:
        return box[0] + (value - span[0]) / (span[1] - span[0]) * (box[2] - box[0])

    _write(canvas, (box[0], box[1] - 26), title, 16)
    canvas.line((box[0], box[3], box[2], box[3]), fill=INK)
    for value, text in ticks.items():
        canvas.line((place(value), box[3], place(value), box[3] + 5), fill=INK)
        _write(canvas, (int(place(value)), box[3] + 8), text, 13, "mt")
    return place


def _draw_bars(canvas: ImageDraw.ImageDraw, box: Box, survey: Survey, values: np.ndarray, edges: np.ndarray) -> None:
    """Draw a histogram stacked by what speaks against the tiles."""
    reasons = np.where(np.isnan(survey.tiles["structure"]), "too varied", survey.judge())
    counts = {reason: np.histogram(values[reasons == reason], edges)[0] for reason in COLOURS}
    highest = max(1, *np.sum(list(counts.values()), axis=0).tolist())
    width = (box[2] - box[0]) / (len(edges) - 1)
    base = np.zeros(len(edges) - 1)
    for reason, count in counts.items():
        for index in np.flatnonzero(count):
            left = box[0] + index * width
            low, high = (box[3] - level / highest * (box[3] - box[1] - 10) for level in (base, base + count))
            canvas.rectangle(
                (left + 1, high[index], left + width - 1, max(low[index] - 1, high[index])), fill=COLOURS[reason]
            )
        base += count
    _write(canvas, (box[0] - 4, box[1] + 10), str(highest), 13, "rm")


def _draw_line(canvas: ImageDraw.ImageDraw, box: Box, x: float) -> None:
    canvas.line((x, box[1], x, box[3]), fill=LINE, width=2)


def _paste(image: Image.Image, canvas: ImageDraw.ImageDraw, tiles: Sequence[Thumbnail], top: int) -> None:
    for index, tile in enumerate(tiles):
        row, column = divmod(index, COLUMNS)
        x, y = MARGIN + column * (SIDE + 11), top + row * (SIDE + 30)
        canvas.rectangle((x - 3, y - 3, x + SIDE + 2, y + SIDE + 2), fill=COLOURS[tile.against])
        image.paste(Image.fromarray(_stretch(tile.pixels)), (x, y))
        _write(canvas, (x, y + SIDE + 5), tile.label, 13)


def _stretch(pixels: np.ndarray) -> np.ndarray:
    """Show a tile at the contrast of 35 levels a standard deviation, whole: (SIDE, SIDE, 3) uint8."""
    method = cv2.INTER_AREA if len(pixels) > SIDE else cv2.INTER_NEAREST
    flat = cv2.resize(
        pixels.astype(np.float32) - pixels.mean((0, 1), dtype=np.float32), (SIDE, SIDE), interpolation=method
    )
    return np.rint(flat * (35 / max(float(flat.std()), 0.2)) + 128).clip(0, 255).astype(np.uint8)


def _write(canvas: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, anchor: str = "la") -> None:
    canvas.text(at, text, fill=INK, font=ImageFont.load_default(size), anchor=anchor)
