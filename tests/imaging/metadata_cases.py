"""Files that tell something about their picture besides its pixels."""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from itertools import product

import file_writers as w
import numpy as np
from file_writers import chunk, png, tiff, tiff_page
from image_case import Case, random_samples, smooth_samples
from other_cases import as_image, saved
from PIL import Image, ImageCms

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP_HEAD = b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
XMP_HEAD += (
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
)
XMP_HEAD += b'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4" xmp:Label="'
XMP_TAIL = b'"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
IPTC = b"".join(
    b"\x1c\x02" + struct.pack(">BH", n, len(t)) + t
    for n, t in ((105, b"Headline"), (80, b"A. Person"))
)
RGB = smooth_samples(3)


def metadata_cases() -> Iterator[Case]:
    for make in (_orientations, _xmp_orientations, _profiles, _exif, _xmp, _iptc, _large_iptc):
        yield from make()


def turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """How an image stored with an EXIF orientation is meant to be seen (TIFF 6.0, tag 274)."""
    image = image.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else image
    image = image[::-1] if orientation in (3, 4, 7, 8) else image
    return image[:, ::-1] if orientation in (2, 3, 6, 7) else image


def exif_block(orientation: int = 1, note: bytes = b"") -> bytes:
    exif = Image.Exif()
    exif[271], exif[274] = "Maker", orientation
    if note:
        exif.get_ifd(34665)[37500] = note
    return exif.tobytes()


def _orientations() -> Iterator[Case]:
    for orientation, suffix in product(range(1, 9), (".png", ".tif", ".webp", ".jpg")):
        kept, tolerance = {"exif": b"Maker"}, 12 if suffix == ".jpg" else 0
        kind = {".png": "PNG", ".tif": "TIFF", ".webp": "WEBP", ".jpg": "JPEG"}[suffix]
        if suffix != ".tif":
            data = saved(
                as_image(RGB), kind, exif=exif_block(orientation), lossless=True, quality=97
            )
            yield Case(
                "orientation",
                f"{kind} {orientation}",
                suffix,
                data,
                turned(RGB, orientation),
                RGB,
                tolerance,
                keeps=kept,
            )
        if suffix == ".png":
            wide, body = random_samples(3, 16), exif_block(orientation).removeprefix(b"Exif\0\0")
            yield Case(
                "orientation",
                f"PNG 16 bits {orientation}",
                suffix,
                png(wide, 16, 2, chunk(b"eXIf", body)),
                turned(wide, orientation),
                wide,
                keeps=kept,
            )
        if suffix == ".tif":
            for bits, codec, channels in product((8, 16), (w.NONE, w.LZW, w.DEFLATE), (1, 2, 3)):
                samples = random_samples(channels, bits)
                tags = {"t271": (w.ASCII, b"Maker\0"), "t274": (w.SHORT, [orientation])}
                page = tiff_page(
                    samples,
                    bits,
                    2 if channels == 3 else 1,
                    compression=codec,
                    extra=(2,) * (channels == 2),
                    **tags,
                )
                yield Case(
                    "orientation",
                    f"TIFF {bits} bits, codec {codec} {orientation}",
                    suffix,
                    tiff(page),
                    turned(samples, orientation),
                    samples,
                    keeps=kept,
                )


def _xmp_orientations() -> Iterator[Case]:
    for orientation, form in product(
        range(1, 9), ('tiff:Orientation="%d"', "<tiff:Orientation>%d</tiff:Orientation>")
    ):
        text = packet(10, (form % orientation).encode())
        data = png(RGB, 8, 2, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + text))
        upright = {"xmp": (form % 1).encode()}
        yield Case(
            "orientation in XMP",
            f"PNG {orientation}",
            ".png",
            data,
            turned(RGB, orientation),
            RGB,
            keeps=upright,
        )
        data = saved(as_image(RGB), "WEBP", xmp=text, lossless=True)
        yield Case(
            "orientation in XMP",
            f"WebP {orientation}",
            ".webp",
            data,
            turned(RGB, orientation),
            RGB,
            keeps=upright,
        )


def _profiles() -> Iterator[Case]:
    for size, suffix in product((0, 70_000, 200_000, 1_500_000), (".png", ".tif", ".webp", ".jpg")):
        profile = PROFILE + np.random.default_rng(0).bytes(size)
        about, keeps = f"{suffix} {len(profile)} bytes", {"icc": profile}
        if suffix == ".tif":
            data = tiff(tiff_page(RGB, 8, 2, t34675=(w.UNDEFINED, profile)))
        else:
            data = saved(
                as_image(RGB),
                {".png": "PNG", ".webp": "WEBP", ".jpg": "JPEG"}[suffix],
                icc_profile=profile,
                lossless=True,
                quality=97,
            )
        yield Case(
            "ICC profile", about, suffix, data, RGB, RGB, 12 * (suffix == ".jpg"), keeps=keeps
        )


def _exif() -> Iterator[Case]:
    for size, suffix in product((10, 60_000, 300_000), (".png", ".tif", ".webp", ".jpg")):
        if size > 65000 and suffix == ".jpg":
            continue
        note = np.random.default_rng(0).bytes(size)
        block = exif_block(1, note)
        if suffix == ".tif":
            child = w.Page({271: (w.ASCII, b"Maker\0"), 37500: (w.UNDEFINED, note)}, [])
            data = tiff(tiff_page(RGB, 8, 2, t271=(w.ASCII, b"Maker\0")), exif=child)
        else:
            data = saved(
                as_image(RGB),
                {".png": "PNG", ".webp": "WEBP", ".jpg": "JPEG"}[suffix],
                exif=block,
                lossless=True,
                quality=97,
            )
        yield Case(
            "EXIF",
            f"{suffix} {size} bytes",
            suffix,
            data,
            RGB,
            RGB,
            12 * (suffix == ".jpg"),
            keeps={"exif": note},
        )


def packet(size: int, more: bytes = b"") -> bytes:
    return XMP_HEAD + b"x" * size + b'" ' + more + XMP_TAIL[1:]


def _xmp() -> Iterator[Case]:
    for size, suffix in product((10, 60_000, 300_000), (".png", ".tif", ".webp", ".jpg")):
        if size > 65000 and suffix == ".jpg":
            continue
        xmp = packet(size)
        if suffix == ".tif":
            data = tiff(tiff_page(RGB, 8, 2, t700=(w.BYTE, xmp)))
        elif suffix == ".png":
            data = png(RGB, 8, 2, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
        else:
            data = saved(
                as_image(RGB),
                {".webp": "WEBP", ".jpg": "JPEG"}[suffix],
                xmp=xmp,
                lossless=True,
                quality=97,
            )
        yield Case(
            "XMP",
            f"{suffix} {size} bytes",
            suffix,
            data,
            RGB,
            RGB,
            12 * (suffix == ".jpg"),
            keeps={"xmp": xmp},
        )
    compressed = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(packet(9000)))
    yield Case(
        "XMP",
        "compressed in PNG",
        ".png",
        png(RGB, 8, 2, compressed),
        RGB,
        RGB,
        keeps={"xmp": packet(9000)},
    )
    for size in (1000, 200_000):
        extension = b"<x:xmpmeta/>" + b"y" * size
        name = hashlib.md5(extension).hexdigest().upper().encode()
        note = (
            b'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="' + name + b'"'
        )
        parts = [extension[i : i + 65000] for i in range(0, len(extension), 65000)]
        signature = b"http://ns.adobe.com/xmp/extension/\0" + name
        segments = [
            segment(0xE1, signature + struct.pack(">II", len(extension), 65000 * i) + part)
            for i, part in enumerate(parts)
        ]
        main = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet(10, note))
        yield Case(
            "XMP in several parts",
            f"{size} bytes more",
            ".jpg",
            with_segments(main, *segments),
            RGB,
            RGB,
            12,
            "XMP",
            keeps={"xmp": b"Rating"},
        )


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def with_segments(*segments: bytes) -> bytes:
    base = saved(as_image(RGB), "JPEG", quality=97)
    return base[:20] + b"".join(segments) + base[20:]  # after JFIF


def photoshop(resource: int, body: bytes) -> bytes:
    return b"8BIM" + struct.pack(">HHI", resource, 0, len(body)) + body + bytes(len(body) % 2)


def _iptc() -> Iterator[Case]:
    for more in (b"", b"z" * 1001):
        iptc = IPTC + more
        data = with_segments(segment(0xED, b"Photoshop 3.0\0" + photoshop(0x404, iptc)))
        yield Case(
            "IPTC", f"JPEG {len(iptc)} bytes", ".jpg", data, RGB, RGB, 12, keeps={"iptc": iptc}
        )
        for kind in (w.BYTE, w.UNDEFINED, w.LONG):
            body = iptc + bytes(-len(iptc) % 4)
            data = tiff(tiff_page(RGB, 8, 2, t33723=(kind, body)))
            yield Case(
                "IPTC",
                f"TIFF type {kind}, {len(iptc)} bytes",
                ".tif",
                data,
                RGB,
                RGB,
                keeps={"iptc": iptc},
            )


def _large_iptc() -> Iterator[Case]:
    iptc = IPTC * 4000
    body = photoshop(0x404, iptc)
    parts = [
        segment(0xED, b"Photoshop 3.0\0" + body[i : i + 65000]) for i in range(0, len(body), 65000)
    ]
    yield Case(
        "IPTC",
        f"JPEG {len(iptc)} bytes",
        ".jpg",
        with_segments(*parts),
        RGB,
        RGB,
        12,
        keeps={"iptc": iptc},
    )
