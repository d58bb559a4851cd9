"""TIFF files of every layout with the samples that they hold."""

from collections.abc import Iterator
from functools import partial
from itertools import product

import file_writers as w
import numpy as np
from file_writers import tiff, tiff_page
from image_case import Case, grow, random_samples, straight
from tiff_kind_cases import tiff_kind_cases

GRAY_WHITE, GRAY, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
FORMS = {  # name: photometric, channels, extra samples
    "gray": (GRAY, 1, ()),
    "white is zero": (GRAY_WHITE, 1, ()),
    "gray + alpha": (GRAY, 2, (2,)),
    "RGB": (RGB, 3, ()),
    "RGBA": (RGB, 4, (2,)),
    "gray + associated alpha": (GRAY, 2, (1,)),
    "RGB + associated alpha": (RGB, 4, (1,)),
}
CODECS = (
    [(w.NONE, 1)]
    + [(codec, p) for codec in (w.LZW, w.DEFLATE, w.ZSTD) for p in (1, 2)]
    + [(w.PACKBITS, 1)]
)


def tiff_cases() -> Iterator[Case]:
    for make in (_layouts, _rare_storage, _extra_samples, _few_bits, _number_types, _palettes):
        yield from make()
    yield from tiff_kind_cases()


def _layouts() -> Iterator[Case]:
    for (name, (photometric, channels, extra)), bits in product(FORMS.items(), (8, 16)):
        raw = random_samples(channels, bits)
        if extra == (1,):
            raw[..., :-1] = np.minimum(raw[..., :-1], raw[..., -1:])
        expected = straight(raw) if extra == (1,) else raw
        expected = np.iinfo(raw.dtype).max - raw if photometric == GRAY_WHITE else expected
        for planar, tile, order, (codec, predictor) in product((1, 2), (None, 16), "<>", CODECS):
            page = tiff_page(
                raw, bits, photometric, order, planar, tile, codec, predictor, extra=extra
            )
            about = f"planar {planar}, {'tiles' if tile else 'strips'}, {order}, codec {codec}, predictor {predictor}"
            yield Case(
                f"TIFF {name}, {bits} bits", about, ".tif", tiff(page, order=order), expected, raw
            )


def _rare_storage() -> Iterator[Case]:
    for (name, (photometric, channels, extra)), bits in product(list(FORMS.items())[2:5], (8, 16)):
        raw = random_samples(channels, bits)
        for order, codec, tile in product("<>", (w.NONE, w.LZW, w.OLD_DEFLATE, w.LZMA), (None, 16)):
            page = tiff_page(raw, bits, photometric, order, 1, tile, codec, extra=extra)
            about = f"{name}, {bits} bits, {order}, codec {codec}, tile {tile}"
            yield Case("TIFF BigTIFF", about, ".tif", tiff(page, order=order, big=True), raw, raw)
            page = tiff_page(raw, bits, photometric, order, 1, tile, codec, fill=2, extra=extra)
            yield Case(
                "TIFF bits in reverse order (FillOrder 2)",
                about,
                ".tif",
                tiff(page, order=order),
                raw,
                raw,
            )
        for codec in (w.NONE, w.PACKBITS):
            page = tiff_page(
                raw, bits, photometric, compression=codec, extra=extra, t317=(w.SHORT, [2])
            )
            about = f"{name}, {bits} bits, codec {codec}"  # tifffile would add the samples up
            yield Case("TIFF predictor that does not count", about, ".tif", tiff(page), raw)
        page = tiff_page(raw[:7], bits, photometric, extra=extra, t278=(w.LONG, None))
        about = f"{name}, {bits} bits, one strip without RowsPerStrip"
        yield Case("TIFF BigTIFF", about, ".tif", tiff(page, big=True), raw[:7], raw[:7])


def _extra_samples() -> Iterator[Case]:
    says = "extra channel"
    for bits, planar, codec in product((8, 16), (1, 2), (w.NONE, w.LZW)):
        kind = f"TIFF several extra samples, {bits} bits"
        about = f"planar {planar}, codec {codec}"
        options = {"planar": planar, "compression": codec}
        for photometric, colours, name in ((GRAY, 1, "gray"), (RGB, 3, "RGB")):
            for extra, alpha in (
                ((0,), None),
                ((0, 0), None),
                ((2, 0), 0),
                ((0, 2), 1),
                ((2, 0, 0), 0),
            ):
                raw = random_samples(colours + len(extra), bits)
                colour = raw[..., :colours]
                expected = (
                    colour
                    if alpha is None
                    else np.concatenate([colour, raw[..., colours + alpha, None]], 2)
                )
                page = tiff_page(raw, bits, photometric, extra=extra, **options)
                yield Case(
                    kind, f"{name}, {extra}, {about}", ".tif", tiff(page), expected, raw, says=says
                )
            raw = random_samples(colours + 1, bits)
            page = tiff_page(raw, bits, photometric, **options)
            yield Case(
                kind, f"{name}, alpha without its tag, {about}", ".tif", tiff(page), raw, raw
            )


def _few_bits() -> Iterator[Case]:
    for bits, photometric, tile, codec, fill in product(
        (1, 2, 4), (GRAY_WHITE, GRAY), (None, 16), (w.NONE, w.LZW, w.PACKBITS), (1, 2)
    ):
        raw = random_samples(1, bits)
        expected = grow(raw if photometric == GRAY else 2**bits - 1 - raw, bits)
        page = tiff_page(raw, bits, photometric, tile=tile, compression=codec, fill=fill)
        about = f"photometric {photometric}, tile {tile}, codec {codec}, fill order {fill}"
        yield Case(
            f"TIFF {bits}-bit gray", about, ".tif", tiff(page), expected, raw if fill == 1 else None
        )
    for bits, (name, (photometric, channels, extra)) in product((1, 2, 4), FORMS.items()):
        if channels > 1 and extra != (1,):
            raw = random_samples(channels, bits)
            page = tiff_page(raw, bits, photometric, extra=extra)
            yield Case(
                "TIFF 1, 2, 4 bits with several channels",
                f"{name}, {bits} bits",
                ".tif",
                tiff(page),
                grow(raw, bits),
                raw,
            )


def _file(raw: np.ndarray, bits: int, photometric: int, order: str, **more) -> bytes:
    return tiff(tiff_page(raw, bits, photometric, order, **more), order=order)


def _number_types() -> Iterator[Case]:
    for channels, order, codec in product((1, 2, 3, 4), "<>", (w.NONE, w.DEFLATE)):
        photometric, extra = (GRAY if channels < 3 else RGB), ((2,) if channels in (2, 4) else ())
        about = f"{channels} channels, {order}, codec {codec}"

        page = partial(_file, photometric=photometric, order=order, compression=codec, extra=extra)
        for bits in (8, 16, 32):
            signed = random_samples(channels, bits).view(f"i{bits // 8}")
            yield Case(
                "TIFF signed",
                f"{bits} bits, {about}",
                ".tif",
                page(signed, bits),
                None,
                signed,
                says="signed",
            )
        for bits in (16, 32, 64):
            floats = random_samples(channels, 8).astype(f"f{bits // 8}") / 255
            yield Case(
                "TIFF floating-point",
                f"{bits} bits, {about}",
                ".tif",
                page(floats, bits),
                None,
                floats,
                says="floating-point",
            )
        for bits in (10, 12, 14, 32):
            raw = random_samples(channels, bits)
            yield Case(
                "TIFF 10, 12, 14, 32 bits",
                f"{bits} bits, {about}",
                ".tif",
                page(raw, bits),
                None,
                says=f"{bits} bits",
            )
        void = random_samples(channels, 8)
        data = page(void, 8, t339=(w.SHORT, [4] * channels))
        yield Case("TIFF numbers without a type", about, ".tif", data, void, void)
        mixed = page(random_samples(channels, 8), 8, t339=(w.SHORT, [1] * (channels - 1) + [2]))
        yield Case("TIFF signed", f"the last of {about}", ".tif", mixed, None, says="signed")
    for bits in ([5, 6, 5], [8, 8, 16], [16, 8, 8], [8, 8, 8, 1], [1, 8]):
        raw = random_samples(len(bits), min(bits))
        photometric, extra = (RGB if len(bits) > 2 else GRAY), ((2,) if len(bits) in (2, 4) else ())
        data = tiff(tiff_page(raw, bits, photometric, extra=extra))
        yield Case(
            "TIFF bits that differ between samples", str(bits), ".tif", data, None, says="differ"
        )


def _palettes() -> Iterator[Case]:
    for bits, order, codec, tile, fill in product(
        (1, 2, 4, 8), "<>", (w.NONE, w.LZW, w.PACKBITS), (None, 16), (1, 2)
    ):
        raw = random_samples(1, bits)
        colours = np.random.default_rng(bits).integers(0, 256, (2**bits, 3))
        table = (w.SHORT, (colours.T.ravel() * 257).tolist())
        page = tiff_page(
            raw, bits, PALETTE, order, compression=codec, tile=tile, fill=fill, t320=table
        )
        about = f"{bits} bits, {order}, codec {codec}, tile {tile}, fill order {fill}"
        expected = colours[raw[..., 0]].astype(np.uint8)
        yield Case(
            "TIFF palette",
            about,
            ".tif",
            tiff(page, order=order),
            expected,
            raw if fill == 1 else None,
        )
    colours = np.random.default_rng(0).integers(0, 256, (256, 3))
    table = (w.SHORT, (colours.T.ravel() * 257).tolist())
    for extra, order, codec in product((2, 0, 1), "<>", (w.NONE, w.LZW)):
        raw = random_samples(2, 8)
        page = tiff_page(raw, 8, PALETTE, order, extra=(extra,), compression=codec, t320=table)
        rgb = colours[raw[..., 0]].astype(np.uint8)
        expected = {0: rgb, 2: np.concatenate([rgb, raw[..., 1:]], 2), 1: None}[extra]
        about, says = (
            f"extra sample {extra}, {order}, codec {codec}",
            {0: "extra channel", 2: "", 1: "palette"}[extra],
        )
        yield Case(
            "TIFF palette + extra sample",
            about,
            ".tif",
            tiff(page, order=order),
            expected,
            raw,
            says=says,
        )
    raw = random_samples(1, 8)
    page = tiff_page(raw, 8, PALETTE, t320=(w.SHORT, colours.T.ravel().tolist()))
    expected = colours[raw[..., 0]].astype(np.uint8)
    yield Case(
        "TIFF palette",
        "8 bits, colours of 8 bits, as old programs wrote",
        ".tif",
        tiff(page),
        expected,
        raw,
    )
    raw = random_samples(1, 16)
    table = (w.SHORT, np.zeros(3 * 65536, int).tolist())
    yield Case(
        "TIFF palette",
        "16 bits",
        ".tif",
        tiff(tiff_page(raw, 16, PALETTE, t320=table)),
        None,
        raw,
        says="palette",
    )
    data = tiff(tiff_page(random_samples(1, 8), 8, PALETTE))
    yield Case("TIFF palette", "without its colours", ".tif", data, None, says="palette")
