"""TIFF: decoding by tifffile, 8 and 16 bit, and metadata.

Strips and tiles are decompressed here, except fax and WebP: tifffile reads damaged JPEG without an error, and gives no
samples of deflate with a wrong checksum, and of a last strip with surplus rows.
"""

import contextlib
import io
import itertools
import logging
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np
from PIL import Image
from tifffile import TIFF, TiffFile, TiffPage

from realsr.imaging.decoding import (
    DamageError,
    FileContent,
    check_size,
    content_error,
    damage_error,
    row_bands,
)
from realsr.imaging.exif import DESCRIPTIVE, exif_from_tiff
from realsr.imaging.jpeg import decode_jpeg_samples
from realsr.imaging.photo import Metadata, count_words
from realsr.imaging.tiff_encoder import ICC, IPTC, XMP

logging.getLogger("tifffile").setLevel(
    logging.CRITICAL
)  # of what it logs, errors become an ImageError

_PIECE = 2**16
_SURPLUS = 2**16  # bytes that some programs write beyond the last row
GRAY_WHITE_IS_ZERO, GRAY, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
NONE, LZW, JPEG, PACKBITS, LZMA, ZSTANDARD, WEBP = 1, 5, 7, 32773, 34925, 50000, 50001
FAX, DEFLATE = (2, 3, 4), (8, 32946)
_BYTE_CODECS = (LZW, PACKBITS, LZMA, ZSTANDARD)
_CODECS = (NONE, *FAX, JPEG, *DEFLATE, WEBP, *_BYTE_CODECS)
_PREDICTED = (LZW, *DEFLATE, LZMA, ZSTANDARD)  # only these may store differences to the left
_COLOURS = {GRAY_WHITE_IS_ZERO: 1, GRAY: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}
_BITS = {PALETTE: (1, 2, 4, 8), CMYK: (8,), YCBCR: (8,), LAB: (8,)}
_NAMES = {PALETTE: "palette", CMYK: "CMYK", YCBCR: "YCbCr", LAB: "Lab"}
_PILLOW_MODES = {CMYK: "CMYK", YCBCR: "YCbCr", LAB: "LAB"}
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
_ASSOCIATED, _ALPHA = 1, 2
_ADOBE = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0"  # a segment of JPEG, before its last byte: 0 as stored, 1 YCbCr
_LAYOUT = frozenset(  # the tags of how the pixels are stored, and of the place among other pages
    [*range(254, 269), *range(273, 282), 284, *range(288, 294), 297, 317, 320, *range(321, 326)]
    + [330, *range(332, 342), 347, *range(512, 522), *range(529, 533)]
)
_TAG_NAMES = {
    301: "transfer function",
    318: "white point of its colours",
    319: "primaries of its colours",
    34377: "image resources of Photoshop",
    37724: "layers of Photoshop",
}


@dataclass(frozen=True)
class _Picture:
    """The picture of a TIFF file that is read.

    shape: rows, columns, samples of a pixel; bits: of each sample. alpha: the index of its sample, or None;
    associated: the colours are multiplied by it. omissions: what the file holds besides, in words.
    """

    page: TiffPage
    shape: tuple[int, int, int]
    bits: int
    photometric: int
    compression: int
    alpha: int | None
    associated: bool
    omissions: list[str]


def count_tiff_pixels(path: Path) -> int:
    """Return the pixels of the picture that `decode_tiff` reads. Raises what that raises for what it does not read."""
    with _open(path, str(path)) as file:
        height, width, _ = _find_picture(file, str(path)).shape
    return height * width


def decode_tiff(data: bytes, name: str, damaged: str, with_metadata: bool) -> FileContent:
    """Decode the first picture of a TIFF file that is no preview (see `image_files.decode_photo`)."""
    with _open(io.BytesIO(data), name) as file:
        picture = _find_picture(file, name)
        page, (height, width, _) = picture.page, picture.shape
        check_size(width, height, name)
        palette = _read_palette(picture)
        raw: np.ndarray = np.empty(picture.shape, np.uint16 if picture.bits == 16 else np.uint8)
        damage = None
        for number, (part, reason) in enumerate(_read_segments(data, picture, name, damaged)):
            if reason is not None:
                damage = damage or f"{'tile' if page.is_tiled else 'strip'} {number}: {reason}"
                if damaged != "accept":
                    raise damage_error(name, damage)
            segment, (plane, _, top, left, _), _ = page.decode(part, number)
            samples = np.asarray(segment)[0]
            planes = slice(plane, plane + 1) if _is_planar(page) else slice(None)
            target = raw[top : top + len(samples), left : left + samples.shape[1], planes]
            target[...] = samples[: target.shape[0], : target.shape[1]]
        metadata, omissions = _read_metadata(data, picture)
        orientation = _values(page, 274, 1)[0]
    return FileContent(_interpret(raw, picture, palette), metadata, omissions, orientation, damage)


def _open(source: Path | BinaryIO, name: str) -> TiffFile:
    try:
        return TiffFile(source)
    except TypeError as error:  # tifffile converts several SampleFormats as one
        raise content_error(name, "samples that are signed or floating-point in part") from error


def _values(page: TiffPage, tag: int, *default: int) -> tuple[int, ...]:
    value = page.tags.valueof(tag)
    return (
        default
        if value is None or value == ()
        else value
        if isinstance(value, tuple)
        else (int(value),)
    )


def _find_picture(file: TiffFile, name: str) -> _Picture:
    """Return the first page that is no preview and no mask. Raises ImageError and DamageError for what is not read."""
    pages = list(_list_pages(file))
    kinds = [_page_kind(page) for page in pages]
    if "further page" not in kinds:
        raise content_error(
            name, "only a preview or a mask, or the photo in another form such as raw data"
        )
    page = pages[kinds.index("further page")]
    kinds.remove("further page")
    with contextlib.suppress(Exception):  # some programs copy positions without the pages
        kinds += [_page_kind(child.aspage()) for child in page.pages or ()]
    omissions = [count_words(number, kind) for kind, number in Counter(kinds).items()]

    all_bits = _values(page, 258, 1)
    height, width, channels = (
        page.imagelength,
        page.imagewidth,
        _values(page, 277, len(all_bits))[0],
    )
    bits, photometric, compression = (
        all_bits[0],
        _values(page, 262, -1)[0],
        _values(page, 259, NONE)[0],
    )
    if min(height, width, channels) < 1:
        raise DamageError("its size is missing")
    problem = _find_problem(page, photometric, compression, all_bits[:channels], channels)
    if problem is not None:
        raise content_error(name, problem)
    colours = _COLOURS[photometric]
    extra = _values(page, 338)[: channels - colours] or (_ALPHA,) * (
        channels == colours + 1
    )  # some leave the tag out
    alpha = next((i for i, kind in enumerate(extra) if kind in (_ASSOCIATED, _ALPHA)), None)
    if alpha is not None and (
        photometric in (CMYK, YCBCR, LAB) or (photometric == PALETTE and extra[alpha] != _ALPHA)
    ):
        raise content_error(name, f"{_NAMES[photometric]} colour with alpha")
    if more := channels - colours - (alpha is not None):
        omissions.append(count_words(more, "extra channel"))
    associated, place = (
        alpha is not None and extra[alpha] == _ASSOCIATED,
        None if alpha is None else colours + alpha,
    )
    return _Picture(
        page,
        (height, width, channels),
        bits,
        photometric,
        compression,
        place,
        associated,
        omissions,
    )


def _list_pages(file: TiffFile) -> Iterator[TiffPage]:
    for index in itertools.count():
        try:
            yield file.pages[index].aspage()
        except Exception as error:
            if index == 0 and not isinstance(error, IndexError):
                raise
            return  # some programs write a wrong position after the last page


def _page_kind(page: TiffPage) -> str:
    bits = _values(page, 254, 0)[0] | (_REDUCED if _values(page, 255) == (2,) else 0)
    return "preview" if bits & _REDUCED else "mask" if bits & _MASK else "further page"


def _find_problem(
    page: TiffPage, photometric: int, compression: int, bits: tuple[int, ...], channels: int
) -> str | None:
    """Say in words why a picture is not read; None if it is. bits: of each sample of a pixel."""
    kinds, predictor, depth = _values(page, 339, 1), _values(page, 317, 1)[0], bits[0]
    subsampled = (
        photometric == YCBCR
        and compression not in (JPEG, WEBP)
        and _values(page, 530, 2, 2) != (1, 1)
    )
    misfit = (compression in (JPEG, WEBP) and depth != 8) or (
        compression in FAX and (depth, channels) != (1, 1)
    )
    rare_predictor = compression in _PREDICTED and predictor != 1 and (predictor != 2 or depth < 8)
    tile_bits = page.tilewidth * (1 if _is_planar(page) else channels) * depth
    rules = (
        (2 in kinds, "signed samples"),
        (3 in kinds, "floating-point samples"),
        (not {1, 4}.issuperset(kinds), "samples that are no plain numbers"),
        (len(set(bits)) > 1, f"samples whose bits differ ({', '.join(map(str, bits))})"),
        (depth not in (1, 2, 4, 8, 16), f"samples of {depth} bits"),
        (
            compression not in _CODECS,
            _OTHER_CODECS.get(compression, "data in a rare form of compression"),
        ),
        (
            photometric not in _COLOURS,
            _OTHER_COLOURS.get(photometric, "pixels of no known colour space"),
        ),
        (channels < _COLOURS.get(photometric, 0), "fewer channels than its colour space needs"),
        (
            depth not in _BITS.get(photometric, (depth,)),
            f"{depth}-bit {_NAMES.get(photometric)} colour",
        ),
        (subsampled, "YCbCr colour of reduced resolution without JPEG compression"),
        (misfit, f"samples of {depth} bits in a compression that is for others"),
        (rare_predictor, "data in a rare form of compression (differences between samples)"),
        (page.is_tiled and tile_bits % 8 != 0, "tiles that do not begin at whole bytes"),
    )
    return next((problem for applies, problem in rules if applies), None)


def _is_planar(page: TiffPage) -> bool:
    return page.planarconfig == 2 and page.samplesperpixel > 1


def _read_segments(
    data: bytes, picture: _Picture, name: str, damaged: str
) -> Iterator[tuple[bytes | memoryview, str | None]]:
    """Yield strips or tiles as `page.decode` reads them, and what is wrong with each."""
    page, compression, (height, width, channels) = picture.page, picture.compression, picture.shape
    high, wide = (
        (page.tilelength, page.tilewidth)
        if page.is_tiled
        else (min(page.rowsperstrip, height), width)
    )
    check_size(wide, high, name)
    planes = channels if _is_planar(page) else 1
    starts = _values(page, 324 if page.is_tiled else 273)
    lengths = _values(page, 325 if page.is_tiled else 279) or (len(data),) * len(
        starts
    )  # some leave the tag out
    count = planes * -(-height // high) * -(-width // wide)
    if len(starts) < count:
        raise DamageError("some of its strips or tiles are missing")
    reverse = page.fillorder == 2 and compression not in (JPEG, WEBP)
    page.fillorder = 1
    page.predictor = (
        page.predictor if compression in _PREDICTED else 1
    )  # elsewhere it does not count
    if compression not in (*FAX, WEBP):
        page.compression, page.subsampling = NONE, (1, 1)
    size = high * -(-wide * channels // planes * picture.bits // 8)
    for start, length in zip(starts[:count], lengths[:count], strict=True):
        part: bytes | memoryview = memoryview(data)[
            start : start + (size if compression == NONE else length)
        ]
        reason = None
        if reverse:
            part = bytes(imagecodecs.bitorder_decode(bytes(part)))
        if compression in _BYTE_CODECS:
            part = bytes(TIFF.DECOMPRESSORS[compression](part, out=size + _SURPLUS))
        elif compression in DEFLATE:
            part, reason = _inflate(part, size)
        elif compression == JPEG:
            part, reason = _decode_jpeg(part, picture, name, damaged)
        yield part, reason


def _inflate(part: bytes | memoryview, size: int) -> tuple[bytes, str | None]:
    """Return the first `size` bytes of deflate's data, and what its checksum of all of them says."""
    decompressor = zlib.decompressobj(
        -zlib.MAX_WBITS
    )  # past the header of 2 bytes: the checksum is checked here
    segment = decompressor.decompress(part[2:], size)
    checksum = zlib.adler32(segment)
    while not decompressor.eof and (
        more := decompressor.decompress(decompressor.unconsumed_tail, _PIECE)
    ):
        checksum = zlib.adler32(more, checksum)
    end = decompressor.unused_data[:4]
    mismatch = decompressor.eof and len(end) == 4 and int.from_bytes(end, "big") != checksum
    return segment, "wrong checksum" if mismatch else None


def _decode_jpeg(
    part: bytes | memoryview, picture: _Picture, name: str, damaged: str
) -> tuple[memoryview, str | None]:
    page = picture.page
    tables = page.jpegtables or b"\xff\xd8\xff\xd9"
    jpeg = b"\xff\xd8" + _ADOBE + bytes([picture.photometric == YCBCR]) + tables[2:-2] + part[2:]
    colour = {1: "GRAY", 3: "RGB", 4: "CMYK"}.get(1 if _is_planar(page) else picture.shape[2])
    samples, reason = decode_jpeg_samples(jpeg, colour, damaged) if colour else (None, None)
    if samples is None:
        if reason is None:
            raise content_error(name, "data in a rare form of JPEG compression")
        if damaged == "accept":
            raise DamageError(reason)
        return memoryview(b""), reason
    if samples.shape[1] != (page.tilewidth or page.imagewidth):
        raise DamageError("a strip or tile has another width than its tags say")
    return samples.reshape(-1).data, reason


def _read_palette(picture: _Picture) -> np.ndarray | None:
    """Return the colours of a palette, (n, 3) uint8."""
    if picture.photometric != PALETTE:
        return None
    levels = picture.page.colormap
    if levels is None or levels.size != 3 * 2**picture.bits:
        raise DamageError("its palette is missing")
    return (levels // (256 if levels.max() > 255 else 1)).astype(np.uint8).reshape(3, -1).T


def _interpret(raw: np.ndarray, picture: _Picture, palette: np.ndarray | None) -> np.ndarray:
    """Stored samples -> gray or RGB, of the full range, with straight alpha."""
    photometric, alpha = picture.photometric, picture.alpha
    if palette is not None:
        return np.concatenate([palette[raw[..., 0]], raw[..., [] if alpha is None else [alpha]]], 2)
    if picture.bits < 8:
        raw *= 255 // (2**picture.bits - 1)
    colours = _COLOURS[photometric]
    if photometric == CMYK or (
        photometric in _PILLOW_MODES and picture.compression not in (JPEG, WEBP)
    ):
        return _convert(raw[..., :colours], _PILLOW_MODES[photometric])
    channels = [*range(colours)] + ([] if alpha is None else [alpha])
    samples = raw if len(channels) == raw.shape[2] else raw[..., channels]
    if picture.associated:
        _divide_by_alpha(samples)
    if photometric == GRAY_WHITE_IS_ZERO:
        np.invert(samples[..., 0], out=samples[..., 0])
    return samples


def _convert(raw: np.ndarray, mode: str) -> np.ndarray:
    """(H, W, C) uint8 of one of Pillow's modes -> (H, W, 3) RGB, without profiles."""
    samples = np.empty((*raw.shape[:2], 3), np.uint8)
    for rows in row_bands(raw):
        band = raw[rows]
        samples[rows] = Image.frombytes(mode, band.shape[1::-1], band.tobytes()).convert("RGB")
    return samples


def _divide_by_alpha(samples: np.ndarray) -> None:
    top = np.iinfo(samples.dtype).max
    for rows in row_bands(samples):
        band = samples[rows]
        colour = band[..., :-1].astype(np.float64) * top / np.maximum(band[..., -1:], 1)
        band[..., :-1] = np.rint(colour.clip(0, top))


def _read_metadata(data: bytes, picture: _Picture) -> tuple[Metadata, list[str]]:
    """Return the metadata of a TIFF file's picture, and what else the file holds, in words."""
    tags = {tag.code: tag for tag in picture.page.tags}

    def value(code: int) -> bytes | None:
        tag = tags.get(code)
        return data[tag.valueoffset : tag.valueoffset + tag.valuebytecount] if tag else None

    omissions, exif = list(picture.omissions), None
    try:
        exif = exif_from_tiff(data, picture.page.offset)
    except ValueError:
        omissions.append("EXIF that cannot be read")
    rest = tags.keys() - _LAYOUT - DESCRIPTIVE - {ICC, XMP, IPTC}
    omissions += [name for tag, name in _TAG_NAMES.items() if tag in rest]
    if numbers := sorted(rest - _TAG_NAMES.keys()):
        omissions.append(f"tag{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}")
    return Metadata(value(ICC), exif, value(XMP), value(IPTC)), omissions
