"""PNG, JPEG, WebP and BMP files of every layout with the samples that they hold."""

import io
import struct
import zlib
from collections.abc import Iterator
from itertools import product

import imagecodecs
import numpy as np
from file_writers import chunk, pack, png
from image_case import FEW, Case, grow, random_samples, rgb_from_cmyk, smooth_samples
from PIL import Image

COLOURS = {
    "gray": (0, 1, (1, 2, 4, 8, 16)),
    "RGB": (2, 3, (8, 16)),
    "gray + alpha": (4, 2, (8, 16)),
    "RGBA": (6, 4, (8, 16)),
}


def other_cases() -> Iterator[Case]:
    for make in (_png, _png_animations, _jpeg, _jpeg_others, _webp):
        yield from make()


def as_image(samples: np.ndarray) -> Image.Image:
    return Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    with io.BytesIO() as file:
        image.save(file, kind, **options)
        return file.getvalue()


def _png() -> Iterator[Case]:
    for (name, (colour, channels, depths)), interlaced in product(COLOURS.items(), (False, True)):
        for bits in depths:
            about = f"{bits} bits, interlaced {interlaced}"
            raw = random_samples(channels, bits)
            whole = grow(raw, bits) if bits < 8 else raw
            other = whole if bits >= 8 else raw
            yield Case(
                f"PNG {name}",
                about,
                ".png",
                png(raw, bits, colour, interlaced=interlaced),
                whole,
                whole,
            )
            if colour in (0, 2):
                key = chunk(b"tRNS", struct.pack(f">{channels}H", *raw[3, 4].tolist()))
                there = (raw != raw[3, 4]).any(2, keepdims=True) * np.iinfo(other.dtype).max
                expected = np.concatenate([whole, there.astype(other.dtype)], 2)
                data = png(raw, bits, colour, key, interlaced=interlaced)
                yield Case(
                    "PNG colour key (tRNS)", f"{name}, {about}", ".png", data, expected, expected
                )
    for bits, interlaced, entries in product((1, 2, 4, 8), (False, True), (0, 1, 3)):
        raw, palette = (
            random_samples(1, bits),
            np.random.default_rng(bits).integers(0, 256, (2**bits, 3), np.uint8),
        )
        alpha = np.full(2**bits, 255, np.uint8)
        alpha[: min(entries, 2**bits)] = np.array([7, 200, 90], np.uint8)[: min(entries, 2**bits)]
        extra = [chunk(b"PLTE", palette.tobytes())]
        extra += [chunk(b"tRNS", alpha[:entries].tobytes())] if entries else []
        expected = palette[raw[..., 0]]
        expected = np.concatenate([expected, alpha[raw]], 2) if entries else expected
        data = png(raw, bits, 3, *extra, interlaced=interlaced)
        kind = "PNG palette" + (" + transparency" if entries else "")
        yield Case(kind, f"{bits} bits, interlaced {interlaced}", ".png", data, expected, expected)


def _png_animations() -> Iterator[Case]:
    for bits, hidden, frames in product((8, 16), (False, True), (2, 4)):
        raw = random_samples(3, bits)
        size = struct.pack(">II", FEW[1], FEW[0])
        control = [chunk(b"acTL", struct.pack(">II", frames, 0))]
        frame = [size + struct.pack(">IIHHBB", 0, 0, 1, 10, 0, 0)] * frames
        body = zlib.compress(
            b"".join(b"\0" + row.tobytes() for row in pack(raw.reshape(len(raw), -1), bits))
        )
        control += [] if hidden else [chunk(b"fcTL", struct.pack(">I", 0) + frame.pop())]
        after, number = b"", 0 if hidden else 1
        for fields in frame:
            after += chunk(b"fcTL", struct.pack(">I", number) + fields) + chunk(
                b"fdAT", struct.pack(">I", number + 1) + body
            )
            number += 2
        says = f"{frames - (not hidden)} further"
        yield Case(
            "PNG animated",
            f"{bits} bits, {frames} frames, still picture {hidden}",
            ".png",
            png(raw, bits, 2, *control, after=after),
            raw,
            raw,
            says=says,
        )


def _jpeg() -> Iterator[Case]:
    rgb = smooth_samples(3)
    for sampling, progressive, restart in product(
        ("4:4:4", "4:2:2", "4:2:0"), (False, True), (0, 1)
    ):
        data = saved(
            as_image(rgb),
            "JPEG",
            quality=97,
            subsampling=sampling,
            progressive=progressive,
            restart_marker_rows=restart,
        )
        yield Case(
            "JPEG RGB",
            f"{sampling}, progressive {progressive}, restart {restart}",
            ".jpg",
            data,
            rgb,
            rgb,
            tolerance=8,
        )
    yield Case(
        "JPEG RGB",
        "stored as RGB",
        ".jpg",
        saved(as_image(rgb), "JPEG", quality=97, keep_rgb=True),
        rgb,
        rgb,
        tolerance=8,
    )
    for sampling in ("440", "411"):
        data = imagecodecs.jpeg8_encode(rgb, level=97, subsampling=sampling)
        yield Case("JPEG RGB", sampling, ".jpg", data, rgb, rgb, tolerance=12)
    for progressive in (False, True):
        gray = smooth_samples(1)
        data = saved(as_image(gray), "JPEG", quality=97, progressive=progressive)
        yield Case("JPEG gray", f"progressive {progressive}", ".jpg", data, gray, gray, tolerance=8)
        ink = smooth_samples(4)
        data = saved(
            Image.frombytes("CMYK", FEW[::-1], ink.tobytes()),
            "JPEG",
            quality=97,
            progressive=progressive,
        )
        yield Case(
            "JPEG CMYK",
            f"inverted as Adobe does, progressive {progressive}",
            ".jpg",
            data,
            rgb_from_cmyk(ink),
            tolerance=10,
        )
        at = data.index(b"Adobe") - 4
        plain = data[:at] + data[at + 16 :]
        yield Case(
            "JPEG CMYK",
            f"inverted or not, progressive {progressive}",
            ".jpg",
            plain,
            None,
            says="CMYK",
        )
        # YCCK: the first three channels of inverted ink are coded as YCbCr
        ycck = np.concatenate(
            [np.asarray(as_image(ink[..., :3]).convert("YCbCr")), 255 - ink[..., 3:]], 2
        )
        data = saved(
            Image.frombytes("CMYK", FEW[::-1], (255 - ycck).tobytes()),
            "JPEG",
            quality=97,
            progressive=progressive,
        )
        data = data[: at + 15] + b"\2" + data[at + 16 :]
        yield Case(
            "JPEG CMYK",
            f"YCCK, progressive {progressive}",
            ".jpg",
            data,
            rgb_from_cmyk(ink),
            tolerance=12,
        )


def _jpeg_others() -> Iterator[Case]:
    rgb = smooth_samples(3)
    for channels in (1, 3):
        twelve = (smooth_samples(channels).astype(np.uint16) * 16).squeeze()
        data = imagecodecs.jpeg8_encode(twelve, level=95, bitspersample=12)
        yield Case(
            "JPEG 12 bits, lossless",
            f"12 bits, {channels} channels",
            ".jpg",
            data,
            None,
            says="12 bits",
        )
        samples = random_samples(channels, 8)
        data = imagecodecs.jpeg8_encode(samples.squeeze(), lossless=True)
        yield Case(
            "JPEG 12 bits, lossless",
            f"lossless, {channels} channels",
            ".jpg",
            data,
            samples,
            samples,
        )
    for count in (1, 3):
        more = [as_image(255 - rgb)] * count
        data = saved(
            as_image(rgb), "MPO", save_all=True, append_images=more, quality=97, subsampling=0
        )
        says = f"{count} further image"
        yield Case(
            "JPEG with further images (MPO)",
            f"{count} more",
            ".jpg",
            data,
            rgb,
            rgb,
            tolerance=8,
            says=says,
        )
    base = saved(as_image(rgb), "JPEG", quality=97, subsampling=0)
    yield Case(
        "JPEG with bytes after its end",
        "a film",
        ".jpg",
        base + b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 9,
        rgb,
        rgb,
        tolerance=8,
        says="after (its|the) end",
    )
    yield Case(
        "JPEG with bytes after its end",
        "a preview",
        ".jpg",
        base + base,
        rgb,
        rgb,
        tolerance=8,
        says="after (its|the) end",
    )
    yield Case(
        "JPEG with bytes after its end", "zeros", ".jpg", base + bytes(999), rgb, rgb, tolerance=8
    )


def _webp() -> Iterator[Case]:
    for channels, lossless in product((3, 4), (False, True)):
        samples = random_samples(channels, 8) if lossless else smooth_samples(channels)
        data = saved(as_image(samples), "WEBP", lossless=lossless, quality=100, exact=True)
        yield Case(
            "WebP",
            f"{channels} channels, lossless {lossless}",
            ".webp",
            data,
            samples,
            samples,
            tolerance=0 if lossless else 12,
        )
        for frames in (2, 4):
            if channels == 4:
                samples = samples | np.array(
                    [0, 0, 0, 1], np.uint8
                )  # a decoder of animations clears what cannot be seen
            more = [as_image(random_samples(channels, 8, seed=n)) for n in range(1, frames)]
            data = saved(
                as_image(samples),
                "WEBP",
                save_all=True,
                append_images=more,
                lossless=lossless,
                quality=100,
                exact=True,
            )
            says = f"{frames - 1} further"
            expected = samples
            if (
                lossless and channels == 3
            ):  # the frames after the first have alpha, by Pillow's choice
                expected = np.concatenate([samples, np.full((*FEW, 1), 255, np.uint8)], 2)
            yield Case(
                "WebP animated",
                f"{channels} channels, lossless {lossless}, {frames} frames",
                ".webp",
                data,
                expected,
                tolerance=0 if lossless else 12,
                says=says,
            )
