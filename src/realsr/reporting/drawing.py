"""Matplotlib figures laid out in pixels, with images that are never resampled."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from realsr.core.file_names import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Value = TypeVar("Value")
DPI = 72  # so that a point is a pixel
INK, FAINT, GRID = "#222222", "#7d7d7d", "#e4e4e4"
MARGIN, GAP, FRAME = 24, 16, 3
TEXT = 11  # size of small text in pixels


def choose_evenly(values: Sequence[Value], count: int) -> list[Value]:
    """Return at most `count` evenly spaced values, including the first and the last."""
    indices = np.linspace(0, len(values) - 1, min(count, len(values))).round().astype(int)
    return [values[index] for index in indices]


def shorten(text: str, width: int, size: float = TEXT) -> str:
    """Return a text shortened in its middle to one line of about `width` pixels."""
    text, length = printable(text), int(width / (0.55 * size))
    if len(text) <= length:
        return text
    return f"{text[: length // 2]}…{text[len(text) - (length - 1) // 2 :]}"


def repeat_pixels(pixels: np.ndarray, side: int) -> np.ndarray:
    """Return an image (h, w, ...) magnified by repeating pixels, the longer side up to `side`.

    The factor is a whole number, at least 1.
    """
    factor = max(1, side // max(pixels.shape[:2]))
    return pixels.repeat(factor, 0).repeat(factor, 1)


def center_kernel(kernel: np.ndarray, side: int) -> np.ndarray:
    """Return a kernel cropped or zero-padded to (side, side), with its index k//2 at side//2."""
    top, left = (side + length // 2 - side // 2 for length in kernel.shape)
    return np.pad(kernel, side)[top : top + side, left : left + side]


def colour_values(values: np.ndarray, colours: str = "inferno") -> np.ndarray:
    """Return values (h, w), clipped to 0..1, in a Matplotlib colour map: (h, w, 3) uint8."""
    from matplotlib import colormaps

    return colormaps[colours](values, bytes=True)[..., :3]


def render(figure: "Figure") -> np.ndarray:
    """Return a figure as (H, W, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # The font lacks some scripts that file names may use.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


class Page:
    """An empty figure. Sizes and positions (left, top) are in pixels from its upper left corner."""

    def __init__(self, width: int, height: int) -> None:
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self._figure = Figure((width / DPI, height / DPI), dpi=DPI, facecolor="white")

    def show(self, pixels: np.ndarray, left: int, top: int) -> None:
        """Draw an image (h, w, 3) uint8 at its own size."""
        self._figure.figimage(pixels, left, self.height - top - len(pixels), origin="upper")

    def write(
        self, text: str, left: float, top: float, size: float = TEXT, colour: str = INK
    ) -> None:
        """Write a text with its upper left corner at a position."""
        x, y = left / self.width, 1 - top / self.height
        self._figure.text(x, y, text, va="top", fontsize=size, color=colour, parse_math=False)

    def plot(self, left: int, top: int, width: int, height: int, title: str = "") -> "Axes":
        """Return axes whose data area has this position and size, with grid lines and a title."""
        x, y = left / self.width, 1 - (top + height) / self.height
        area = (x, y, width / self.width, height / self.height)
        axes = self._figure.add_axes(area, zorder=1)  # in front of images
        axes.set_title(title, loc="left", fontsize=13)
        axes.tick_params(colors=FAINT, labelsize=11, length=0)
        axes.xaxis.label.set_color(FAINT)
        axes.spines[:].set_visible(False)
        axes.grid(axis="y", color=GRID)
        axes.set_axisbelow(True)
        return axes

    def render(self) -> np.ndarray:
        """Return the page as (height, width, 3) uint8."""
        return render(self._figure)


@dataclass(frozen=True)
class Tile:
    """An image with text below it.

    pixels: (h, w, 3) uint8. lines: (text, colour). frame: the colour of its frame.
    """

    pixels: np.ndarray
    lines: Sequence[tuple[str, str]]
    frame: str | None = None


def draw_tiles(
    tiles: Sequence[Tile], columns: int, side: int, title: str, size: int = TEXT
) -> np.ndarray:
    """Draw tiles in rows below a title, as (H, W, 3) uint8.

    side: maximum width of a tile in pixels. size: of the text below tiles.
    """
    from matplotlib.colors import to_rgb

    line = round(1.4 * size)
    width = columns * (side + GAP) - GAP + 2 * FRAME
    head = Page(width, 8 + 18 * len(title.splitlines()))
    head.write(title, FRAME, 2, 13)
    rows = [head.render()]
    for start in range(0, len(tiles), columns):
        row = tiles[start : start + columns]
        height = max(len(tile.pixels) for tile in row)
        page = Page(width, height + line * max(len(tile.lines) for tile in row) + GAP + FRAME)
        for index, tile in enumerate(row):
            left = FRAME + index * (side + GAP)
            if tile.frame:
                shape = (len(tile.pixels) + 2 * FRAME, tile.pixels.shape[1] + 2 * FRAME, 3)
                rgb = np.rint(np.multiply(to_rgb(tile.frame), 255))
                page.show(np.full(shape, rgb, np.uint8), left - FRAME, 0)
            page.show(tile.pixels, left, FRAME)
            for number, (text, ink) in enumerate(tile.lines):
                top = height + 2 * FRAME + number * line
                page.write(shorten(text, side, size), left, top, size, ink)
        rows.append(page.render())
    return np.concatenate(rows)


def stack(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Return blocks (h, w, 3) of the same width stacked vertically, with a white margin."""
    margins = ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0))
    return np.pad(np.concatenate(blocks), margins, constant_values=255)
