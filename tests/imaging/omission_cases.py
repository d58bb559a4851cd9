"""Files that tell what is left out when they are read."""

import struct
import zlib
from collections.abc import Iterator

import file_writers as w
import numpy as np
from file_writers import bmp, chunk, png, tiff, tiff_page
from image_case import Case, random_samples
from metadata_cases import PROFILE, RGB, photoshop, segment, with_segments


def omission_cases() -> Iterator[Case]:
    for make in (_jpeg_segments, _png_chunks, _tiff_tags, _bmp_profiles):
        yield from make()


def _jpeg_segments() -> Iterator[Case]:
    for about, body, says in (
        ("a comment", segment(0xFE, b"made by hand"), "comment"),
        ("two comments", segment(0xFE, b"made by hand") * 2, "comment"),
        (
            "Photoshop's resources",
            segment(0xED, b"Photoshop 3.0\0" + photoshop(0x3ED, bytes(16))),
            "Photoshop",
        ),
        ("of another program", segment(0xEB, b"JP\0\1jumb"), "APP11"),
        ("picture as FlashPix", segment(0xE2, b"FPXR\0\0"), "APP2"),
    ):
        yield Case(
            "JPEG comments and other segments",
            about,
            ".jpg",
            with_segments(body),
            RGB,
            RGB,
            12,
            says,
        )
    quiet = segment(0xEE, b"Adobe" + bytes([0, 100, 0, 0, 0, 0, 1]))
    yield Case(
        "JPEG comments and other segments",
        "Adobe's marker",
        ".jpg",
        with_segments(quiet),
        RGB,
        RGB,
        12,
    )


def _png_chunks() -> Iterator[Case]:
    for about, body, says in (
        ("text", chunk(b"tEXt", b"Software\0a program"), "text"),
        ("compressed text", chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"hello")), "text"),
        ("international text", chunk(b"iTXt", b"Title\0\0\0\0\0hello"), "text"),
        ("gamma 1", chunk(b"gAMA", struct.pack(">I", 100000)), "gamma"),
        ("gamma of sRGB", chunk(b"gAMA", struct.pack(">I", 45455)), ""),
        ("sRGB", chunk(b"sRGB", b"\0"), ""),
        (
            "primaries",
            chunk(
                b"cHRM",
                struct.pack(">8I", *[31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000]),
            ),
            "primaries",
        ),
        (
            "primaries of sRGB",
            chunk(
                b"cHRM",
                struct.pack(">8I", *[31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000]),
            ),
            "",
        ),
        ("coding of colour", chunk(b"cICP", bytes([9, 16, 0, 1])), "cICP"),
        ("another", chunk(b"prVt", b"private"), "prVt"),
    ):
        yield Case(
            "PNG texts and other chunks", about, ".png", png(RGB, 8, 2, body), RGB, RGB, says=says
        )


def _tiff_tags() -> Iterator[Case]:
    for about, tags, says in (
        ("transfer function", {"t301": (w.SHORT, list(range(0, 65536, 256)))}, "transfer function"),
        (
            "primaries",
            {"t319": (w.RATIONAL, [64, 100, 33, 100, 30, 100, 60, 100, 15, 100, 6, 100])},
            "primaries",
        ),
        ("layers of Photoshop", {"t37724": (w.UNDEFINED, bytes(100))}, "layers"),
        ("resources of Photoshop", {"t34377": (w.BYTE, photoshop(0x3ED, bytes(16)))}, "Photoshop"),
        (
            "GeoTIFF",
            {"t33550": (12, bytes(24)), "t34735": (w.SHORT, [1, 1, 0, 0])},
            "tags 33550, 34735",
        ),
        ("description", {"t270": (w.ASCII, b"A hill\0")}, ""),
    ):
        yield Case(
            "TIFF other tags",
            about,
            ".tif",
            tiff(tiff_page(RGB, 8, 2, **tags)),
            RGB,
            RGB,
            says=says,
        )


def _bmp_profiles() -> Iterator[Case]:
    rows = RGB[::-1, :, ::-1].reshape(len(RGB), -1)
    data = bytearray(bmp(rows, RGB.shape[1], RGB.shape[0], 24, header=124) + PROFILE)
    struct.pack_into("<I", data, 14 + 56, 0x4D424544)  # "MBED"
    struct.pack_into("<II", data, 14 + 112, len(data) - len(PROFILE) - 14, len(PROFILE))
    yield Case("BMP colour profile", "in the file", ".bmp", bytes(data), RGB, says="profile")
    fourth = np.concatenate([RGB[..., ::-1], random_samples(1, 8)], 2)[::-1].reshape(len(RGB), -1)
    for masks in ((), (0xFF0000, 0xFF00, 0xFF, 0xFF000000)):
        data = bmp(fourth, RGB.shape[1], RGB.shape[0], 32, 0, masks, header=108 if masks else 40)
        yield Case("BMP fourth byte", f"masks {masks}", ".bmp", data, RGB, says="extra channel")
