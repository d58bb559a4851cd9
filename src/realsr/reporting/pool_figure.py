"""A sheet of the kernels of a pool, with the reasons why some were rejected."""

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from realsr.imaging import write_uint8
from realsr.imaging.kernel_shapes import load_kernel
from realsr.reporting.drawing import (
    FAINT,
    INK,
    Tile,
    center_kernel,
    choose_evenly,
    colour_values,
    draw_tiles,
    repeat_pixels,
    stack,
)

RED = "#be1e2d"

WIDTH = 1150
KERNEL_SIDE, KERNEL_COLUMNS = 100, 6
NOISE_SIDE, NOISE_COLUMNS = 128, 8
MAX_KERNELS = 400  # on the sheet
WINDOW = 17  # side of the central part of a kernel that the sheet shows
SHEET_SIDE = 8 * WINDOW


def draw_sheet(path: Path, pool: Path, items: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a PNG, atomically, of the x2 kernels of a pool; the first draw of each item.

    items: of the pool's manifest. Each kernel is scaled to its own maximum, to compare shapes.
    """
    rejections = sum(bool(item["rejected"]) for item in items.values())
    names = choose_evenly(sorted(items), MAX_KERNELS)
    title = f"{len(items) - rejections} kernels for scale 2"
    if rejections:
        title += f", and {rejections} rejected (red)"
    if len(names) < len(items):
        title += f"; {len(names)} shown, evenly chosen by name"
    title += "\neach scaled to its own maximum; black is 0"
    columns = max(4, math.ceil(math.sqrt(1.5 * len(names))))
    tiles = [_make_sheet_tile(name, items[name], pool) for name in names]
    write_uint8(path, stack([draw_tiles(tiles, columns, SHEET_SIDE, title)]))


def _make_sheet_tile(name: str, item: Mapping[str, Any], pool: Path) -> Tile:
    """Return a tile of an item's kernel (gray if missing), with its numbers and reject reason."""
    paths = sorted(pool / relative for relative in item["files"] if relative.endswith("_x2.mat"))
    health, lines = item["health"] or {}, [(name, INK)]
    if "spread_long" in health:
        spread = f"spread {health['spread_long']:.2f} x {health['spread_short']:.2f} px"
        lines.append((spread, FAINT))
    if "sum" in health:
        seeds = "" if health.get("agreement") is None else f"  seeds {health['agreement']:.0f} dB"
        lines.append((f"sum {health['sum']:.2f}{seeds}", FAINT))
    reasons = item["rejected"]
    for reason in reasons[:1]:
        lines += [(line, RED) for line in textwrap.wrap(reason, SHEET_SIDE // 6)[:2]]
    if len(reasons) > 1:
        lines.append((f"and {len(reasons) - 1} more", RED))
    gray = np.full((SHEET_SIDE, SHEET_SIDE, 3), 220, np.uint8)
    pixels = paint_kernel(load_kernel(paths[0])) if paths else gray
    return Tile(pixels, lines, RED if reasons else None)


def paint_kernel(kernel: np.ndarray) -> np.ndarray:
    """Return a kernel's centre magnified, scaled to its maximum: (136, 136, 3) uint8 RGB."""
    return repeat_pixels(colour_values(center_kernel(kernel, WINDOW) / kernel.max()), SHEET_SIDE)
