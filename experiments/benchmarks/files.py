"""Compare writing of a large PNG and TIFF file with other libraries: wall time and bytes.

    python experiments/benchmarks/files.py [--photo FILE] [--width 8000] [--height 6000]
        [--bits 8 16] [--threads 2] [--rounds 3] [--json FILE]

Each library has its default settings, and fast settings that still compress: level 1, and for PNG
the filter of `realsr` (Average), without a search for repetitions (Huffman) where possible. All
write lossless files (PNG; TIFF with deflate) of the same samples to a temporary folder, without
fsync, in turns; the median over rounds counts. `realsr`, tifffile and pyvips use `--threads`
threads. A library counts unless the file of `realsr` has more than 1.15 times its bytes. The ratio
is that to the fastest of them; the last line has the largest ratio of all formats.

The 8-bit image is the photo, repeated in mirror images. The 16-bit image is half of that, enlarged by
bicubic interpolation, so that its low bits hold content. pyvips and tifffile are left out where they are
not installed.
"""

import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import make_parser, report
from PIL import Image

from realsr.imaging import Layout, open_photo_writer, read_uint8
from realsr.simulation.camera_model import load_photograph

MOST_BYTES = 1.15
Writer = Callable[[Path, np.ndarray], Any]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--photo", type=Path, help="default: a photograph of scikit-image")
    parser.add_argument("--width", type=int, default=8000)
    parser.add_argument("--height", type=int, default=6000)
    parser.add_argument("--bits", type=int, nargs="+", choices=(8, 16), default=[8, 16])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ["VIPS_CONCURRENCY"] = str(options.threads)
    torch.set_num_threads(options.threads)
    photo = (
        read_uint8(options.photo)
        if options.photo
        else load_photograph("astronaut", "the benchmark", "demo")
    )
    results: dict[str, Any] = {}
    for bits in options.bits:
        image = make_image(photo, options.height, options.width, bits)
        for suffix, writers in (
            (".png", list_png_writers(bits)),
            (".tif", list_tiff_writers(bits, options.threads)),
        ):
            figures = measure(writers, image, suffix, options.rounds)
            results |= {f"{suffix[1:]}{bits} {name}": value for name, value in figures.items()}
    ratios = {name: value for name, value in results.items() if name.endswith(" ratio")}
    report(results, options.json)
    print("ratio", max(ratios.values()))


def make_image(photo: np.ndarray, height: int, width: int, bits: int) -> np.ndarray:
    """Return an image (height, width, 3) of 8 or 16 bits with the content of a photo."""
    divisor = 1 if bits == 8 else 2
    size = height // divisor, width // divisor
    border = [(0, max(0, side - own)) for side, own in zip(size, photo.shape[:2], strict=True)]
    image = np.pad(photo, [*border, (0, 0)], mode="symmetric")[: size[0], : size[1]]
    if bits == 8:
        return np.ascontiguousarray(image)
    wide = image.astype(np.uint16) * 257
    return cv2.resize(wide, (width, height), interpolation=cv2.INTER_CUBIC)


def write_realsr(path: Path, image: np.ndarray) -> None:
    """Write as `realsr.upscale` does, without waiting for the disk."""
    with open_photo_writer(path, Layout.of(image), sync=False) as writer:
        writer.write(image)


def list_png_writers(bits: int) -> dict[str, Writer]:
    """Return the writers of PNG by name."""

    def pillow(**settings: Any) -> Writer:
        return lambda path, image: Image.fromarray(image).save(path, **settings)

    def opencv(*settings: int) -> Writer:
        return lambda path, image: cv2.imwrite(str(path), image[..., ::-1], settings)

    writers: dict[str, Writer] = {"realsr": write_realsr}
    if bits == 8:  # Pillow has no RGB of 16 bits
        writers |= {"Pillow": pillow(), "Pillow, fast": pillow(compress_level=1)}
    writers |= {
        "OpenCV": opencv(),
        "OpenCV, fast": opencv(cv2.IMWRITE_PNG_COMPRESSION, 1),
        "OpenCV, Average and Huffman": opencv(
            *(cv2.IMWRITE_PNG_COMPRESSION, 1),
            *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_AVG),
            *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY),
        ),
    }
    if find_spec("pyvips"):
        import pyvips

        def vips(**settings: Any) -> Writer:
            return lambda path, image: pyvips.Image.new_from_array(image).pngsave(
                str(path), **settings
            )

        writers |= {
            "pyvips": vips(),
            "pyvips, fast": vips(compression=1),
            "pyvips, Average": vips(compression=1, filter="avg"),
        }
    return writers


def list_tiff_writers(bits: int, threads: int) -> dict[str, Writer]:
    """Return the writers of TIFF with deflate by name."""

    def opencv(path: Path, image: np.ndarray) -> None:
        cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 8])

    def pillow(path: Path, image: np.ndarray) -> None:
        Image.fromarray(image).save(path, compression="tiff_adobe_deflate")

    writers: dict[str, Writer] = {"realsr": write_realsr, "OpenCV": opencv}
    if bits == 8:
        writers["Pillow"] = pillow
    if find_spec("tifffile"):
        import tifffile

        def tiff(level: int | None) -> Writer:
            arguments: dict[str, Any] = {
                "compression": "zlib",
                "predictor": True,
                "maxworkers": threads,
                "rowsperstrip": 64,
            }
            if level is not None:
                arguments["compressionargs"] = {"level": level}
            return lambda path, image: tifffile.imwrite(path, image, **arguments)

        writers |= {"tifffile": tiff(None), "tifffile, fast": tiff(1)}
    if find_spec("pyvips"):
        import pyvips

        def vips(**settings: Any) -> Writer:
            return lambda path, image: pyvips.Image.new_from_array(image).tiffsave(
                str(path), compression="deflate", predictor="horizontal", **settings
            )

        writers |= {"pyvips": vips(), "pyvips, fast": vips(level=1)}
    return writers


def measure(
    writers: dict[str, Writer], image: np.ndarray, suffix: str, rounds: int
) -> dict[str, Any]:
    """Return seconds and bytes by writer, and the ratio of `realsr` to the fastest that counts."""
    seconds: dict[str, list[float]] = {name: [] for name in writers}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in writers}
    sizes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for name, write in writers.items():
                path = Path(folder) / f"image{suffix}"
                start, cpu_start = time.perf_counter(), measure_cpu()
                write(path, image)
                seconds[name].append(time.perf_counter() - start)
                cpu_seconds[name].append(measure_cpu() - cpu_start)
                sizes[name] = path.stat().st_size
                path.unlink()
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    rivals = [
        name for name in writers if name != "realsr" and sizes["realsr"] <= MOST_BYTES * sizes[name]
    ]
    figures: dict[str, Any] = {
        name: {
            "seconds": round(medians[name], 3),
            "cpu_seconds": round(statistics.median(cpu_seconds[name]), 3),
            "megabytes": round(sizes[name] / 1e6, 1),
        }
        for name in writers
    }
    best = min(rivals, key=lambda name: medians[name]) if rivals else None
    figures["best"] = best
    figures["ratio"] = round(medians["realsr"] / medians[best], 3) if best else float("nan")
    return figures


def measure_cpu() -> float:
    """Return the CPU seconds of all threads of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
