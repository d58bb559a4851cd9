"""TIFF, PNG and BMP files of any layout, written from the specifications and without the package."""

import lzma
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import imagecodecs
import numpy as np

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, IFD = 1, 2, 3, 4, 5, 7, 13
_FORMS = {
    BYTE: "B",
    ASCII: "B",
    SHORT: "H",
    LONG: "I",
    RATIONAL: "I",
    UNDEFINED: "B",
    IFD: "I",
    16: "Q",
}
NONE, LZW, JPEG, DEFLATE, PACKBITS, OLD_DEFLATE, LZMA, ZSTD, WEBP = (
    1,
    5,
    7,
    8,
    32773,
    32946,
    34925,
    50000,
    50001,
)

Tag = tuple[int, Sequence[int] | bytes]

COMPRESSORS: dict[int, Callable[[np.ndarray], bytes]] = {
    NONE: lambda rows: rows.tobytes(),
    LZW: lambda rows: imagecodecs.lzw_encode(rows.tobytes()),
    DEFLATE: lambda rows: zlib.compress(rows.tobytes()),
    OLD_DEFLATE: lambda rows: zlib.compress(rows.tobytes()),
    PACKBITS: lambda rows: b"".join(imagecodecs.packbits_encode(row.tobytes()) for row in rows),
    LZMA: lambda rows: lzma.compress(rows.tobytes()),
    ZSTD: lambda rows: imagecodecs.zstd_encode(rows.tobytes()),
}


@dataclass
class Page:
    """One directory of a TIFF: its tags, its strips or tiles, and the directories that tag 330 points to."""

    tags: dict[int, Tag]
    segments: list[bytes]
    children: list["Page"] = field(default_factory=list)


def pack(rows: np.ndarray, bits: Sequence[int] | int, order: str = ">") -> np.ndarray:
    """(h, n) numbers -> (h, bytes) uint8, each row filled up to whole bytes; bits: of each number in turn."""
    if bits in (8, 16, 32, 64):
        typed = np.ascontiguousarray(rows.astype(np.dtype(f"{order}{rows.dtype.kind}{bits // 8}")))
        return typed.view(np.uint8).reshape(len(rows), -1)
    each = [bits] if isinstance(bits, int) else list(bits)
    each = each * (rows.shape[1] // len(each))
    planes = [(rows[:, n, None] >> np.arange(b)[::-1]) & 1 for n, b in enumerate(each)]
    return np.packbits(np.concatenate(planes, 1).astype(np.uint8), axis=1)


def tiff_page(
    raw: np.ndarray,
    bits: Sequence[int] | int,
    photometric: int,
    order: str = "<",
    planar: int = 1,
    tile: int | None = None,
    compression: int = NONE,
    predictor: int = 1,
    fill: int = 1,
    extra: Sequence[int] = (),
    compress: Callable[[np.ndarray], bytes] | None = None,
    **more: Tag,
) -> Page:
    """Return a page of (H, W, C) stored numbers, in strips of 7 rows or square tiles.

    compress: makes a segment of (h, w, C) numbers, where the compression is not one of bytes. more: t330=(type, values)
    adds or replaces a tag, with the values None removes it.
    """
    height, width, channels = raw.shape
    planes = [raw] if planar == 1 else [raw[..., c : c + 1] for c in range(channels)]
    high, wide = (tile, tile) if tile else (7, width)
    segments = []
    for plane in planes:
        for top in range(0, height, high):
            for left in range(0, width, wide):
                part = plane[top : top + high, left : left + wide].copy()
                if tile:
                    part = np.pad(
                        part, [(0, high - part.shape[0]), (0, wide - part.shape[1]), (0, 0)]
                    )
                if predictor == 2:
                    part[:, 1:] -= part[:, :-1].copy()
                rows = None if compress else pack(part.reshape(len(part), -1), bits, order)
                data = compress(part) if rows is None else COMPRESSORS[compression](rows)
                segments.append(reverse_bits(data) if fill == 2 else data)
    tags: dict[int, Tag] = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [bits] * channels if isinstance(bits, int) else bits),
        259: (SHORT, [compression]),
        262: (SHORT, [photometric]),
        277: (SHORT, [channels]),
        284: (SHORT, [planar]),
    }
    tags |= {322: (SHORT, [wide]), 323: (SHORT, [high])} if tile else {278: (SHORT, [high])}
    tags |= {266: (SHORT, [2])} if fill == 2 else {}
    tags |= {317: (SHORT, [predictor])} if predictor != 1 else {}
    tags |= {338: (SHORT, extra)} if extra else {}
    tags |= (
        {339: (SHORT, [{"i": 2, "f": 3}[raw.dtype.kind]] * channels)}
        if raw.dtype.kind in "if"
        else {}
    )
    tags |= {int(name[1:]): tag for name, tag in more.items()}
    return Page({tag: value for tag, value in tags.items() if value[1] is not None}, segments)


def reverse_bits(data: bytes) -> bytes:
    return np.packbits(
        np.unpackbits(np.frombuffer(data, np.uint8)).reshape(-1, 8)[:, ::-1]
    ).tobytes()


def tiff(*pages: Page, order: str = "<", big: bool = False, exif: Page | None = None) -> bytes:
    """Return a TIFF or BigTIFF of these pages; exif: the EXIF directory of the first."""
    number, room = ("Q", 8) if big else ("I", 4)
    start = (b"II" if order == "<" else b"MM") + struct.pack(
        order + ("HHHQ" if big else "HI"), *((43, 8, 0, 0) if big else (42, 0))
    )
    data = bytearray(start)

    def append(part: bytes) -> int:
        data.extend(bytes(len(data) % 2))
        data.extend(part)
        return len(data) - len(part)

    def add(page: Page, link: int) -> int:
        """Append a page, write its position at `link`, and return where the position of the next one goes."""
        offsets = [append(segment) for segment in page.segments]
        at = (324, 325) if 322 in page.tags else (273, 279)
        long = 16 if big else LONG
        tags = dict(page.tags)
        if offsets:
            tags |= {at[0]: (long, offsets), at[1]: (long, [len(s) for s in page.segments])}
        if page.children:
            tags[330] = (18 if big else IFD, [0] * len(page.children))
        if page is pages[0] and exif:
            tags[34665] = (long, [0])
        entries, positions = b"", {}
        for tag, (kind, values) in sorted(tags.items()):
            form = _FORMS.get(kind, number)
            body = (
                bytes(values)
                if isinstance(values, bytes)
                else struct.pack(f"{order}{len(values)}{form}", *values)
            )
            count = len(body) // struct.calcsize("<" + form) // (2 if kind == RATIONAL else 1)
            positions[tag] = append(body) if len(body) > room else None
            value = (
                body.ljust(room, b"\0")
                if len(body) <= room
                else struct.pack(order + number, positions[tag])
            )
            entries += struct.pack(order + "HH" + number, tag, kind, count) + value
        begin = struct.pack(order + ("Q" if big else "H"), len(tags))
        position = append(begin + entries + bytes(room))
        struct.pack_into(order + number, data, link, position)
        for tag, children in ((330, page.children), (34665, [exif] if 34665 in tags else [])):
            place = positions.get(tag)
            if place is None and children:
                place = (
                    position
                    + len(begin)
                    + sorted(tags).index(tag) * (20 if big else 12)
                    + (12 if big else 8)
                )
            for index, child in enumerate(children):
                add(child, place + index * room)
        return position + len(begin) + len(entries)

    link = 8 if big else 4
    for page in pages:
        link = add(page, link)
    return bytes(data)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    raw: np.ndarray,
    bits: int,
    colour: int,
    *extra: bytes,
    interlaced: bool = False,
    after: bytes = b"",
) -> bytes:
    """Return a PNG of (H, W, C) numbers; colour: the type in IHDR; extra: whole chunks before the pixels."""
    height, width, _ = raw.shape
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [
            (0, 0, 8, 8),
            (0, 4, 8, 8),
            (4, 0, 8, 4),
            (0, 2, 4, 4),
            (2, 0, 4, 2),
            (0, 1, 2, 2),
            (1, 0, 2, 1),
        ]
    data = b""
    for top, left, down, right in passes:
        part = raw[top::down, left::right]
        if part.size:
            data += b"".join(
                b"\0" + row.tobytes() for row in pack(part.reshape(len(part), -1), bits)
            )
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *extra,
            chunk(b"IDAT", zlib.compress(data)),
            after,
            chunk(b"IEND", b""),
        ]
    )


def bmp(
    rows: np.ndarray | bytes,
    width: int,
    height: int,
    bits: int,
    compression: int = 0,
    masks: Sequence[int] = (),
    palette: np.ndarray | None = None,
    header: int = 40,
) -> bytes:
    """Return a BMP of (h, bytes) uint8 rows from the lowest up, or of compressed data; height < 0 for top-down."""
    if not isinstance(rows, bytes):
        rows = np.pad(rows, [(0, 0), (0, -rows.shape[1] % 4)]).tobytes()
    colours = (
        b""
        if palette is None
        else np.pad(palette[:, ::-1], [(0, 0), (0, 1)]).astype(np.uint8).tobytes()
    )
    fields = struct.pack(
        "<IiiHHIIiiII",
        header,
        width,
        height,
        1,
        bits,
        compression,
        len(rows),
        0,
        0,
        len(colours) // 4,
        0,
    )
    after = struct.pack(f"<{len(masks)}I", *masks)
    if header > 40:
        after = after.ljust(16, b"\0") + struct.pack("<I", 0x73524742).ljust(header - 56, b"\0")
    start = 14 + len(fields) + len(after) + len(colours)
    return (
        struct.pack("<2sIHHI", b"BM", start + len(rows), 0, 0, start)
        + fields
        + after
        + colours
        + rows
    )
