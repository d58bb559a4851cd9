"""Figures of models side by side: as papers print them, a photo with a box and the detail in it; and of the demo."""

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
from realsr.evaluation.metric import ImageMetric
from realsr.evaluation.scoring import bicubic_model
from realsr.imaging import to_uint8, write_uint8
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
    repeat_pixels,
    shorten,
    stack,
)

ALL = "all"
BOX = "#e03131"
PANEL = 256  # pixels of a detail's longer side, at most
LARGEST = 512  # the same of a detail that is larger by itself
WIDEST = 1.5  # the photo's width / the grid's height
TEXT = 14


@dataclass(frozen=True)
class Window:
    """A place in an image, in its pixels."""

    left: int
    top: int
    width: int
    height: int

    def cut(self, image: Tensor) -> Tensor:
        """Return the part of (..., H, W)."""
        return image[..., self.top : self.top + self.height, self.left : self.left + self.width]

    def shrunk(self, factor: int) -> "Window":
        """Return the same place in an image shrunk by a whole number, of which all four are multiples."""
        return Window(
            *(value // factor for value in (self.left, self.top, self.width, self.height))
        )

    def widened(self, grid: int) -> "Window":
        """Return the smallest window around it whose corners lie on multiples of `grid`."""
        left, top = self.left // grid * grid, self.top // grid * grid
        right, bottom = (
            -(-end // grid) * grid for end in (self.left + self.width, self.top + self.height)
        )
        return Window(left, top, right - left, bottom - top)


def parse_figures(texts: Sequence[str], images: Collection[str]) -> dict[str, Window | None]:
    """Return the window, if one is given, of each image to be shown.

    texts: `NAME`, `NAME:LEFT,TOP,WIDTH,HEIGHT` (HR pixels; colons or commas), or `all` for all images. Raises
    UserError for any other text.
    """
    figures: dict[str, Window | None] = {}
    for text in texts:
        match = re.fullmatch(r"(.+?):(\d+)[,:](\d+)[,:](\d+)[,:](\d+)", text)
        name, window = (match[1], Window(*map(int, match.groups()[1:]))) if match else (text, None)
        if name == ALL and window is None and ALL not in images:
            figures |= {image: figures.get(image) for image in images}
        elif name not in images or (window is not None and 0 in (window.width, window.height)):
            listed = ", ".join(sorted(images)[:10]) + (" …" if len(images) > 10 else "")
            raise UserError(
                f"figures: {text}: expected NAME or NAME:LEFT:TOP:WIDTH:HEIGHT in HR pixels, or {ALL}; the images are "
                f"{listed}"
            )
        else:
            figures[name] = window
    return figures


class Figures:
    """Collects results of chosen images, and writes the figure of an image with the last model's result.

    Args:
        folder: gets NAME.png.
        figures: what `parse_figures` returns.
        names: model -> its title, in the order of evaluation.
        metrics: of which the first two are printed below each detail, as scores of the whole image.
        scale: HR pixels for one of LR.
    """

    def __init__(
        self,
        folder: Path,
        figures: Mapping[str, Window | None],
        names: Mapping[str, str],
        metrics: Mapping[str, ImageMetric],
        scale: int,
    ) -> None:
        self.failed: dict[str, str] = {}
        self._folder, self._figures, self._names = folder, figures, names
        self._metrics, self._scale = dict(list(metrics.items())[:2]), scale
        self._results: dict[str, Tensor] = {}
        self._notes: dict[str, str] = {}

    def add(
        self, image: EvaluationImage, model: str, sr: Tensor, scores: Mapping[str, float]
    ) -> None:
        """Add a result; the last model's writes the figure. Figures that cannot be drawn are reported in `failed`."""
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
                self.failed[f"figure of {image.name}"] = str(error)

    def _write(self, image: EvaluationImage) -> None:
        window = self._window(image)
        details = {"LR": window.shrunk(self._scale).cut(image.lr)}
        details |= {name: window.cut(sr) for name, sr in self._results.items()}
        notes = {"LR": " / ".join(self._metrics)} | self._notes
        photo, box = image.lr, window.shrunk(self._scale)
        if image.hr is not None:
            details["HR"] = window.cut(image.hr)
            photo, box = image.hr, window
        self._folder.mkdir(parents=True, exist_ok=True)
        write_uint8(
            self._folder / f"{image.name}.png", draw_crops(image.name, photo, box, details, notes)
        )

    def _window(self, image: EvaluationImage) -> Window:
        height, width = (side * self._scale for side in image.lr.shape[1:])
        window = self._figures[image.name]
        if window is None:
            images = list(self._results.values())
            if len(images) == 1:
                images.append(
                    image.hr if image.hr is not None else bicubic_model(self._scale)(image.lr)
                )
            return choose_window(images, min(128, max(32, min(height, width) // 6)), self._scale)
        wide = window.widened(self._scale)
        if wide.left + wide.width > width or wide.top + wide.height > height:
            text = f"{window.left},{window.top},{window.width},{window.height}"
            raise ValueError(f"{text} reaches beyond its {width}x{height} pixels")
        return wide


def _note(name: str, value: float, metric: ImageMetric) -> str:
    return f"{value:.{metric.digits}f}" + (" dB" if name.startswith("psnr") else "")


def choose_window(images: Sequence[Tensor], size: int, grid: int = 1) -> Window:
    """Return where images differ most: the square with the largest sum of squared differences over all pairs.

    images: (3, H, W) in 0..1 of one size, a multiple of `grid`; two or more. size: side in pixels, less where the
    image is smaller. Its corners lie on multiples of `grid`.
    """
    height, width = images[0].shape[1:]
    spread = torch.stack([(a - b).square().sum(dim=0) for a, b in combinations(images, 2)]).sum(
        dim=0
    )
    cells = (
        spread.double().reshape(height // grid, grid, width // grid, grid).sum(dim=(1, 3)).numpy()
    )
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
    details: Mapping[str, Tensor],
    notes: Mapping[str, str],
) -> np.ndarray:
    """Draw a photo with a box around the window, and beside it the details, each with its title and note below.

    Args:
        name: the photo's title.
        photo: (3, H, W) in 0..1.
        window: of the photo.
        details: title -> the window's content, (3, h, w); all of the window's shape, at any whole number of pixels for
            one of the photo's. They are brought to one size by repeating pixels.
        notes: title -> a line below the title, e.g. "27.17 dB".
    """
    rows = 1 if len(details) <= 2 else 2 if len(details) <= 8 else 3
    height, width = max(tuple(detail.shape[1:]) for detail in details.values())
    longest = max(height, width)
    factor = max(1, PANEL // longest) if longest <= LARGEST else 1 / -(-longest // LARGEST)
    size = max(1, int(width * factor)), max(1, int(height * factor))
    tiles = []
    for title, detail in details.items():
        pixels = cv2.resize(to_uint8(detail), size, interpolation=cv2.INTER_NEAREST_EXACT)
        tiles.append(Tile(pixels, [(title, INK), (notes.get(title, ""), FAINT)]))
    grid = draw_tiles(tiles, -(-len(tiles) // rows), max(size[0], 120), "", size=TEXT)
    return stack([np.concatenate([_draw_photo(name, photo, window, len(grid)), grid], axis=1)])


def _draw_photo(name: str, photo: Tensor, window: Window, height: int) -> np.ndarray:
    """Draw the photo with the window's box and its name below it, fit into that height."""
    from matplotlib.patches import Rectangle

    factor = min((height - 50) / photo.shape[1], WIDEST * (height - 50) / photo.shape[2])
    shown_height, shown_width = (max(1, round(side * factor)) for side in photo.shape[1:])
    width = max(shown_width, 160)
    page, top = Page(width + GAP, height), 8 + FRAME
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    page.show(
        cv2.resize(to_uint8(photo), (shown_width, shown_height), interpolation=method), 0, top
    )
    axes = page.plot(0, top, shown_width, shown_height)
    axes.set(xlim=(0, photo.shape[2]), ylim=(photo.shape[1], 0))
    axes.set_axis_off()
    corner = window.left, window.top
    for colour, line in (("white", 5), (BOX, 3)):
        box = Rectangle(
            corner,
            window.width,
            window.height,
            edgecolor=colour,
            linewidth=line,
            fill=False,
            clip_on=False,
        )
        axes.add_patch(box)
    page.write(shorten(name, width, TEXT), 0, top + shown_height + 4, TEXT)
    return page.render()


def write_comparison(
    path: Path,
    rows: Sequence[tuple[str, Mapping[str, Tensor], Mapping[str, str]]],
    kernels: Mapping[str, np.ndarray],
) -> None:
    """Draw a row of crops per photo, and the kernels at one brightness in rows below; write a PNG, atomically.

    rows: a photo's name, its crops (title -> (3, h, w) in 0..1), and notes for some of the titles; others get the name.
    """
    tiles = []
    for name, images, notes in rows:
        for title, image in images.items():
            tiles.append(
                Tile(
                    repeat_pixels(to_uint8(image), PANEL),
                    [(title, INK), (notes.get(title, name), FAINT)],
                )
            )
    brightest = max(kernel.max() for kernel in kernels.values())
    side = max(max(kernel.shape) for kernel in kernels.values())
    for title, kernel in kernels.items():
        pixels = repeat_pixels(colour_values(center_kernel(kernel, side) / brightest), PANEL)
        tiles.append(Tile(pixels, [(line, INK) for line in title.splitlines()]))
    write_uint8(path, stack([draw_tiles(tiles, len(rows[0][1]), PANEL, "", size=TEXT)]))
