"""Measure which damage to image files is detected.

Photos made by numpy are written in each format and encoding. Each file is then damaged in one place at a time: cut off,
a sector of 512 bytes set to zero, or one bit flipped, at places spread over the whole file. What `read_photo` makes of
it is compared with the samples of the whole file:

- refused: an error that names the file; of these, `accepted` are read with damaged=accept, whole or in part;
- right: the same samples. The damage is in what holds no pixels, or the bit does not matter;
- wrong: other samples, without a message.

    python experiments/faults/damaged_photos.py [--output FILE.json] [--encodings NAME,NAME] [--cuts 10] [--sectors 10]
        [--bits 30] [--seed 0]
"""

import argparse
import io
import json
import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
from PIL import Image

from realsr.imaging import ImageError, Metadata, Photo, read_photo, write_photo

WIDTH, HEIGHT, SECTOR = 250, 187, 512
OUTCOMES = ("refused", "accepted", "right", "wrong")
Trial = tuple[str, bytes]


def make_picture(seed: int) -> np.ndarray:
    """Return (HEIGHT, WIDTH, 3) uint8: shading, edges and noise, as compressible as a photo."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    shading = np.stack(
        [120 + 60 * np.sin(x / 31) + 40 * np.cos((y + 20 * c) / 23) for c in range(3)], -1
    )
    edges = 40 * ((x // 24 + y // 17) % 2)[..., None]
    return (shading + edges + rng.normal(0, 4, shading.shape)).clip(0, 255).astype(np.uint8)


def save(picture: np.ndarray, kind: str, mode: str = "RGB", **options: object) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(picture).convert(mode).save(file, kind, **options)
        return file.getvalue()


def write_realsr(picture: np.ndarray, suffix: str) -> bytes:
    """Return a file written by realsr."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        write_photo(path, Photo(picture, Metadata()))
        return path.read_bytes()


def save_rle(picture: np.ndarray) -> bytes:
    """Return a BMP of 256 grays in RLE8, which Pillow reads but does not write."""
    data = bytearray(save(picture // 16 * 16, "BMP", "L"))
    start = int.from_bytes(data[10:14], "little")
    gray = np.asarray(Image.open(io.BytesIO(data)))[::-1]
    runs = bytearray()
    for row in gray:
        ends = np.flatnonzero(np.diff(row)) + 1
        for part in np.split(row, ends):
            runs += bytes([len(part), part[0]])
        runs += b"\0\0"
    runs += b"\0\1"
    data[30:38] = (1).to_bytes(4, "little") + len(runs).to_bytes(4, "little")
    data[2:6] = (start + len(runs)).to_bytes(4, "little")
    return bytes(data[:start] + runs)


def wide(picture: np.ndarray) -> np.ndarray:
    """Convert (H, W, 3) uint8 to uint16 with a non-zero lower byte."""
    return picture.astype(np.uint16) * 257 ^ picture[::-1]


ENCODINGS: dict[str, tuple[str, Callable[[np.ndarray], bytes]]] = {
    "jpeg 4:4:4": (".jpg", lambda p: save(p, "JPEG", quality=92, subsampling=0)),
    "jpeg 4:2:0": (".jpg", lambda p: save(p, "JPEG", quality=92, subsampling=2)),
    "jpeg progressive": (".jpg", lambda p: save(p, "JPEG", quality=92, progressive=True)),
    "jpeg restart markers": (".jpg", lambda p: save(p, "JPEG", quality=92, restart_marker_rows=1)),
    "jpeg gray": (".jpg", lambda p: save(p, "JPEG", "L", quality=92)),
    "jpeg cmyk": (".jpg", lambda p: save(p, "JPEG", "CMYK", quality=92)),
    "png 8 bit": (".png", lambda p: save(p, "PNG")),
    "png palette": (".png", lambda p: save(p, "PNG", "P")),
    "png 16 bit": (".png", lambda p: write_realsr(wide(p), ".png")),
    "tiff uncompressed": (".tif", lambda p: save(p, "TIFF")),
    "tiff deflate": (".tif", lambda p: write_realsr(p, ".tif")),
    "tiff deflate 16 bit": (".tif", lambda p: write_realsr(wide(p), ".tif")),
    "tiff lzw": (".tif", lambda p: save(p, "TIFF", compression="tiff_lzw")),
    "tiff packbits": (".tif", lambda p: save(p, "TIFF", compression="packbits")),
    "tiff jpeg": (".tif", lambda p: save(p, "TIFF", compression="jpeg", quality=92)),
    "webp lossless": (".webp", lambda p: write_realsr(p, ".webp")),
    "webp lossy": (".webp", lambda p: save(p, "WEBP", quality=92)),
    "bmp": (".bmp", lambda p: save(p, "BMP")),
    "bmp rle": (".bmp", save_rle),
}


def damage_file(data: bytes, cuts: int, sectors: int, bits: int, seed: int) -> Iterator[Trial]:
    """Yield kinds of damage and damaged files, each damaged in one place."""
    for index in range(cuts):
        yield "cut", data[: round(len(data) * (index + 0.5) / cuts)]
    count = -(-len(data) // SECTOR)
    for sector in np.unique(np.linspace(0, count - 1, sectors).round().astype(int)):
        part = data[sector * SECTOR : (sector + 1) * SECTOR]
        if any(part):
            yield (
                "sector",
                data[: sector * SECTOR] + bytes(len(part)) + data[sector * SECTOR + len(part) :],
            )
    rng = np.random.default_rng(seed)
    for index in range(bits):
        place = int(len(data) * (index + rng.random()) / bits)
        byte = data[place] ^ 1 << int(rng.integers(8))
        yield "bit", data[:place] + bytes([byte]) + data[place + 1 :]


def read(path: Path, data: bytes, policy: str) -> np.ndarray | None:
    path.write_bytes(data)
    try:
        return read_photo(path, policy).samples
    except ImageError:
        return None


def judge(path: Path, data: bytes, right: np.ndarray) -> list[str]:
    samples = read(path, data, "refuse")
    if samples is None:
        return ["refused"] + ["accepted"] * (read(path, data, "accept") is not None)
    return ["right" if np.array_equal(samples, right) else "wrong"]


def try_encoding(
    name: str, folder: Path, arguments: argparse.Namespace
) -> dict[str, dict[str, int]]:
    """Return kind of damage -> outcome -> count."""
    suffix, write = ENCODINGS[name]
    data, path = write(make_picture(arguments.seed)), folder / f"photo{suffix}"
    right = read(path, data, "refuse")
    assert right is not None, f"{name}: the whole file is refused"
    counts: dict[str, Counter[str]] = {}
    for kind, spoilt in damage_file(
        data, arguments.cuts, arguments.sectors, arguments.bits, arguments.seed
    ):
        counts.setdefault(kind, Counter()).update(["trials", *judge(path, spoilt, right)])
    return {
        kind: {key: counter[key] for key in ("trials", *OUTCOMES)}
        for kind, counter in counts.items()
    }


def format_table(results: dict[str, dict[str, dict[str, int]]]) -> str:
    """Return a Markdown table: refused / right / wrong by kind of damage, then totals."""
    lines = [
        "| encoding | cut | sector | bit | refused | of these accepted | right | wrong |",
        "|" + "---|" * 8,
    ]
    for name, kinds in results.items():
        cells = [
            "/".join(str(kinds[k][o]) for o in ("refused", "right", "wrong")) if k in kinds else "-"
            for k in ("cut", "sector", "bit")
        ]
        totals = [str(sum(kind[outcome] for kind in kinds.values())) for outcome in OUTCOMES]
        lines.append("| " + " | ".join([name, *cells, *totals]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, help="JSON file for the counts")
    parser.add_argument("--encodings", default=",".join(ENCODINGS), help="names, joined by commas")
    for name, default in (("cuts", 10), ("sectors", 10), ("bits", 30), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    names = arguments.encodings.split(",")
    if unknown := sorted(set(names) - set(ENCODINGS)):
        parser.error(f"unknown encodings {', '.join(unknown)}: choose from {', '.join(ENCODINGS)}")
    logging.getLogger("realsr").setLevel(logging.ERROR)  # a line for each file that is accepted
    with tempfile.TemporaryDirectory() as folder:
        results = {name: try_encoding(name, Path(folder), arguments) for name in names}
    print(format_table(results))
    print("In a column of damage: refused/right/wrong.")
    if arguments.output is not None:
        facts = {
            package: metadata.version(package) for package in ("pillow", "opencv-python-headless")
        }
        report = {"versions": facts, "results": results}
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
