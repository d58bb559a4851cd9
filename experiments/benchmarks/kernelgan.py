"""Compare batched KernelGAN with a plain implementation: seconds per photo, and kernel PSNR.

The plain form (`plain_kernelgan.py`) trains one photo at a time with PyTorch's modules, autograd
and optimisers, and applies G's six layers to every crop. The batched form
(`realsr.kernels.kernelgan_training`) trains many photos at once. Both have the same photos, crops,
schedule and threads, and noise of the same distribution. They take turns, so that other load on the
machine affects both; the median over rounds counts. A first round warms both up.

    python experiments/benchmarks/kernelgan.py [PHOTO ...] [--batch 32] [--iterations 30] [--rounds 5]
        [--threads N] [--device cpu|cuda] [--full] [--json FILE]

The default photos are some of scikit-image's. A round has `iterations` iterations; seconds are
extrapolated to 3000 per photo. `loop` is training alone. `end_to_end` includes decoding and crop
maps, photo by photo in one process for both forms, and the construction of the networks. On a CPU,
`processor` is the CPU time of the loop over all threads, which is less sensitive to other load. The
last line is the speed-up of the loop. `--full` trains both to completion on one photo with a known
kernel, and prints the kernel PSNRs.
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import make_parser, report
from plain_kernelgan import PlainKernelGAN

from realsr.core.workers import split_work
from realsr.imaging import apply_kernel, read_uint8, to_float, to_uint8, write_uint8
from realsr.imaging.kernel_shapes import kernel_psnr, postprocess
from realsr.kernels.gaussian import draw_div2krk
from realsr.kernels.kernelgan import prepare_photo
from realsr.kernels.kernelgan_training import (
    GraphStep,
    KernelGANConfig,
    Photo,
    _GANs,
    train_kernelgans,
)

SAMPLES = ("astronaut", "chelsea", "coffee", "rocket")
ALL = 3000  # iterations of a photo
RATE = 2e-4


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("photos", nargs="*", type=Path, metavar="PHOTO")
    parser.add_argument(
        "--batch", type=int, default=32, help="photos in a batch of the batched form"
    )
    parser.add_argument("--iterations", type=int, default=30, help="measured in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--full", action="store_true", help="train both to the end on one photo (minutes)"
    )
    arguments = vars(parser.parse_args())
    json_path, full = arguments.pop("json"), arguments.pop("full")
    torch.set_num_threads(arguments.pop("threads"))
    quality = compare_kernels(arguments["device"]) if full else {}
    report({"threads": torch.get_num_threads(), **quality, **compare_speed(**arguments)}, json_path)


class BatchedGANs:
    """The batched form: the photos in a cycle, shared among threads as in `train_kernelgans`."""

    def __init__(
        self, photos: Sequence[Photo], config: KernelGANConfig, batch: int, device: str
    ) -> None:
        self._device = torch.device(device)
        photos = list(itertools.islice(itertools.cycle(photos), batch))
        count = min(torch.get_num_threads(), batch) if device == "cpu" else 1
        bounds = [round(i * batch / count) for i in range(count + 1)]
        self._parts = [
            _GANs(photos[first:last], config, range(first, last), self._device)
            for first, last in itertools.pairwise(bounds)
        ]

    @cached_property
    def _steps(self) -> list[Callable[..., Any]]:
        steps = [part.step for part in self._parts]
        if self._device.type == "cpu":
            return steps
        return [GraphStep(step, self._device) for step in steps]

    def run(self, start: int, count: int) -> None:
        """Train for `count` iterations from `start` on."""

        def work(
            parts: list[_GANs], steps: list[Callable[..., Any]], progress: Callable[[int], None]
        ) -> None:
            for part, step in zip(parts, steps, strict=True):
                for offset, inputs in enumerate(zip(*part.draw(start, count), strict=True)):
                    step(*inputs)
                    part.advance(start + offset + 1)

        if self._device.type == "cpu":
            split_work(work, [self._parts, self._steps], lambda steps: None)
        else:
            work(self._parts, self._steps, lambda steps: None)


def compare_speed(
    photos: list[Path], batch: int, iterations: int, rounds: int, device: str
) -> dict[str, Any]:
    """Return the seconds per photo of both forms, and the speed-up."""
    with tempfile.TemporaryDirectory() as folder:
        paths = photos or write_samples(Path(folder))
        config = KernelGANConfig(ALL, RATE, border=0, average_from=None, gan_after_start=False)
        start = time.perf_counter()
        inputs = [prepare_photo(read_uint8(path), config, [0])[0] for path in paths]
        preparation = (time.perf_counter() - start) / len(paths)

    config = KernelGANConfig(
        iterations * (rounds + 1), RATE, border=0, average_from=None, gan_after_start=False
    )
    PlainKernelGAN(inputs[0], config, 0, device)  # the first optimiser imports more of PyTorch
    start = time.perf_counter()
    plain = PlainKernelGAN(inputs[0], config, 0, device)
    middle = time.perf_counter()
    batched = BatchedGANs(inputs, config, batch, device)
    end = time.perf_counter()
    before = {"plain": preparation + middle - start, "ours": preparation + (end - middle) / batch}
    rows = [
        [
            seconds
            for run in (plain.run, batched.run)
            for seconds in measure(run, number * iterations, iterations, device)
        ]
        for number in range(rounds + 1)
    ]
    wall, processor, batch_wall, batch_processor = (
        statistics.median(column) * ALL / iterations for column in zip(*rows[1:], strict=True)
    )
    seconds = {"loop": {"plain": wall, "ours": batch_wall / batch}}
    if device == "cpu":
        seconds["processor"] = {"plain": processor, "ours": batch_processor / batch}
    seconds["end_to_end"] = {form: value + before[form] for form, value in seconds["loop"].items()}
    results: dict[str, Any] = {
        "device": device,
        "batch": batch,
        "iterations": iterations,
        "rounds": rounds,
    }
    for kind, forms in seconds.items():
        results |= {f"{form}_{kind}_seconds": round(value, 4) for form, value in forms.items()}
        results[f"{kind}_ratio"] = round(forms["plain"] / forms["ours"], 2)
    results |= {
        f"{form}_photos_an_hour": round(3600 / value, 1)
        for form, value in seconds["end_to_end"].items()
    }
    results["ratio"] = results.pop("loop_ratio")
    return results


def measure(
    run: Callable[[int, int], None], start: int, count: int, device: str
) -> tuple[float, float]:
    """Return the seconds and the CPU seconds of `count` iterations."""
    wall, processor = time.perf_counter(), time.process_time()
    run(start, count)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - processor


def compare_kernels(device: str, iterations: int = ALL) -> dict[str, float]:
    """Train both forms to completion on a photo with a known kernel; return seconds and PSNRs."""
    from skimage import data

    true = draw_div2krk(np.random.default_rng(0), False, (0.6, 5.0), 0.25)
    photo_uint8 = to_uint8(apply_kernel(to_float(data.astronaut()), true, scale=2))
    config = KernelGANConfig(iterations, RATE, border=10, average_from=None, gan_after_start=False)
    (photo,) = prepare_photo(photo_uint8, config, [0])
    kernels = {}

    def train_plain(start: int, count: int) -> None:
        gan = PlainKernelGAN(photo, config, seed=0, device=device)
        gan.run(start, count)
        kernels["plain"] = gan.kernel().detach().cpu().numpy()

    def train_batch(*_: int) -> None:
        kernels["ours"] = train_kernelgans([photo], config, [0], device=device).kernels[0]

    results = {}
    for form, train in (("plain", train_plain), ("ours", train_batch)):
        results[f"{form}_full_seconds"] = round(measure(train, 0, iterations, device)[0], 2)
        results[f"{form}_kernel_psnr"] = round(kernel_psnr(true, postprocess(kernels[form])), 2)
    return results


def write_samples(folder: Path) -> list[Path]:
    """Write photos of scikit-image into a folder."""
    from skimage import data

    paths = [folder / f"{name}.png" for name in SAMPLES]
    for path in paths:
        write_uint8(path, getattr(data, path.stem)())
    return paths


if __name__ == "__main__":
    main()
