"""TIFF: decoding by tifffile, 8 and 16 bit, and metadata.

Strips and tiles are decompressed here, except for fax and WebP, since tifffile reads damaged JPEG
without an error and returns no samples for deflate with a wrong checksum or for a last strip with
surplus rows.
"""

import contextlib
import io
import itertools
import logging
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import imagecodecs
import numpy as np
from PIL import Image
from tifffile import TIFF, TiffFile, TiffPage

from realsr.imaging.exif import DESCRIPTIVE, ICC, IPTC, XMP, exif_from_tiff
from realsr.imaging.formats import DamageError, check_size, content_error, damage_error
from realsr.imaging.jpeg import decode_jpeg_samples
from realsr.imaging.photo import Metadata, Photo, count_words
from realsr.imaging.samples import divide_by_alpha, row_bands

# The errors that tifffile logs are raised as ImageError.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

_SURPLUS = 2**16  # bytes that some programs write after the last row
GRAY_WHITE_IS_ZERO, GRAY, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
NONE, LZW, JPEG, PACKBITS, LZMA, ZSTANDARD, WEBP = 1, 5, 7, 32773, 34925, 50000, 50001
FAX, DEFLATE = (2, 3, 4), (8, 32946)
_BYTE_CODECS = (LZW, PACKBITS, LZMA, ZSTANDARD)
_CODECS = (NONE, *FAX, JPEG, *DEFLATE, WEBP, *_BYTE_CODECS)
_PREDICTOR_CODECS = (LZW, *DEFLATE, LZMA, ZSTANDARD)  # may store horizontal differences
_COLOURS = {GRAY_WHITE_IS_ZERO: 1, GRAY: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}
_BITS = {PALETTE: (1, 2, 4, 8), CMYK: (8,), YCBCR: (8,), LAB: (8,)}
_NAMES = {PALETTE: "palette", CMYK: "CMYK", YCBCR: "YCbCr", LAB: "Lab"}
_PILLOW_MODES = {CMYK: "CMYK", YCBCR: "YCbCr", LAB: "LAB"}
_OTHER_COLOURS = {
    **dict.fromkeys((9, 10), "Lab colour of an unusual form (ICC or ITU)"),
    **dict.fromkeys((32803, 34892), "raw colour of a camera's sensor"),
    **dict.fromkeys((32844, 32845), "logarithmic colour"),
}
_OTHER_CODECS = {
    **dict.fromkeys((33003, 33004, 33005, 34712), "JPEG 2000 compressed data"),
    **dict.fromkeys((50002, 52546), "JPEG XL compressed data"),
    6: "data compressed by an obsolete form of JPEG",
}
_PREVIEW, _MASK = 1, 4  # bits of the tag NewSubfileType
_PREMULTIPLIED_ALPHA, _ALPHA = 1, 2  # values of the tag ExtraSamples
# A JPEG segment without its last byte: 0 for colours as stored, 1 for YCbCr.
_ADOBE = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0"
_LAYOUT = frozenset(  # the tags of the storage of the pixels and of the place among other pages
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


class _Image(NamedTuple):
    """The image of a TIFF file that is read."""

    page: TiffPage
    shape: tuple[int, int, int]  # rows, columns, samples per pixel
    bits: int  # per sample
    photometric: int
    compression: int
    alpha: int | None  # the index of its sample
    premultiplied: bool  # whether the colours are multiplied by alpha
    omissions: list[str]  # descriptions of other content of the file

    @property
    def is_planar(self) -> bool:
        """Whether each channel is stored apart."""
        return self.page.planarconfig == 2 and self.page.samplesperpixel > 1


def count_tiff_pixels(source: BinaryIO, name: str) -> int:
    """Return the number of pixels of the image that `decode_tiff` reads. Raises as it does."""
    with _open(source, name) as file:
        height, width, _ = _find_image(file, name).shape
    return height * width


def decode_tiff(data: bytes, name: str, damaged: str, with_metadata: bool) -> tuple[Photo, int]:
    """Decode the first image of a TIFF that is not a preview."""
    with _open(io.BytesIO(data), name) as file:
        image = _find_image(file, name)
        page, (height, width, _) = image.page, image.shape
        check_size(width, height, name)
        palette = _read_palette(image)
        raw: np.ndarray = np.empty(image.shape, np.uint16 if image.bits == 16 else np.uint8)
        damage = None
        for number, (part, reason) in enumerate(_read_segments(data, image, name, damaged)):
            if reason is not None:
                damage = damage or f"{'tile' if page.is_tiled else 'strip'} {number}: {reason}"
                if damaged != "accept":
                    raise damage_error(name, damage)
            segment, (plane, _, top, left, _), _ = page.decode(part, number)
            samples = np.asarray(segment)[0]
            planes = slice(plane, plane + 1) if image.is_planar else slice(None)
            target = raw[top : top + len(samples), left : left + samples.shape[1], planes]
            target[...] = samples[: target.shape[0], : target.shape[1]]
        metadata, omissions = _read_metadata(data, image)
        orientation = _values(page, 274, 1)[0]
    photo = Photo(_interpret(raw, image, palette), metadata, damage, tuple(omissions))
    return photo, orientation


def _open(source: BinaryIO, name: str) -> TiffFile:
    try:
        return TiffFile(source)
    except TypeError as error:  # tifffile fails to convert several SampleFormats
        raise content_error(name, "samples that are partly signed or floating-point") from error


def _values(page: TiffPage, tag: int, *default: int) -> tuple[int, ...]:
    value = page.tags.valueof(tag)
    if value is None or value == ():
        return default
    return value if isinstance(value, tuple) else (int(value),)


def _find_image(file: TiffFile, name: str) -> _Image:
    """Return the first page that is neither a preview nor a mask.

    Raises ImageError if it is missing or not supported, DamageError if it is damaged.
    """
    pages = list(_list_pages(file))
    kinds = [_page_kind(page) for page in pages]
    if "further page" not in kinds:
        raise content_error(name, "only previews or masks; the photo may be stored as raw data")
    page = pages[kinds.index("further page")]
    kinds.remove("further page")
    with contextlib.suppress(Exception):  # some programs copy the positions, but not the pages
        kinds += [_page_kind(child.aspage()) for child in page.pages or ()]
    omissions = [count_words(number, kind) for kind, number in Counter(kinds).items()]

    bits = _values(page, 258, 1)
    channels = _values(page, 277, len(bits))[0]
    photometric, compression = _values(page, 262, -1)[0], _values(page, 259, NONE)[0]
    shape = page.imagelength, page.imagewidth, channels
    image = _Image(page, shape, bits[0], photometric, compression, None, False, omissions)
    if min(shape) < 1:
        raise DamageError("its size is missing")
    problem = _find_problem(image, bits[:channels])
    if problem is not None:
        raise content_error(name, problem)
    colours = _COLOURS[photometric]
    # Some programs omit the tag ExtraSamples.
    extra = _values(page, 338)[: channels - colours] or (_ALPHA,) * (channels == colours + 1)
    alphas = [i for i, kind in enumerate(extra) if kind in (_PREMULTIPLIED_ALPHA, _ALPHA)]
    if extra_count := channels - colours - bool(alphas):
        omissions.append(count_words(extra_count, "extra channel"))
    if not alphas:
        return image
    premultiplied = extra[alphas[0]] == _PREMULTIPLIED_ALPHA
    if photometric in (CMYK, YCBCR, LAB) or (premultiplied and photometric == PALETTE):
        raise content_error(name, f"{_NAMES[photometric]} colour with alpha")
    return image._replace(alpha=colours + alphas[0], premultiplied=premultiplied)


def _list_pages(file: TiffFile) -> Iterator[TiffPage]:
    for index in itertools.count():
        try:
            yield file.pages[index].aspage()
        except Exception as error:
            if index == 0 and not isinstance(error, IndexError):
                raise
            return  # some programs write a wrong link after the last page


def _page_kind(page: TiffPage) -> str:
    bits = _values(page, 254, 0)[0] | (_PREVIEW if _values(page, 255) == (2,) else 0)
    return "preview" if bits & _PREVIEW else "mask" if bits & _MASK else "further page"


def _find_problem(image: _Image, bits: tuple[int, ...]) -> str | None:
    """Describe why an image is not supported; None if it is. bits: of each sample of a pixel."""
    page, _, depth, photometric, compression, *_ = image
    channels, kinds, predictor = image.shape[2], _values(page, 339, 1), _values(page, 317, 1)[0]
    lossy = compression in (JPEG, WEBP)
    subsampling = photometric == YCBCR and not lossy and _values(page, 530, 2, 2) != (1, 1)
    misfit = (lossy and depth != 8) or (compression in FAX and (depth, channels) != (1, 1))
    usual_predictor = predictor == 1 or (predictor == 2 and depth >= 8)
    rare_predictor = compression in _PREDICTOR_CODECS and not usual_predictor
    tile_bits = page.tilewidth * (1 if image.is_planar else channels) * depth
    unusual = "data in an unusual form of compression"
    other_colour = _OTHER_COLOURS.get(photometric, "pixels of an unknown colour space")
    colour_bits = _BITS.get(photometric, (depth,))
    rules = (
        (2 in kinds, "signed samples"),
        (3 in kinds, "floating-point samples"),
        (not {1, 4}.issuperset(kinds), "samples that are not real numbers"),
        (len(set(bits)) > 1, f"samples of different depths ({', '.join(map(str, bits))} bits)"),
        (depth not in (1, 2, 4, 8, 16), f"samples of {depth} bits"),
        (compression not in _CODECS, _OTHER_CODECS.get(compression, unusual)),
        (photometric not in _COLOURS, other_colour),
        (channels < _COLOURS.get(photometric, 0), "fewer channels than its colour space needs"),
        (depth not in colour_bits, f"{depth}-bit {_NAMES.get(photometric)} colour"),
        (subsampling, "subsampled YCbCr colour without JPEG compression"),
        (misfit, f"samples of {depth} bits in a compression that does not support them"),
        (rare_predictor, f"{unusual} (differences between samples)"),
        (page.is_tiled and tile_bits % 8 != 0, "tiles whose rows are not whole bytes"),
    )
    return next((problem for applies, problem in rules if applies), None)


def _read_segments(
    data: bytes, image: _Image, name: str, damaged: str
) -> Iterator[tuple[bytes | memoryview, str | None]]:
    """Yield strips or tiles in the form that `page.decode` reads, and the damage of each."""
    page, compression, (height, width, channels) = image.page, image.compression, image.shape
    rows, columns, tags = min(page.rowsperstrip, height), width, (273, 279)
    if page.is_tiled:
        rows, columns, tags = page.tilelength, page.tilewidth, (324, 325)
    check_size(columns, rows, name)
    planes = channels if image.is_planar else 1
    starts, lengths = (_values(page, tag) for tag in tags)
    lengths = lengths or (len(data),) * len(starts)  # some programs omit them
    count = planes * -(-height // rows) * -(-width // columns)
    if len(starts) < count:
        raise DamageError("some of its strips or tiles are missing")
    is_reversed = page.fillorder == 2 and compression not in (JPEG, WEBP)
    page.fillorder = 1
    if compression not in _PREDICTOR_CODECS:
        page.predictor = 1
    if compression not in (*FAX, WEBP):
        page.compression, page.subsampling = NONE, (1, 1)
    size = rows * -(-columns * channels // planes * image.bits // 8)
    for start, length in zip(starts[:count], lengths[:count], strict=True):
        part: bytes | memoryview = memoryview(data)[start:][
            : size if compression == NONE else length
        ]
        reason = None
        if is_reversed:
            part = bytes(imagecodecs.bitorder_decode(bytes(part)))
        if compression in _BYTE_CODECS:
            part = bytes(TIFF.DECOMPRESSORS[compression](part, out=size + _SURPLUS))
        elif compression in DEFLATE:
            part, reason = _inflate(part, size)
        elif compression == JPEG:
            part, reason = _decode_jpeg(part, image, name, damaged)
        yield part, reason


def _inflate(part: bytes | memoryview, size: int) -> tuple[bytes, str | None]:
    """Return the first `size` bytes of deflate's data, and the damage that its checksum shows."""
    # Raw deflate, without the header of 2 bytes, since zlib returns no data for a wrong checksum.
    reader = zlib.decompressobj(-zlib.MAX_WBITS)
    segment = reader.decompress(part[2:], size)
    checksum = zlib.adler32(segment)
    while not reader.eof and (surplus := reader.decompress(reader.unconsumed_tail, 2**16)):
        checksum = zlib.adler32(surplus, checksum)
    end = reader.unused_data[:4]
    mismatch = reader.eof and len(end) == 4 and int.from_bytes(end, "big") != checksum
    return segment, "wrong checksum" if mismatch else None


def _decode_jpeg(
    part: bytes | memoryview, image: _Image, name: str, damaged: str
) -> tuple[memoryview, str | None]:
    page = image.page
    tables = page.jpegtables or b"\xff\xd8\xff\xd9"
    jpeg = b"\xff\xd8" + _ADOBE + bytes([image.photometric == YCBCR]) + tables[2:-2] + part[2:]
    colour = {1: "GRAY", 3: "RGB", 4: "CMYK"}.get(1 if image.is_planar else image.shape[2])
    samples, reason = decode_jpeg_samples(jpeg, colour, damaged) if colour else (None, None)
    if samples is None:
        if reason is None:
            raise content_error(name, "data in an unusual form of JPEG compression")
        if damaged == "accept":
            raise DamageError(reason)
        return memoryview(b""), reason
    if samples.shape[1] != (page.tilewidth or page.imagewidth):
        raise DamageError("the width of a strip or tile differs from that in its tags")
    return samples.reshape(-1).data, reason


def _read_palette(image: _Image) -> np.ndarray | None:
    """Return the colours of the palette, (n, 3) uint8; None if the image has none."""
    if image.photometric != PALETTE:
        return None
    levels = image.page.colormap
    if levels is None or levels.size != 3 * 2**image.bits:
        raise DamageError("its palette is missing")
    return (levels // (256 if levels.max() > 255 else 1)).astype(np.uint8).reshape(3, -1).T


def _interpret(raw: np.ndarray, image: _Image, palette: np.ndarray | None) -> np.ndarray:
    """Convert stored samples to full-range gray or RGB with straight alpha."""
    photometric, alpha = image.photometric, [] if image.alpha is None else [image.alpha]
    if palette is not None:
        return np.concatenate([palette[raw[..., 0]], raw[..., alpha]], axis=2)
    if image.bits < 8:
        raw *= 255 // (2**image.bits - 1)
    colours = _COLOURS[photometric]
    is_rgb = image.compression in (JPEG, WEBP) and photometric != CMYK  # as decompressed
    if photometric in _PILLOW_MODES and not is_rgb:
        return _convert(raw[..., :colours], _PILLOW_MODES[photometric])
    channels = [*range(colours), *alpha]
    samples = raw if len(channels) == raw.shape[2] else raw[..., channels]
    if image.premultiplied:
        divide_by_alpha(samples)
    if photometric == GRAY_WHITE_IS_ZERO:
        np.invert(samples[..., 0], out=samples[..., 0])
    return samples


def _convert(raw: np.ndarray, mode: str) -> np.ndarray:
    """Convert (H, W, C) uint8 of one of Pillow's modes to RGB (H, W, 3), without profiles."""
    samples = np.empty((*raw.shape[:2], 3), np.uint8)
    for rows in row_bands(raw):
        band = raw[rows]
        samples[rows] = Image.frombytes(mode, band.shape[1::-1], band.tobytes()).convert("RGB")
    return samples


def _read_metadata(data: bytes, image: _Image) -> tuple[Metadata, list[str]]:
    """Return the metadata of a TIFF's image, and descriptions of the file's other content."""
    tags = {tag.code: tag for tag in image.page.tags}

    def value(code: int) -> bytes | None:
        tag = tags.get(code)
        return data[tag.valueoffset : tag.valueoffset + tag.valuebytecount] if tag else None

    omissions, exif = list(image.omissions), None
    try:
        exif = exif_from_tiff(data, image.page.offset)
    except ValueError:
        omissions.append("EXIF that cannot be read")
    extra_tags = tags.keys() - _LAYOUT - DESCRIPTIVE - {ICC, XMP, IPTC}
    omissions += [name for tag, name in _TAG_NAMES.items() if tag in extra_tags]
    if numbers := sorted(extra_tags - _TAG_NAMES.keys()):
        omissions.append(f"tag{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}")
    return Metadata(value(ICC), exif, value(XMP), value(IPTC)), omissions
