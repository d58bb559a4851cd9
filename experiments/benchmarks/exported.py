"""Compare INT8, fp16 and float32 files in onnxruntime with PyTorch, on the CPU.

All files of a folder of `realsr.export` upscale the same image with the same threads. They take
turns for several rounds, so that other load on the machine affects all of them; the minimum of the
seconds is reported. A first, small image warms up. PyTorch is `realsr.inference.load_model` with
precision=auto (bf16 if the CPU supports it) and fp32.

    python -m realsr.export weights=df2k output=DIR
    python experiments/benchmarks/exported.py DIR df2k [--size 128] [--rounds 5] [--threads 2]
        [--json FILE]

The last line is the ratio of the seconds of INT8 and float32, both in onnxruntime; below 1 is
faster.
"""

from functools import partial
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch

from realsr.deployment.measure import ArrayFunction, open_file
from realsr.inference.model import load_model

CPU = torch.device("cpu")


def open_all(folder: Path, weights: str, threads: int) -> dict[str, ArrayFunction]:
    """Return the two forms of PyTorch and each file by name."""
    forms: dict[str, ArrayFunction] = {}
    for precision in ("fp32", "auto"):
        run = load_model(weights, CPU, precision).run
        forms[f"PyTorch {precision}"] = lambda lr, run=run: run(torch.from_numpy(lr)).numpy()
    return forms | {path.stem: open_file(path, threads) for path in sorted(folder.glob("*.onnx"))}


def take_turns(
    forms: dict[str, ArrayFunction], lr: np.ndarray, rounds: int
) -> dict[str, list[float]]:
    """Return each form's seconds, round by round."""
    for run in forms.values():
        run(np.ascontiguousarray(lr[:, :, :16, :16]))
    return common.take_turns({name: partial(run, lr) for name, run in forms.items()}, rounds)


def main() -> None:
    """Measure, and tell."""
    parser = common.make_parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", help="weights that were exported")
    parser.add_argument("--size", type=int, default=128, help="LR pixels a side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    forms = open_all(options.folder, options.weights, options.threads)
    lr = np.random.default_rng(0).random((1, 3, options.size, options.size), np.float32)
    seconds = take_turns(forms, lr, options.rounds)
    results: dict[str, Any] = {"threads": options.threads, "size": options.size}
    for name, values in seconds.items():
        results[name] = {
            "seconds": round(min(values), 3),
            "median_seconds": round(float(np.median(values)), 3),
        }
    eight = [min(values) for name, values in seconds.items() if "int8" in name]
    if eight and "onnx_fp32" in seconds:
        results["ratio"] = round(min(eight) / min(seconds["onnx_fp32"]), 3)
    common.report(results, options.json)


if __name__ == "__main__":
    main()
