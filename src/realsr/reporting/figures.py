"""Figures about models: crops of a photo side by side, and the loss of each layer in INT8."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from realsr.core.errors import UserError
from realsr.data.validation_images import EvaluationImage
from realsr.deployment.table import SensitivityReport
from realsr.evaluation.metric import ImageMetric
from realsr.evaluation.scoring import bicubic_model
from realsr.imaging import encode_uint8, to_uint8, write_uint8
from realsr.reporting.drawing import (
    FAINT,
    FRAME,
    GAP,
    INK,
    Page,
    Tile,
    center_kernel,
    colour_values,
    draw_tiles,
    render,
    repeat_pixels,
    shorten,
    stack,
)

ALL = "all"
BOX = "#e03131"
PANEL = 256  # maximum of the longer side of a magnified crop, in pixels
LARGEST = 512  # maximum of the longer side of a crop that is not magnified, in pixels
WIDEST = 1.5  # maximum of the photo's width / the grid's height
TEXT = 14


@dataclass(frozen=True)
class Window:
    """A rectangle in an image, in pixels."""

    left: int
    top: int
    width: int
    height: int

    def cut(self, image: Tensor) -> Tensor:
        """Return this part of (..., H, W)."""
        return image[..., self.top : self.top + self.height, self.left : self.left + self.width]

    def shrink(self, factor: int) -> "Window":
        """Return the same window in an image shrunk by `factor`, which must divide all values."""
        values = (self.left, self.top, self.width, self.height)
        return Window(*(value // factor for value in values))

    def align(self, grid: int) -> "Window":
        """Return the smallest window that contains it with corners at multiples of `grid`."""
        left, top = self.left // grid * grid, self.top // grid * grid
        right, bottom = (
            -(-end // grid) * grid for end in (self.left + self.width, self.top + self.height)
        )
        return Window(left, top, right - left, bottom - top)


def parse_figures(texts: Sequence[str], images: Collection[str]) -> dict[str, Window | None]:
    """Return the window of each image to be shown; None without a window.

    texts: `NAME`, `NAME:LEFT,TOP,WIDTH,HEIGHT` (HR pixels; colons or commas), or `all` for all
    images. Raises UserError for any other text.
    """
    figures: dict[str, Window | None] = {}
    for text in texts:
        match = re.fullmatch(r"(.+?):(\d+)[,:](\d+)[,:](\d+)[,:](\d+)", text)
        name, window = (match[1], Window(*map(int, match.groups()[1:]))) if match else (text, None)
        if name == ALL and window is None and ALL not in images:
            figures |= {image: figures.get(image) for image in images}
        elif name not in images or (window is not None and 0 in (window.width, window.height)):
            names = ", ".join(sorted(images)[:10]) + (" …" if len(images) > 10 else "")
            raise UserError(
                f"figures: {text}: expected NAME or NAME:LEFT:TOP:WIDTH:HEIGHT in HR pixels, or "
                f"{ALL}; the images are {names}"
            )
        else:
            figures[name] = window
    return figures


class Figures:
    """Collects results of chosen images, and writes an image's figure after its last model.

    Args:
        folder: receives NAME.png.
        figures: what `parse_figures` returns.
        names: model -> its title, in the order of evaluation.
        metrics: the first two are printed below each crop, as scores of the whole image.
        scale: upscaling factor.

    `failures` has the reason for each figure that cannot be drawn.
    """

    def __init__(
        self,
        folder: Path,
        figures: Mapping[str, Window | None],
        names: Mapping[str, str],
        metrics: Mapping[str, ImageMetric],
        scale: int,
    ) -> None:
        self.failures: dict[str, str] = {}
        self._folder, self._figures, self._names = folder, figures, names
        self._metrics, self._scale = dict(list(metrics.items())[:2]), scale
        self._results: dict[str, Tensor] = {}
        self._notes: dict[str, str] = {}

    def add(
        self, image: EvaluationImage, model: str, sr: Tensor, scores: Mapping[str, float]
    ) -> None:
        """Add a result; after the last model, write the figure."""
        if image.name not in self._figures:
            return
        if model == next(iter(self._names)):
            self._results, self._notes = {}, {}
        self._results[self._names[model]] = sr.clamp(0, 1)
        self._notes[self._names[model]] = " / ".join(
            _note(name, scores[name], m) for name, m in self._metrics.items()
        )
        if len(self._results) == len(self._names):
            try:
                self._write(image)
            except ValueError as error:
                self.failures[f"figure of {image.name}"] = str(error)

    def _write(self, image: EvaluationImage) -> None:
        window = self._window(image)
        photo, box = image.lr, window.shrink(self._scale)
        crops = {"LR": box.cut(image.lr)}
        crops |= {name: window.cut(sr) for name, sr in self._results.items()}
        notes = {"LR": " / ".join(self._metrics)} | self._notes
        if image.hr is not None:
            crops["HR"] = window.cut(image.hr)
            photo, box = image.hr, window
        self._folder.mkdir(parents=True, exist_ok=True)
        figure = draw_crops(image.name, photo, box, crops, notes)
        write_uint8(self._folder / f"{image.name}.png", figure)

    def _window(self, image: EvaluationImage) -> Window:
        height, width = (side * self._scale for side in image.lr.shape[1:])
        window = self._figures[image.name]
        if window is None:
            images = list(self._results.values())
            if len(images) == 1:
                bicubic = bicubic_model(self._scale)
                images.append(bicubic(image.lr) if image.hr is None else image.hr)
            return choose_window(images, min(128, max(32, min(height, width) // 6)), self._scale)
        aligned_window = window.align(self._scale)
        right = aligned_window.left + aligned_window.width
        bottom = aligned_window.top + aligned_window.height
        if right > width or bottom > height:
            text = f"{window.left},{window.top},{window.width},{window.height}"
            raise ValueError(f"{text} reaches beyond the image of {width}x{height} pixels")
        return aligned_window


def _note(name: str, value: float, metric: ImageMetric) -> str:
    return f"{value:.{metric.digits}f}" + (" dB" if name.startswith("psnr") else "")


def choose_window(images: Sequence[Tensor], size: int, grid: int = 1) -> Window:
    """Return the square where images differ most, by squared differences over all pairs.

    images: two or more, (3, H, W) in 0..1 of the same size, a multiple of `grid`.
    size: side in pixels; reduced if the image is smaller.
    grid: corners are at multiples of it.
    """
    height, width = images[0].shape[1:]
    differences = [(a - b).square().sum(dim=0) for a, b in combinations(images, 2)]
    spread = torch.stack(differences).sum(dim=0).double()
    cells = spread.reshape(height // grid, grid, width // grid, grid).sum(dim=(1, 3)).numpy()
    rows, columns = (max(1, min(size // grid, count)) for count in cells.shape)
    total = cv2.integral(cells)
    sums = (
        total[rows:, columns:]
        - total[:-rows, columns:]
        - total[rows:, :-columns]
        + total[:-rows, :-columns]
    )
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    return Window(*(int(value) * grid for value in (column, row, columns, rows)))


def draw_crops(
    name: str,
    photo: Tensor,
    window: Window,
    crops: Mapping[str, Tensor],
    notes: Mapping[str, str],
) -> np.ndarray:
    """Draw a photo with a box around the window, and beside it the crops with titles and notes.

    Args:
        name: the photo's title.
        photo: (3, H, W) in 0..1.
        window: in pixels of the photo.
        crops: title -> the window's content, (3, h, w), at the photo's resolution or another one
            that differs by a whole factor. Crops are drawn at one size by repeating pixels.
        notes: title -> a line below the title, e.g. "27.17 dB".
    """
    rows = 1 if len(crops) <= 2 else 2 if len(crops) <= 8 else 3
    height, width = max(tuple(crop.shape[1:]) for crop in crops.values())
    longest = max(height, width)
    factor = max(1, PANEL // longest) if longest <= LARGEST else 1 / -(-longest // LARGEST)
    size = max(1, int(width * factor)), max(1, int(height * factor))
    tiles = []
    for title, crop in crops.items():
        pixels = cv2.resize(to_uint8(crop), size, interpolation=cv2.INTER_NEAREST_EXACT)
        tiles.append(Tile(pixels, [(title, INK), (notes.get(title, ""), FAINT)]))
    grid = draw_tiles(tiles, -(-len(tiles) // rows), max(size[0], 120), "", size=TEXT)
    return stack([np.concatenate([_draw_photo(name, photo, window, len(grid)), grid], axis=1)])


def _draw_photo(name: str, photo: Tensor, window: Window, height: int) -> np.ndarray:
    """Draw the photo with the window's box and its name below, fitted to a page of this height."""
    from matplotlib.patches import Rectangle

    factor = min((height - 50) / photo.shape[1], WIDEST * (height - 50) / photo.shape[2])
    photo_height, photo_width = (max(1, round(side * factor)) for side in photo.shape[1:])
    width = max(photo_width, 160)
    page, top = Page(width + GAP, height), 8 + FRAME
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    pixels = cv2.resize(to_uint8(photo), (photo_width, photo_height), interpolation=method)
    page.show(pixels, 0, top)
    axes = page.plot(0, top, photo_width, photo_height)
    axes.set(xlim=(0, photo.shape[2]), ylim=(photo.shape[1], 0))
    axes.set_axis_off()
    corner = window.left, window.top
    for colour, line in (("white", 5), (BOX, 3)):
        box = Rectangle(corner, window.width, window.height, fill=False, clip_on=False)
        box.set(edgecolor=colour, linewidth=line)
        axes.add_patch(box)
    page.write(shorten(name, width, TEXT), 0, top + photo_height + 4, TEXT)
    return page.render()


def write_comparison(
    path: Path,
    rows: Sequence[tuple[str, Mapping[str, Tensor], Mapping[str, str]]],
    kernels: Mapping[str, np.ndarray],
) -> None:
    """Write a PNG, atomically, with a row of crops per photo and the kernels below.

    rows: a photo's name, its crops (title -> (3, h, w) in 0..1), and notes by title, by default the
        photo's name.
    kernels: by title; drawn with a common brightness.
    """
    tiles = []
    for name, crops, notes in rows:
        for title, crop in crops.items():
            lines = [(title, INK), (notes.get(title, name), FAINT)]
            tiles.append(Tile(repeat_pixels(to_uint8(crop), PANEL), lines))
    brightest = max((kernel.max() for kernel in kernels.values()), default=1.0)
    side = max((max(kernel.shape) for kernel in kernels.values()), default=1)
    for title, kernel in kernels.items():
        pixels = repeat_pixels(colour_values(center_kernel(kernel, side) / brightest), PANEL)
        tiles.append(Tile(pixels, [(line, INK) for line in title.splitlines()]))
    write_uint8(path, stack([draw_tiles(tiles, len(rows[0][1]), PANEL, "", size=TEXT)]))


def draw_sensitivity(report: SensitivityReport) -> bytes:
    """Return a PNG: the loss of each layer alone in INT8, and the gain of float32 for the worst."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 0.22 * len(report.alone) + 1.6), dpi=110, layout="constrained")
    bars, curve = figure.subplots(1, 2, width_ratios=(3, 2))
    names = list(report.alone)
    start = min(report.alone.values()) - 3
    widths = [value - start for value in report.alone.values()]
    bars.barh(names, widths, left=start, color="#4c72b0")
    bars.invert_yaxis()
    bars.set_title("one layer alone in INT8: a shorter bar means more loss", fontsize=10)
    bars.set_xlabel("PSNR to float32, dB")
    bars.tick_params(axis="y", labelsize=7)
    times = [choice.time for choice in report.choices]
    curve.plot(times, [choice.similarity for choice in report.choices], "o-", color="#c44e52")
    for choice in report.choices:
        note = "all in INT8"
        if choice.kept:
            note = f"{choice.kept[0] if len(choice.kept) == 1 else len(choice.kept)} kept"
        point = choice.time, choice.similarity
        curve.annotate(note, point, (6, -10), textcoords="offset points", fontsize=8)
    curve.margins(0.25)
    curve.set_title(f"most sensitive layers kept in float32 ({report.method})", fontsize=10)
    curve.set_xlabel("time / float32")
    curve.set_ylabel("PSNR to float32, dB")
    curve.grid(alpha=0.3)
    return encode_uint8(render(figure), ".png")
