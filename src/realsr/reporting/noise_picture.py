"""The picture of a noise survey: variances and means, what thresholds yield, and the tiles themselves."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from realsr.noise.survey import Survey

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
