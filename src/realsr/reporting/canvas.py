"""What pictures for a report are put together of: blocks of (h, w, 3) uint8 RGB on white, side by side and below."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from realsr.core.file_names import printable

Block = np.ndarray
Colour = tuple[int, int, int]
INK: Colour = (34, 34, 34)
FAINT: Colour = (125, 125, 125)
GRID: Colour = (228, 228, 228)
PAIR: tuple[Colour, Colour] = ((31, 110, 180), (226, 116, 24))


def encode_figure(figure: Any) -> bytes:
    """Return a figure of matplotlib as PNG."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def blank(height: int, width: int) -> Block:
    """Return a white block."""
    return np.full((height, width, 3), 255, np.uint8)


def beside(blocks: Sequence[Block], gap: int = 16) -> Block:
    """Put blocks side by side, their tops in line."""
    height = max(len(block) for block in blocks)
    padded = [np.pad(b, ((0, height - len(b)), (0, gap), (0, 0)), constant_values=255) for b in blocks]
    return np.concatenate(padded, axis=1)[:, :-gap] if gap else np.concatenate(padded, axis=1)


def below(blocks: Sequence[Block], gap: int = 12) -> Block:
    """Put blocks below each other, their left sides in line."""
    return beside([block.swapaxes(0, 1) for block in blocks], gap).swapaxes(0, 1)


def framed(block: Block, margin: int = 24) -> Block:
    """Put a white margin around a block."""
    return np.ascontiguousarray(np.pad(block, ((margin, margin), (margin, margin), (0, 0)), constant_values=255))


def write_text(
    block: Block, at: tuple[float, float], text: str, size: int = 13, colour: Colour = INK, anchor: str = "la"
) -> None:
    """Write text into a block at (x, y); anchor: Pillow's, e.g. `la` left and top, `mm` the middle."""
    picture = Image.fromarray(block)
    ImageDraw.Draw(picture).text(at, text, colour, ImageFont.load_default(size), anchor=anchor)
    block[:] = np.asarray(picture)


def label(text: str, width: int, size: int = 13, colour: Colour = INK) -> Block:
    """Return a line of text, such as the name of a file, as a block; what does not fit is cut in the middle."""
    text = printable(text)
    font = ImageFont.load_default(size)
    keep = len(text)
    short = text
    while font.getlength(short) > width and keep > 4:
        keep -= 1
        short = f"{text[: keep // 2]}…{text[-(keep - keep // 2) :]}"
    block = blank(size + 5, width)
    write_text(block, (0, 1), short, size, colour)
    return block


@dataclass(frozen=True)
class Curve:
    """A line through (x, y); `band` is (lowest, highest) y around it."""

    x: np.ndarray
    y: np.ndarray
    colour: Colour
    name: str = ""
    dashed: bool = False
    band: tuple[np.ndarray, np.ndarray] | None = None


def plot(
    curves: Sequence[Curve],
    title: str,
    x_label: str,
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    size: tuple[int, int] = (250, 380),
    mark: tuple[float, str] | None = None,
) -> Block:
    """Draw curves between the first and the last of the ticks. size: (height, width); mark: an x with a name."""
    height, width = size
    block = blank(height, width)
    left, top, right, bottom = 38, 28, width - 8, height - 40

    def place(x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
        across = left + (np.asarray(x) - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (right - left)
        up = bottom - (np.clip(y, y_ticks[0], y_ticks[-1]) - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (bottom - top)
        return np.stack(np.broadcast_arrays(across, up), axis=-1)

    def draw(points: np.ndarray, colour: Colour, thickness: int = 1) -> None:
        cv2.polylines(block, [np.round(points * 16).astype(np.int32)], False, colour, thickness, cv2.LINE_AA, 4)

    write_text(block, (left, 4), title, 13)
    for tick in y_ticks:
        draw(place(np.array(x_ticks[:: len(x_ticks) - 1]), tick), GRID)
        write_text(block, (left - 6, place(0, tick)[1]), f"{tick:g}", 11, FAINT, "rm")
    for tick in x_ticks:
        write_text(block, (place(tick, 0)[0], bottom + 5), f"{tick:g}", 11, FAINT, "ma")
    write_text(block, ((left + right) / 2, bottom + 21), x_label, 11, FAINT, "ma")
    if mark is not None:
        draw(place(mark[0], np.array(y_ticks[:: len(y_ticks) - 1])), FAINT)
        write_text(block, (place(mark[0], 0)[0] + 4, top + 1), mark[1], 11, FAINT)
    for curve in curves:
        if curve.band is not None:
            edge = np.concatenate([place(curve.x, curve.band[0]), place(curve.x, curve.band[1])[::-1]])
            shade = block.copy()
            cv2.fillPoly(shade, [np.round(edge * 16).astype(np.int32)], curve.colour, cv2.LINE_AA, 4)
            block[:] = cv2.addWeighted(shade, 0.18, block, 0.82, 0)
    for curve in curves:
        for piece in _dashes(place(curve.x, curve.y)) if curve.dashed else [place(curve.x, curve.y)]:
            draw(piece, curve.colour, 2)
    _write_names(block, curves, right, top + (16 if mark else 2))
    return block


def _dashes(points: np.ndarray, length: float = 7.0) -> list[np.ndarray]:
    """Cut a line into pieces, every second of which is left out."""
    way = np.concatenate([[0], np.hypot(*np.diff(points, axis=0).T).cumsum()])
    fine = np.arange(0, way[-1], 1.0)
    dense = np.stack([np.interp(fine, way, axis) for axis in points.T], axis=1)
    step = int(length)
    return [dense[start : start + step] for start in range(0, len(dense), 2 * step)]


def _write_names(block: Block, curves: Sequence[Curve], right: int, top: int) -> None:
    for index, curve in enumerate(curve for curve in curves if curve.name):
        y = top + 16 * index
        write_text(block, (right - 4, y), curve.name, 11, curve.colour, "ra")
        start = right - 10 - ImageFont.load_default(11).getlength(curve.name)
        line = np.array([[start - 20, y + 8], [start, y + 8]])
        for piece in _dashes(line, 4) if curve.dashed else [line]:
            cv2.polylines(block, [np.round(piece * 16).astype(np.int32)], False, curve.colour, 2, cv2.LINE_AA, 4)


def heat_matrix(values: np.ndarray, names: Sequence[str], colour: Colour, cell: int = 46) -> Block:
    """Draw a matrix of values in -1..1 as coloured cells with their numbers, rows and columns named."""
    count = len(values)
    block = blank(cell * count + 18, cell * count + 18)
    for index, name in enumerate(names):
        write_text(block, (18 + cell * (index + 0.5), 8), name, 11, FAINT, "mm")
        write_text(block, (8, 18 + cell * (index + 0.5)), name, 11, FAINT, "mm")
    for row, column in np.ndindex(count, count):
        value = float(np.clip(values[row, column], -1, 1))
        strength = 0.75 * abs(value)
        shade = np.array(colour if value >= 0 else FAINT) * strength + 255 * (1 - strength)
        top, left = 18 + cell * row, 18 + cell * column
        block[top : top + cell - 1, left : left + cell - 1] = shade.round()
        ink = (255, 255, 255) if strength > 0.5 else INK
        write_text(block, (left + cell / 2, top + cell / 2), f"{value:.2f}", 12, ink, "mm")
    return block


def window_kernel(kernel: np.ndarray, side: int) -> np.ndarray:
    """Return the (side, side) values of a kernel around its index k//2, which comes to side//2; 0 beyond the kernel."""
    top, left = (side + length // 2 - side // 2 for length in kernel.shape)
    return np.pad(kernel, side)[top : top + side, left : left + side]


def colour_values(values: np.ndarray) -> Block:
    """Return values (h, w) of 0..1 as colours from black to bright; below and above are clipped."""
    levels = np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1]
