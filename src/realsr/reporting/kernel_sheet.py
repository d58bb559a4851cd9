"""A sheet of all kernels, to see at a glance which are sound."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from realsr.core.file_names import printable
from realsr.imaging import write_uint8
from realsr.imaging.kernel_shapes import load_kernel
from realsr.reporting.canvas import colour_values, window_kernel

MOST = 400  # kernels on one sheet
WINDOW = 17  # pixels of a kernel that are shown, around its middle
ENLARGED = 8
MARGIN, LINE, CHARACTERS = 10, 15, 24
PICTURE = WINDOW * ENLARGED
WIDTH = PICTURE + 2 * MARGIN
HEAD = 62  # height of the title
PAPER, INK, FAINT, RED = (250, 250, 250), (30, 30, 30), (110, 110, 110), (190, 30, 45)


@dataclass(frozen=True)
class KernelTile:
    """A kernel (k, l), or None where there is none to show, with lines below it; `rejected` says why, if it is."""

    name: str
    kernel: np.ndarray | None
    lines: Sequence[str]
    rejected: Sequence[str] = ()


def choose_evenly(names: Sequence[str], most: int = MOST) -> list[str]:
    """Return at most so many of the names, at even distances, with the first and the last among them."""
    if len(names) <= most:
        return list(names)
    return [names[round(i * (len(names) - 1) / (most - 1))] for i in range(most)]


def draw_sheet(path: Path, pool: Path, items: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw the x2 kernels of the items of a pool's manifest, the first of each item's draws."""
    rejected = sum(bool(item["rejected"]) for item in items.values())
    shown = choose_evenly(sorted(items))
    title = f"{len(items) - rejected} kernels for scale 2" + (f", and {rejected} rejected (red)" if rejected else "")
    if len(shown) < len(items):
        title += f"; {len(shown)} of them, evenly chosen by name"
    write_kernel_sheet(path, [_tile(name, items[name], pool) for name in shown], title)


def _tile(name: str, item: Mapping[str, Any], pool: Path) -> KernelTile:
    paths = sorted(pool / relative for relative in item["files"] if relative.endswith("_x2.mat"))
    health, lines = item["health"] or {}, []
    if "spread_long" in health:
        lines.append(f"spread {health['spread_long']:.2f} x {health['spread_short']:.2f} px")
    if "sum" in health:
        seeds = "" if health.get("agreement") is None else f"  seeds {health['agreement']:.0f} dB"
        lines.append(f"sum {health['sum']:.2f}{seeds}")
    kernel = load_kernel(paths[0]) if paths else None
    return KernelTile(name, kernel, lines, item["rejected"])


def write_kernel_sheet(path: Path, tiles: Sequence[KernelTile], title: str) -> None:
    """Draw kernels in rows, each at its own brightness, since their shapes are compared; write it atomically."""
    columns = min(len(tiles), max(4, math.ceil(math.sqrt(1.5 * len(tiles)))))
    texts = [_texts(tile) for tile in tiles]
    # A row is as high as its longest text.
    most = [max(map(len, texts[start : start + columns])) for start in range(0, len(tiles), columns)]
    heights = [PICTURE + LINE * lines + 4 * MARGIN for lines in most]
    tops = [HEAD, *(HEAD + below for below in accumulate(heights))]
    sheet = Image.new("RGB", (max(columns * WIDTH, 420) + 2 * MARGIN, tops[-1]), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((2 * MARGIN, MARGIN), title, INK, ImageFont.load_default(15))
    draw.text((2 * MARGIN, MARGIN + 22), "each at its own brightness; black is 0", FAINT, ImageFont.load_default(11))
    for position, (tile, lines) in enumerate(zip(tiles, texts, strict=True)):
        row, column = divmod(position, columns)
        x, y = MARGIN + column * WIDTH, tops[row]
        if tile.rejected:
            draw.rectangle((x + 3, y - 7, x + WIDTH - 4, tops[row + 1] - 2 * MARGIN), outline=RED, width=2)
        sheet.paste(Image.fromarray(paint_kernel(tile.kernel)), (x + MARGIN, y))
        for number, (text, colour) in enumerate(lines):
            font = ImageFont.load_default(12 if number == 0 else 11)
            place = (x + MARGIN, y + PICTURE + MARGIN // 2 + number * LINE)
            draw.text(place, _shorten(text, font), colour, font)
    write_uint8(path, np.asarray(sheet))


def paint_kernel(kernel: np.ndarray | None) -> np.ndarray:
    """Paint a kernel's middle, enlarged by nearest neighbour, its maximum brightest: (136, 136, 3) uint8 RGB."""
    if kernel is None:
        return np.full((PICTURE, PICTURE, 3), 220, np.uint8)
    painted = colour_values(window_kernel(kernel, WINDOW) / kernel.max())
    return np.ascontiguousarray(painted.repeat(ENLARGED, 0).repeat(ENLARGED, 1))


def _texts(tile: KernelTile) -> list[tuple[str, tuple[int, int, int]]]:
    lines = [(printable(tile.name), INK), *((line, FAINT) for line in tile.lines)]
    for reason in tile.rejected[:1]:
        lines += [(line, RED) for line in textwrap.wrap(reason, CHARACTERS)[:2]]
    if len(tile.rejected) > 1:
        lines.append((f"and {len(tile.rejected) - 1} more", RED))
    return lines


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Cut a text to the width of a kernel's picture."""
    if font.getlength(text) <= PICTURE:
        return text
    while text and font.getlength(text + "…") > PICTURE:
        text = text[:-1]
    return text + "…"
