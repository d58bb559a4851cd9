"""Pages: Matplotlib figures measured in pixels, with images that are never resampled."""

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
DPI = 72  # a point is a pixel
INK, FAINT, GRID = "#222222", "#7d7d7d", "#e4e4e4"
MARGIN, GAP, FRAME = 24, 16, 3
TEXT = 11  # size of small text


def choose_evenly(values: Sequence[Value], count: int) -> list[Value]:
    """Return at most `count` of the values at even distances, the first and the last among them."""
    indices = np.linspace(0, len(values) - 1, min(count, len(values))).round().astype(int)
    return [values[index] for index in indices]


def shorten(text: str, width: int, size: float = TEXT) -> str:
    """Return a text on one line, cut in the middle to fit into about `width` pixels."""
    text, length = printable(text), int(width / (0.55 * size))
    return (
        text
        if len(text) <= length
        else f"{text[: length // 2]}…{text[len(text) - (length - 1) // 2 :]}"
    )


def repeat_pixels(pixels: np.ndarray, side: int) -> np.ndarray:
    """Repeat the pixels (h, w, ...) as often as the longer side fits into `side`, at least once."""
    factor = max(1, side // max(pixels.shape[:2]))
    return pixels.repeat(factor, 0).repeat(factor, 1)


def center_kernel(kernel: np.ndarray, side: int) -> np.ndarray:
    """Return the (side, side) values of a kernel around its index k//2, which moves to side//2; 0 beyond the kernel."""
    top, left = (side + length // 2 - side // 2 for length in kernel.shape)
    return np.pad(kernel, side)[top : top + side, left : left + side]


def colour_values(values: np.ndarray, colours: str = "inferno") -> np.ndarray:
    """Return values (h, w), clipped to 0..1, in the colours of a map of Matplotlib, (h, w, 3) uint8."""
    from matplotlib import colormaps

    return colormaps[colours](values, bytes=True)[..., :3]


def render(figure: "Figure") -> np.ndarray:
    """Return a figure as (H, W, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Glyph .* missing"
        )  # names of files in scripts that the font lacks
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


class Page:
    """An empty figure of so many pixels. Places are (left, top), in pixels from its upper left corner."""

    def __init__(self, width: int, height: int) -> None:
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self._figure = Figure((width / DPI, height / DPI), dpi=DPI, facecolor="white")

    def show(self, pixels: np.ndarray, left: int, top: int) -> None:
        """Place an image (h, w, 3) uint8, pixel by pixel."""
        self._figure.figimage(pixels, left, self.height - top - len(pixels), origin="upper")

    def write(
        self, text: str, left: float, top: float, size: float = TEXT, colour: str = INK
    ) -> None:
        """Write a text below and to the right of a place."""
        x, y = left / self.width, 1 - top / self.height
        self._figure.text(x, y, text, va="top", fontsize=size, color=colour, parse_math=False)

    def plot(self, left: int, top: int, width: int, height: int, title: str = "") -> "Axes":
        """Return axes whose data area has that place and size, with grid lines and the title above them."""
        x, y = left / self.width, 1 - (top + height) / self.height
        axes = self._figure.add_axes(
            (x, y, width / self.width, height / self.height), zorder=1
        )  # above images
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
    """An image (h, w, 3) uint8, lines of text with their colours below it, and the colour of its frame."""

    pixels: np.ndarray
    lines: Sequence[tuple[str, str]]
    frame: str | None = None


def draw_tiles(
    tiles: Sequence[Tile], columns: int, side: int, title: str, colour: str = INK, size: int = TEXT
) -> np.ndarray:
    """Draw tiles of a width up to `side` in rows below a title; `size` is that of the text below the tiles."""
    from matplotlib.colors import to_rgb

    line = round(1.4 * size)
    width = columns * (side + GAP) - GAP + 2 * FRAME
    head = Page(width, 8 + 18 * len(title.splitlines()))
    head.write(title, FRAME, 2, 13, colour)
    rows = [head.render()]
    for start in range(0, len(tiles), columns):
        row = tiles[start : start + columns]
        height = max(len(tile.pixels) for tile in row)
        page = Page(width, height + line * max(len(tile.lines) for tile in row) + GAP + FRAME)
        for index, tile in enumerate(row):
            left = FRAME + index * (side + GAP)
            if tile.frame:
                shape = (len(tile.pixels) + 2 * FRAME, tile.pixels.shape[1] + 2 * FRAME, 3)
                page.show(
                    np.full(shape, np.rint(np.multiply(to_rgb(tile.frame), 255)), np.uint8),
                    left - FRAME,
                    0,
                )
            page.show(tile.pixels, left, FRAME)
            for number, (text, ink) in enumerate(tile.lines):
                page.write(
                    shorten(text, side, size), left, height + 2 * FRAME + number * line, size, ink
                )
        rows.append(page.render())
    return np.concatenate(rows)


def stack(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Stack blocks (h, w, 3) of one width, and put a white margin around them."""
    return np.pad(
        np.concatenate(blocks), ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), constant_values=255
    )
