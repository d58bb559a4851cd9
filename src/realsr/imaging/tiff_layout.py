"""Which picture of a TIFF file is read, where its samples are, and what they mean (TIFF 6.0; BigTIFF)."""

import contextlib
import mmap
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from realsr.imaging.decoding import DamageError, content_error
from realsr.imaging.photo import count_words
from realsr.imaging.tags import Entry, TagReader

GRAY_WHITE_IS_ZERO, GRAY, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
NONE, FAX, LZW, JPEG, DEFLATE, WEBP = 1, (2, 3, 4), 5, 7, (8, 32946), 50001
_CODECS = (NONE, *FAX, LZW, JPEG, *DEFLATE, WEBP, 32773, 34925, 50000)  # the last: PackBits, LZMA, Zstandard
_PREDICTED = (LZW, *DEFLATE, 34925, 50000)  # only these may store differences to the left
_COLOURS = {GRAY_WHITE_IS_ZERO: 1, GRAY: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}
_BITS = {PALETTE: (1, 2, 4, 8), CMYK: (8,), YCBCR: (8,), LAB: (8,)}
_NAMES = {PALETTE: "palette", CMYK: "CMYK", YCBCR: "YCbCr", LAB: "Lab"}
_OTHER_COLOURS = {
    **dict.fromkeys((9, 10), "Lab colour of a rare form (ICC or ITU)"),
    **dict.fromkeys((32803, 34892), "raw colour of a camera's sensor"),
    **dict.fromkeys((32844, 32845), "logarithmic colour"),
}
_OTHER_CODECS = {
    **dict.fromkeys((33003, 33004, 33005, 34712), "JPEG 2000 compressed data"),
    **dict.fromkeys((50002, 52546), "JPEG XL compressed data"),
    6: "data compressed by an obsolete form of JPEG",
}
_REDUCED, _MASK = 1, 4  # bits of the tag NewSubfileType
_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _SUBDIRECTORIES, _EXTRA_SAMPLES, _PALETTE = 254, 255, 330, 338, 320
_ASSOCIATED, _ALPHA = 1, 2


@dataclass(frozen=True)
class TiffLayout:
    """The layout of one picture.

    shape: rows, columns, samples of a pixel; bits: of each sample.
    segment: rows and columns of a strip or tile; starts, lengths: their bytes, plane after plane if `planar`.
    differences: samples are stored less those to the left.
    alpha: the index of its sample, or None; associated: the colours are multiplied by it.
    palette: (n, 3) uint8.
    tags: the entries of the directory, which is at `position`.
    omissions: what the file holds besides, in words.
    """

    shape: tuple[int, int, int]
    bits: int
    photometric: int
    compression: int
    planar: bool
    tiled: bool
    segment: tuple[int, int]
    starts: list[int]
    lengths: list[int]
    differences: bool
    bits_reversed: bool
    big_endian: bool
    alpha: int | None
    associated: bool
    palette: np.ndarray | None
    orientation: int
    position: int
    tags: dict[int, Entry]
    omissions: list[str] = field(default_factory=list)

    @property
    def colours(self) -> int:
        """The samples of a pixel that are its colour."""
        return _COLOURS[self.photometric]


def read_layout(data: bytes | mmap.mmap, name: str) -> TiffLayout:
    """Return the layout of the first picture of a TIFF file that is no preview and no mask.

    Raises ImageError, which calls the file `name`, for what is not read; DamageError, ValueError for damaged contents.
    """
    reader = TagReader(data)
    position, tags, omissions = _find_picture(reader, name)

    def numbers(tag: int, *default: int) -> tuple[int, ...]:
        return reader.integers(tags[tag]) if tag in tags else default

    def number(tag: int, default: int) -> int:
        return next(iter(numbers(tag, default)), default)

    height, width, channels = number(257, 0), number(256, 0), number(277, len(numbers(258, 1)))
    bits, kinds, extra = numbers(258, 1), numbers(339, 1), numbers(_EXTRA_SAMPLES)
    photometric, compression = number(262, -1), number(259, NONE)
    if min(height, width, channels) < 1:
        raise DamageError("its size is missing")
    _check_samples(name, kinds, bits[:channels])
    problem = _find_problem(photometric, compression, bits[0], channels, numbers(530, 2, 2), number(317, 1))
    if problem is not None:
        raise content_error(name, problem)
    colours = _COLOURS[photometric]
    extra = extra[: channels - colours] or (_ALPHA,) * (channels == colours + 1)  # some writers leave the tag out
    alpha = next((i for i, kind in enumerate(extra) if kind in (_ASSOCIATED, _ALPHA)), None)
    if alpha is not None and (photometric in (CMYK, YCBCR, LAB) or (photometric == PALETTE and extra[alpha] != _ALPHA)):
        raise content_error(name, f"{_NAMES[photometric]} colour with alpha")
    if more := channels - colours - (alpha is not None):
        omissions.append(count_words(more, "extra channel"))

    tiled = 322 in tags or 324 in tags
    segment = (number(323, 0), number(322, 0)) if tiled else (min(number(278, height), height), width)
    starts = list(numbers(324 if tiled else 273))
    lengths = list(numbers(325 if tiled else 279)) or [len(data)] * len(starts)
    planar = number(284, 1) == 2 and channels > 1
    if min(segment) < 1 or len(starts) < (channels if planar else 1) * _count_segments(height, width, segment):
        raise DamageError("some of its strips or tiles are missing")
    if tiled and segment[1] * (1 if planar else channels) * bits[0] % 8:
        raise content_error(name, "tiles that do not begin at whole bytes")
    palette = None
    if photometric == PALETTE:
        levels = np.array(numbers(_PALETTE), np.uint16)
        if len(levels) != 3 * 2 ** bits[0]:
            raise DamageError("its palette is missing")
        palette = (levels // (256 if levels.max() > 255 else 1)).astype(np.uint8).reshape(3, -1).T
    return TiffLayout(
        shape=(height, width, channels),
        bits=bits[0],
        photometric=photometric,
        compression=compression,
        planar=planar,
        tiled=tiled,
        segment=segment,
        starts=starts,
        lengths=lengths,
        differences=compression in _PREDICTED and number(317, 1) == 2,
        bits_reversed=number(266, 1) == 2,
        big_endian=reader.order == ">",
        alpha=None if alpha is None else colours + alpha,
        associated=alpha is not None and extra[alpha] == _ASSOCIATED,
        palette=palette,
        orientation=number(274, 1),
        position=position,
        tags=tags,
        omissions=omissions,
    )


def _count_segments(height: int, width: int, segment: tuple[int, int]) -> int:
    return -(-height // segment[0]) * -(-width // segment[1])


def _find_picture(reader: TagReader, name: str) -> tuple[int, dict[int, Entry], list[str]]:
    """Return the first directory of a picture, and in words what the rest hold."""
    pages, position = dict[int, dict[int, Entry]](), reader.first
    while position and position not in pages:
        try:
            pages[position], next_at = reader.entries(position)
        except ValueError:
            if not pages:
                raise
            break  # some programs write a wrong position after the last page
        position = reader.position(next_at)
    kinds = {place: _page_kind(reader, tags) for place, tags in pages.items()}
    picture = next((place for place, kind in kinds.items() if kind == "further page"), None)
    if picture is None:
        raise content_error(name, "only a preview or a mask, or the photo in another form such as raw data")
    rest = Counter(kind for place, kind in kinds.items() if place != picture)
    if _SUBDIRECTORIES in pages[picture]:
        for place in reader.integers(pages[picture][_SUBDIRECTORIES]):
            with contextlib.suppress(ValueError):  # some programs copy positions without the pages
                rest[_page_kind(reader, reader.entries(place)[0])] += 1
    return picture, pages[picture], [count_words(number, kind) for kind, number in rest.items()]


def _page_kind(reader: TagReader, tags: dict[int, Entry]) -> str:
    bits = reader.integer(tags[_SUBFILE_TYPE]) if _SUBFILE_TYPE in tags else 0
    if _OLD_SUBFILE_TYPE in tags and reader.integers(tags[_OLD_SUBFILE_TYPE]) == (2,):
        bits |= _REDUCED
    return "preview" if bits & _REDUCED else "mask" if bits & _MASK else "further page"


def _check_samples(name: str, kinds: tuple[int, ...], bits: tuple[int, ...]) -> None:
    if 2 in kinds:
        raise content_error(name, "signed samples")
    if 3 in kinds:
        raise content_error(name, "floating-point samples")
    if any(kind not in (1, 4) for kind in kinds):
        raise content_error(name, "samples that are no plain numbers")
    if len(set(bits)) > 1:
        raise content_error(name, f"samples whose bits differ ({', '.join(map(str, bits))})")
    if bits[0] not in (1, 2, 4, 8, 16):
        raise content_error(name, f"samples of {bits[0]} bits")


def _find_problem(
    photometric: int, compression: int, bits: int, channels: int, subsampling: tuple[int, ...], predictor: int
) -> str | None:
    """Say in words why a picture of unsigned samples is not read; None if it is."""
    if compression not in _CODECS:
        return _OTHER_CODECS.get(compression, "data in a rare form of compression")
    if photometric not in _COLOURS:
        return _OTHER_COLOURS.get(photometric, "pixels of no known colour space")
    if channels < _COLOURS[photometric]:
        return "fewer channels than its colour space needs"
    if bits not in _BITS.get(photometric, (bits,)):
        return f"{bits}-bit {_NAMES[photometric]} colour"
    if photometric == YCBCR and compression not in (JPEG, WEBP) and subsampling != (1, 1):
        return "YCbCr colour of reduced resolution without JPEG compression"
    if (compression in (JPEG, WEBP) and bits != 8) or (compression in FAX and (bits, channels) != (1, 1)):
        return f"samples of {bits} bits in a compression that is for rest"
    if compression in _PREDICTED and predictor != 1 and (predictor != 2 or bits < 8):
        return "data in a rare form of compression (differences between samples)"
    return None
