"""HTML pages in one file: sections of text, tables, plots, cards and image comparisons.

A page requests nothing from outside. Its template, style sheet and script are in the folder `page`,
with img-comparison-slider (MIT), which draws the comparisons.
"""

import base64
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from realsr import __version__
from realsr.core.file_names import printable
from realsr.core.files import write_bytes
from realsr.imaging import encode_uint8

if TYPE_CHECKING:
    from jinja2 import Template

logger = logging.getLogger("realsr")

FILES = Path(__file__).parent / "page"
SLIDER = FILES / "img-comparison-slider"
MAX_BYTES = 15_000_000
CROP = 320  # side of the crops in comparisons, in pixels
THUMBNAIL = 160  # maximum of the longer side in pixels


@dataclass(frozen=True)
class Link:
    """A link to an anchor of the page, `#name`, or to data that a click downloads."""

    text: str
    target: str
    download: str = ""


Inline = str | Link | Sequence[str | Link]


@dataclass(frozen=True)
class Picture:
    """An embedded image with its text alternative. pixelated: enlarge by repeating pixels."""

    source: str
    alt: str
    width: int
    height: int
    pixelated: bool = False


@dataclass(frozen=True)
class Plot:
    """A figure as inline SVG with a title below."""

    svg: str
    title: str


@dataclass(frozen=True)
class Card:
    """An item of a list: images, a title and lines. `anchor` is the target of links to it."""

    title: str
    images: Sequence[Picture] = ()
    lines: Sequence[Inline] = ()
    anchor: str = ""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph."""

    content: Inline


@dataclass(frozen=True)
class Facts:
    """Names with their values."""

    rows: Mapping[str, Inline]


@dataclass(frozen=True)
class PageTable:
    """A table; the first cell of each row names it."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Inline]]


@dataclass(frozen=True)
class Plots:
    """Plots side by side where the window is wide enough."""

    plots: Sequence[Plot]


@dataclass(frozen=True)
class Comparison:
    """Images of one size in two choices, `left` and `right`, with a divider between them."""

    name: str
    images: Mapping[str, Picture]
    left: str
    right: str
    note: str = ""


@dataclass(frozen=True)
class Cards:
    """Cards in a grid."""

    cards: Sequence[Card]


@dataclass(frozen=True)
class PlainText:
    """Text with its own line breaks, in a font of fixed width."""

    title: str
    content: str


@dataclass(frozen=True)
class Details:
    """Blocks that a click unfolds."""

    title: str
    blocks: Sequence["Block"]


Block = Paragraph | Facts | PageTable | Plots | Comparison | Cards | PlainText | Details


@dataclass(frozen=True)
class Section:
    """A titled part of a page. anchor: its name in links."""

    anchor: str
    title: str
    blocks: Sequence[Block]


def write_page(path: Path, title: str, subtitle: str, sections: Sequence[Section]) -> None:
    """Write a page, atomically; sections without blocks are omitted.

    Logs a warning for a page above 15 MB.
    """
    sections = [section for section in sections if section.blocks]
    with_slider = any(isinstance(block, Comparison) for s in sections for block in s.blocks)
    css, script = _read(FILES / "report.css"), _read(FILES / "report.js")
    component = _read(SLIDER / "index.js").partition("//# sourceMappingURL")[0]
    text = _template().render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        version=__version__,
        with_slider=with_slider,
        css=_read(SLIDER / "styles.css") + css if with_slider else css,
        script=f"{component}\n{script}",
        slider_licence=_read(SLIDER / "LICENSE"),
    )
    data = text.encode("utf-8", "backslashreplace")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data)
    if len(data) > MAX_BYTES:
        logger.warning("%s: %.0f MB: some browsers open it slowly", path, len(data) / 1e6)


def embed(pixels: np.ndarray, alt: str, pixelated: bool = False, suffix: str = ".png") -> Picture:
    """Return an image (H, W, 3) uint8 as a picture. suffix: `.png`, without loss, or `.jpg`."""
    code = base64.b64encode(encode_uint8(pixels, suffix)).decode()
    height, width = pixels.shape[:2]
    source = f"data:image/{'png' if suffix == '.png' else 'jpeg'};base64,{code}"
    return Picture(source, printable(alt), width, height, pixelated)


def compare(
    name: str,
    images: Mapping[str, np.ndarray],
    sides: tuple[str, str],
    note: str = "",
    scale: int = 1,
) -> Comparison:
    """Return a comparison of the centre of images (H, W, 3) uint8 of one size.

    sides: titles of the images that are shown first, left and right. The image `LR`, enlarged by
    repeating pixels, is stored at its own size, every `scale`-th pixel.
    """
    pictures, side = {}, CROP // scale * scale
    for title, pixels in images.items():
        top, left = ((max(0, n - side) // 2) // scale * scale for n in pixels.shape[:2])
        step = scale if title == "LR" else 1
        crop = np.ascontiguousarray(pixels[top : top + side : step, left : left + side : step])
        pictures[title] = embed(crop, f"{title} of {name}", pixelated=title == "LR")
    return Comparison(name, pictures, *sides, note)


def embed_thumbnail(pixels: np.ndarray, alt: str) -> Picture:
    """Return an image (H, W, 3) uint8 shrunk to a JPEG of at most 160 pixels a side."""
    factor = min(1, THUMBNAIL / max(pixels.shape[:2]))
    height, width = (max(1, round(side * factor)) for side in pixels.shape[:2])
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return embed(small, alt, suffix=".jpg")


def embed_data(content: bytes, name: str, text: str) -> Link:
    """Return a link that downloads a file whose content is in the page."""
    code = base64.b64encode(content).decode()
    return Link(text, f"data:application/octet-stream;base64,{code}", download=name)


@cache
def _template() -> "Template":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(FILES)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    return environment.get_template("report.html.jinja")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
