"""TIFF files of rare colour spaces, compressions and pages, with the samples that they hold."""

import io
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import file_writers as w
import imagecodecs
import numpy as np
from file_writers import tiff, tiff_page
from image_case import FEW, Case, random_samples, rgb_from_cmyk, smooth_samples
from PIL import Image

GRAY_WHITE, GRAY, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8


def tiff_kind_cases() -> Iterator[Case]:
    for make in (_colour_spaces, _codecs, _pages):
        yield from make()


def _colour_spaces() -> Iterator[Case]:
    for order, codec, tile, planar in product("<>", (w.NONE, w.LZW, w.DEFLATE), (None, 16), (1, 2)):
        about = f"{order}, codec {codec}, tile {tile}, planar {planar}"
        options = {"order": order, "compression": codec, "tile": tile, "planar": planar}
        raw = random_samples(4, 8)
        page = tiff_page(raw, 8, CMYK, **options)
        yield Case(
            "TIFF CMYK, 8 bits",
            about,
            ".tif",
            tiff(page, order=order),
            rgb_from_cmyk(raw),
            raw,
            tolerance=1,
        )
        wide = random_samples(4, 16)
        page = tiff_page(wide, 16, CMYK, **options)
        yield Case(
            "TIFF CMYK, 16 bits", about, ".tif", tiff(page, order=order), None, wide, says="CMYK"
        )
        more = random_samples(5, 8)
        page = tiff_page(more, 8, CMYK, extra=(0,), **options)
        yield Case(
            "TIFF CMYK + extra samples",
            about,
            ".tif",
            tiff(page, order=order),
            rgb_from_cmyk(more[..., :4]),
            more,
            tolerance=1,
            says="extra channel",
        )
        page = tiff_page(more, 8, CMYK, extra=(2,), **options)
        yield Case(
            "TIFF CMYK + extra samples",
            f"alpha, {about}",
            ".tif",
            tiff(page, order=order),
            None,
            more,
            says="CMYK.*alpha",
        )
        # gray in Lab: L of 0..255 with a = b = 0, which any white point maps to gray
        lab = np.concatenate([random_samples(1, 8), np.zeros((*FEW, 2), np.uint8)], 2)
        level = lab[..., :1] / 255 * 100
        y = np.where(level > 8, ((level + 16) / 116) ** 3, level / 903.3)
        s = np.where(y <= 0.0031308, 12.92 * y, 1.055 * y ** (1 / 2.4) - 0.055)
        page = tiff_page(lab, 8, LAB, **options)
        expected = np.rint(s.repeat(3, 2) * 255).astype(np.uint8)
        yield Case(
            "TIFF Lab, 8 bits", about, ".tif", tiff(page, order=order), expected, lab, tolerance=2
        )
        page = tiff_page(random_samples(3, 16), 16, LAB, **options)
        yield Case("TIFF Lab, 16 bits", about, ".tif", tiff(page, order=order), None, says="Lab")
        page = tiff_page(random_samples(3, 8), 8, 9, **options)
        yield Case(
            "TIFF Lab of other forms (ICC, ITU)",
            about,
            ".tif",
            tiff(page, order=order),
            None,
            says="Lab",
        )
        ycc = np.concatenate([random_samples(1, 8), np.full((*FEW, 2), 128, np.uint8)], 2)
        page = tiff_page(ycc, 8, YCBCR, t530=(w.SHORT, [1, 1]), **options)
        yield Case("TIFF YCbCr", about, ".tif", tiff(page, order=order), ycc[..., [0, 0, 0]], ycc)
    page = tiff_page(random_samples(1, 16), 16, 32803)
    yield Case("TIFF raw sensor data (CFA)", "16 bits", ".tif", tiff(page), None, says="sensor")
    page = tiff_page(random_samples(3, 16), 16, 34892)
    yield Case("TIFF raw sensor data (CFA)", "linear", ".tif", tiff(page), None, says="colour")
    page = tiff_page(random_samples(1, 8), 8, RGB)
    yield Case("TIFF RGB of one sample", "8 bits", ".tif", tiff(page), None, says="channel")
    page = tiff_page(random_samples(3, 8), 8, GRAY, t262=(w.SHORT, None))
    yield Case("TIFF without a colour space", "8 bits", ".tif", tiff(page), None, says="colour")


def _codecs() -> Iterator[Case]:
    smooth = smooth_samples(3, (48, 48))
    for tile, (name, options) in product(
        (None, 48),
        {
            "RGB": {"colorspace": "RGB", "outcolorspace": "RGB"},
            "gray": {},
            "YCbCr 4:4:4": {"outcolorspace": "YCBCR", "subsampling": "444"},
            "YCbCr 4:2:0": {"outcolorspace": "YCBCR", "subsampling": "420"},
        }.items(),
    ):
        raw = smooth[..., :1] if name == "gray" else smooth
        photometric = {"RGB": RGB, "gray": GRAY}.get(name, YCBCR)
        more = (
            {"t530": (w.SHORT, [2, 2] if "4:2:0" in name else [1, 1])}
            if photometric == YCBCR
            else {}
        )

        def jpeg(part, options=options, gray=name == "gray"):
            return imagecodecs.jpeg8_encode(
                np.ascontiguousarray(part[..., 0] if gray else part), level=98, **options
            )

        page = tiff_page(
            raw,
            8,
            photometric,
            tile=tile,
            compression=w.JPEG,
            compress=jpeg,
            t278=(w.LONG, [48]),
            **more,
        )
        if not tile:
            page.segments = [jpeg(raw)]
        else:
            del page.tags[278]
        yield Case(
            "TIFF JPEG in TIFF", f"{name}, tile {tile}", ".tif", tiff(page), raw, raw, tolerance=12
        )
    for name, photometric, planar, raw in (
        ("CMYK", CMYK, 1, smooth_samples(4, (48, 48))),
        ("RGB", RGB, 2, smooth),
        ("RGBA", RGB, 2, smooth_samples(4, (48, 48))),
    ):
        data = (
            imagecodecs.jpeg8_encode(raw, level=98, colorspace="CMYK", outcolorspace="CMYK")
            if planar == 1
            else b""
        )
        parts = (
            [data]
            if planar == 1
            else [
                imagecodecs.jpeg8_encode(np.ascontiguousarray(p), level=98)
                for p in np.moveaxis(raw, 2, 0)
            ]
        )
        page = tiff_page(
            raw,
            8,
            photometric,
            planar=planar,
            extra=(2,) * (name == "RGBA"),
            t259=(w.SHORT, [w.JPEG]),
            t278=(w.LONG, [48]),
        )
        page.segments = parts
        expected = rgb_from_cmyk(raw) if name == "CMYK" else raw
        yield Case(
            "TIFF JPEG in TIFF",
            f"{name}, planar {planar}",
            ".tif",
            tiff(page),
            expected,
            raw,
            tolerance=12,
        )
    for codec, options in (
        ("group3", {}),
        ("group3", {292: 1}),
        ("group4", {}),
        ("tiff_ccitt", {}),
    ):
        bits = random_samples(1, 1)[..., 0]
        with io.BytesIO() as file:
            Image.fromarray(bits * 255).convert("1").save(
                file, "TIFF", compression=codec, tiffinfo=options
            )
            data = file.getvalue()
        yield Case(
            "TIFF fax compression", f"{codec} {options}", ".tif", data, bits[..., None] * 255
        )
    for channels in (3, 4):
        raw = random_samples(channels, 8, (48, 48))
        for tile in (None, 16):

            def webp(part):
                with io.BytesIO() as file:
                    Image.fromarray(part).save(file, "WEBP", lossless=True, exact=True)
                    return file.getvalue()

            page = tiff_page(
                raw,
                8,
                RGB,
                tile=tile,
                compression=w.WEBP,
                compress=webp,
                extra=(2,) * (channels == 4),
            )
            yield Case(
                "TIFF WebP in TIFF",
                f"{channels} channels, tile {tile}",
                ".tif",
                tiff(page),
                raw,
                raw,
            )
    for codec, says in (
        (6, "compress"),
        (34712, "compress"),
        (34676, "compress"),
        (50002, "compress"),
        (7, ""),
    ):
        bits, channels = (12, 1) if codec == 7 else (8, 3)
        page = tiff_page(
            random_samples(channels, bits),
            bits,
            RGB if channels == 3 else GRAY,
            compress=lambda part: b"\0" * 100,
            t259=(w.SHORT, [codec]),
        )
        yield Case(
            "TIFF other compression",
            f"codec {codec}",
            ".tif",
            tiff(page),
            None,
            says=says or "12 bits",
        )


def _pages() -> Iterator[Case]:
    for bits, codec in product((8, 16), (w.NONE, w.DEFLATE, w.LZW)):
        first, second, *more = (
            tiff_page(random_samples(3, bits, seed=level), bits, RGB, compression=codec)
            for level in range(4)
        )
        samples, about = random_samples(3, bits, seed=0), f"{bits} bits, codec {codec}"
        yield Case(
            "TIFF further pages",
            f"two, {about}",
            ".tif",
            tiff(first, second),
            samples,
            samples,
            says="1 further page",
        )
        yield Case(
            "TIFF further pages",
            f"four, {about}",
            ".tif",
            tiff(first, second, *more),
            samples,
            samples,
            says="3 further pages",
        )
        preview = tiff_page(random_samples(3, 8, (5, 4), seed=9), 8, RGB, t254=(w.LONG, [1]))
        mask = tiff_page(random_samples(1, 1), 1, 4, t254=(w.LONG, [4]))
        kind = "TIFF previews and masks"
        yield Case(
            kind,
            f"preview after, {about}",
            ".tif",
            tiff(first, preview),
            samples,
            samples,
            says="1 preview",
        )
        yield Case(
            kind, f"preview first, {about}", ".tif", tiff(preview, first), samples, says="1 preview"
        )
        yield Case(
            kind, f"mask after, {about}", ".tif", tiff(first, mask), samples, samples, says="1 mask"
        )
        small = replace(first, children=[preview, preview])
        yield Case(
            kind,
            f"previews in SubIFDs, {about}",
            ".tif",
            tiff(small),
            samples,
            samples,
            says="2 previews",
        )
        parent = tiff_page(random_samples(3, 8, (5, 4), seed=9), 8, RGB, t254=(w.LONG, [1]))
        parent.children = [first]
        yield Case(
            kind,
            f"photo in a SubIFD of its preview, {about}",
            ".tif",
            tiff(parent),
            None,
            says="preview",
        )
        yield Case(kind, f"alone, {about}", ".tif", tiff(preview), None, says="preview")
