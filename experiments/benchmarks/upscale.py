"""Compare upscaling by the published DF2K on the CPU: `realsr`, plain PyTorch, `ncnn`.

Forms, all with the same weights, tiles and threads (see `upscale_forms.py`):
  ours            `realsr.inference.load_model`, precision=auto, whose form depends on the CPU
  ours fp32       the same, precision=fp32
  direct fp32     the same without Winograd's convolutions, as before 2026-11-28
  plain float32   `realsr.networks.RRDB` in eager mode
  ncnn            the same .param and .bin in the `ncnn` package, default settings
  ncnn bf16       the same with bf16 storage; the reference is the faster of the two

Each form has a separate process, which reports its peak memory (including libraries and weights).
The forms take turns for several rounds, so that other load on the machine affects all of them; the
minimum of the seconds is reported. A first, small run of each warms up. Images: 128x128 LR of
scikit-image's astronaut (bicubic, 8 bits), upscaled as a whole; a photo of 800x600 (scikit-image's
coffee above its rocket) in tiles of 200, as in realsr-ncnn-vulkan, one round; and the 8-bit RGB
PSNR to HR, 4 pixels cropped, on four photos (astronaut, chelsea, coffee, rocket).

    python experiments/benchmarks/upscale.py [--small] [--rounds 5] [--threads 2] [--json FILE]

`--small` runs only the 128x128 image. The last line is the ratio of the seconds of `realsr` and
ncnn at 128x128; below 1 is faster.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import make_parser, report
from upscale_forms import FORMS, SCALE

from realsr.core.devices import cpu_instruction_set
from realsr.evaluation.metrics.psnr import psnr
from realsr.imaging import resize

TILE = 200
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
Compare = Callable[[np.ndarray], float]


class Worker:
    """A form's process."""

    def __init__(self, name: str, weights: str, threads: int, folder: Path) -> None:
        command = [
            sys.executable,
            str(Path(__file__).with_name("upscale_forms.py")),
            name,
            weights,
            str(threads),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.folder = folder
        self.start_memory = self._answer()["peak_MB"]

    def run(self, lr: np.ndarray, tile: int | None = None) -> tuple[np.ndarray, dict[str, float]]:
        """Return the upscaled image, seconds and peak memory."""
        request = {
            "lr": str(self.folder / "lr.npy"),
            "sr": str(self.folder / "sr.npy"),
            "tile": tile,
        }
        np.save(request["lr"], lr)
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        return np.load(request["sr"]), answer

    def _answer(self) -> dict[str, float]:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a form's process ended: {self.process.args}")
        return json.loads(line)

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def make_pair(hr: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
    """Return LR as an array and HR as a tensor, (3, h, w) of float32 in 0..1, of an 8-bit photo."""
    height, width = (side // SCALE * SCALE for side in hr.shape[:2])
    target = (
        torch.from_numpy(hr[:height, :width].astype(np.float32) / 255).permute(2, 0, 1).contiguous()
    )
    small = resize(target, factor=1 / SCALE).clamp(0, 1)
    return ((small * 255).round() / 255).numpy(), target


def take_turns(
    workers: dict[str, Worker],
    lr: np.ndarray,
    rounds: int,
    tile: int | None,
    compare: dict[str, Compare],
) -> dict[str, dict[str, float]]:
    """Return seconds, peak memory, PSNR to the plain form and other measures of each form."""
    times: dict[str, list[float]] = {name: [] for name in workers}
    results, peaks = {}, {}
    for _ in range(rounds):
        for name, worker in workers.items():
            results[name], answer = worker.run(lr, tile)
            times[name].append(answer["seconds"])
            peaks[name] = answer["peak_MB"]
    exact = results["plain float32"]
    return {
        name: {
            "seconds": round(min(times[name]), 3),
            "median_seconds": round(float(np.median(times[name])), 3),
            "peak_MB": round(peaks[name]),
            "loaded_MB": round(workers[name].start_memory),
            **(
                {}
                if name == "plain float32"
                else {"psnr_to_float32": round(float_psnr(results[name], exact), 2)}
            ),
            **{key: round(function(results[name]), 4) for key, function in compare.items()},
        }
        for name in workers
    }


def float_psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Return the PSNR with peak 1, not rounded to 8 bits."""
    return float(-10 * np.log10(np.square(first.astype(np.float64) - second).mean()))


def compare_photos(workers: dict[str, Worker]) -> dict[str, dict[str, float]]:
    """Return each form's mean PSNR against HR and to the plain form's result over the photos."""
    from skimage import data

    to_hr: dict[str, list[float]] = {name: [] for name in workers}
    to_float: dict[str, list[float]] = {name: [] for name in workers}
    for photo in PHOTOS:
        lr, hr = make_pair(getattr(data, photo)())
        results = {name: worker.run(lr)[0] for name, worker in workers.items()}
        for name, sr in results.items():
            to_hr[name].append(against(hr)(sr))
            if name != "plain float32":
                to_float[name].append(float_psnr(sr, results["plain float32"]))
    means = {name: {"psnr_to_hr": round(float(np.mean(to_hr[name])), 4)} for name in workers}
    for name, values in to_float.items():
        if values:
            means[name]["psnr_to_float32"] = round(float(np.mean(values)), 2)
    return means


def against(hr: torch.Tensor) -> Compare:
    """Return the 8-bit RGB PSNR to HR, with `scale` pixels cropped at each border."""
    return lambda sr: psnr(torch.from_numpy(sr).clamp(0, 1), hr, SCALE)


def main() -> None:
    """Measure, and tell."""
    parser = make_parser(__doc__)
    parser.add_argument("--small", action="store_true", help="only the 128x128 crop")
    parser.add_argument("--size", type=int, default=128, help="of the small LR crop")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--weights", default="df2k", help="df2k, or a folder with an RRDB in ncnn's format"
    )
    options = parser.parse_args()
    from skimage import data

    results: dict[str, Any] = {
        "threads": options.threads,
        "instruction_set": cpu_instruction_set(),
    }
    with tempfile.TemporaryDirectory() as folder:
        workers = {
            name: Worker(name, options.weights, options.threads, Path(folder)) for name in FORMS
        }
        for worker in workers.values():
            worker.run(np.zeros((3, 16, 16), np.float32))
        lr, hr = make_pair(data.astronaut()[: SCALE * options.size, : SCALE * options.size])
        results["crop"] = take_turns(workers, lr, options.rounds, None, {"psnr_to_hr": against(hr)})
        if not options.small:
            results["photos"] = compare_photos(workers)
            photo = np.concatenate((data.coffee()[:400, :600], data.rocket()[:400, :600]))
            lr = np.ascontiguousarray(photo.transpose(2, 0, 1), np.float32) / 255
            results["half_megapixel"] = take_turns(workers, lr, 1, TILE, {})
        for worker in workers.values():
            worker.end()
    for key in ("half_megapixel", "crop"):
        if key in results:
            seconds = {name: facts["seconds"] for name, facts in results[key].items()}
            fast = seconds["ours"]
            results[f"{key}_to_direct"] = round(fast / seconds["direct fp32"], 3)
            results[f"{key}_to_plain"] = round(fast / seconds["plain float32"], 3)
            results[f"{key}_to_ncnn_default"] = round(fast / seconds["ncnn"], 3)
            results[f"{key}_to_ncnn_bf16"] = round(fast / seconds["ncnn bf16"], 3)
    results["ratio"] = max(results["crop_to_ncnn_default"], results["crop_to_ncnn_bf16"])
    report(results, options.json)


if __name__ == "__main__":
    main()
