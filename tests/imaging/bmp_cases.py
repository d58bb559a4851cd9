"""BMP files of every layout with the samples that they hold."""

from collections.abc import Iterator
from itertools import product

import numpy as np
from file_writers import bmp, pack
from image_case import FEW, Case, random_samples


def bmp_cases() -> Iterator[Case]:
    yield from _bmp_palettes()
    yield from _bmp_colours()


def _bmp_palettes() -> Iterator[Case]:
    for bits, turned, gray, header in product((1, 4, 8), (1, -1), (False, True), (40, 108, 124)):
        raw = random_samples(1, bits)
        count = 2**bits
        palette = np.random.default_rng(bits).integers(0, 256, (count, 3), np.uint8)
        if gray:
            palette = np.rint(np.linspace(0, 255, count))[:, None].repeat(3, 1).astype(np.uint8)
        rows = pack(raw[::-turned].reshape(len(raw), -1), bits)
        data = bmp(rows, FEW[1], turned * FEW[0], bits, palette=palette, header=header)
        expected = palette[raw[..., 0]][..., : 1 if gray and bits != 4 else 3]
        about = f"{bits} bits, {'bottom up' if turned == 1 else 'top down'}, gray {gray}, header {header}"
        yield Case(
            "BMP palette",
            about,
            ".bmp",
            data,
            expected,
            expected if gray and bits == 8 else palette[raw[..., 0]],
        )
    for bits, kind in product((4, 8), ("runs", "as they are", "skipped")):
        raw, palette = (
            random_samples(1, bits),
            np.random.default_rng(bits).integers(0, 256, (2**bits, 3), np.uint8),
        )
        raw[:, 5:30] = raw[:, 5:6]
        if kind == "skipped":
            raw[:, 10:20], raw[7] = 0, 0
        data = bmp(
            _run_lengths(raw[::-1, :, 0], bits, kind),
            FEW[1],
            FEW[0],
            bits,
            {8: 1, 4: 2}[bits],
            palette=palette,
        )
        yield Case("BMP run lengths", f"{bits} bits, {kind}", ".bmp", data, palette[raw[..., 0]])
    for compression, bits in ((4, 0), (5, 0), (1, 4), (2, 8), (9, 24)):
        data = bmp(
            bytes(5000), FEW[1], FEW[0], bits, compression, palette=np.zeros((256, 3), np.uint8)
        )
        yield Case(
            "BMP other compression",
            f"{compression}, {bits} bits",
            ".bmp",
            data,
            None,
            says="compress",
        )


def _run_lengths(rows: np.ndarray, bits: int, kind: str) -> bytes:
    """RLE8 and RLE4: pairs of a length and a colour, which in RLE4 are two colours in turn."""
    data = b""
    for row in rows.tolist():
        x = 0
        while x < len(row):
            if kind == "skipped" and x == 10:
                data, x = data + b"\0\2\x0a\0", 20
            end = x + 1
            while (
                end < len(row)
                and row[end] == row[x]
                and end - x < 255
                and not (kind == "skipped" and end == 10)
            ):
                end += 1
            if kind == "as they are" and x + 7 <= len(row):
                part = row[x : x + 7]
                packed = bytes(part) if bits == 8 else pack(np.array([part]), 4).tobytes()
                data, end = data + bytes([0, 7]) + packed + b"\0" * (len(packed) % 2), x + 7
            else:
                data += bytes([end - x, row[x] if bits == 8 else row[x] * 17])
            x = end
        data += b"\0\0"
    return data + b"\0\1"


def _bmp_colours() -> Iterator[Case]:
    masks = {
        "555": (16, (0x7C00, 0x3E0, 0x1F, 0)),
        "565": (16, (0xF800, 0x7E0, 0x1F, 0)),
        "BGRX": (32, (0xFF0000, 0xFF00, 0xFF, 0)),
        "RGBX": (32, (0xFF, 0xFF00, 0xFF0000, 0)),
        "XBGR": (32, (0xFF000000, 0xFF0000, 0xFF00, 0)),
        "BGRA": (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
        "RGBA": (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
        "10-bit": (32, (0x3FF00000, 0xFFC00, 0x3FF, 0)),
        "1555": (16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
        "4444": (16, (0xF00, 0xF0, 0xF, 0xF000)),
    }
    for (name, (bits, fields)), turned, header in product(
        masks.items(), (1, -1), (40, 56, 108, 124)
    ):
        sizes = [field.bit_count() for field in fields if field]
        raw = np.concatenate(
            [random_samples(1, size, seed=n).astype(np.uint32) for n, size in enumerate(sizes)], 2
        )
        shifts = [(field & -field).bit_length() - 1 for field in fields if field]
        numbers = sum(raw[..., n] << shift for n, shift in enumerate(shifts))
        rows = pack(numbers[::-turned].astype(f"u{bits // 8}"), bits, "<")
        if header == 40 and fields[3]:
            continue  # such a header has no mask of alpha
        data = bmp(
            rows,
            FEW[1],
            turned * FEW[0],
            bits,
            3,
            fields[: 3 if header == 40 else 4],
            header=header,
        )
        expected = np.rint(raw * (255 / (2 ** np.array(sizes) - 1))).astype(np.uint8)
        about = f"{name}, {'bottom up' if turned == 1 else 'top down'}, header {header}"
        odd = name in ("10-bit", "1555", "4444", "RGBX")
        says = "bit masks" if odd else ""
        yield Case(
            "BMP 16, 32 bits with masks",
            about,
            ".bmp",
            data,
            None if odd else expected,
            tolerance=int(bits == 16),
            says=says,
        )
    for bits, turned in product((16, 24, 32), (1, -1)):
        raw = random_samples(3, 5 if bits == 16 else 8)
        if bits == 16:
            numbers = (
                (raw.astype(np.uint16) << np.array([10, 5, 0], np.uint16)).sum(2).astype(np.uint16)
            )
            rows, expected = (
                pack(numbers[::-turned], 16, "<"),
                np.rint(raw * (255 / 31)).astype(np.uint8),
            )
        else:
            full = np.concatenate([raw[..., ::-1], np.full((*FEW, 1), 7, np.uint8)], 2)[
                ..., : bits // 8
            ]
            rows, expected = full[::-turned].reshape(len(full), -1), raw
        data = bmp(rows, FEW[1], turned * FEW[0], bits)
        yield Case(
            "BMP 16, 24, 32 bits",
            f"{bits} bits, turned {turned}",
            ".bmp",
            data,
            expected,
            tolerance=int(bits == 16),
        )
