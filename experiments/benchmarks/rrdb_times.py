"""Compare the forms of `FastRRDB`, plain PyTorch, ncnn and onnxruntime by CPU time.

    python experiments/benchmarks/rrdb_times.py [--size 64] [--rounds 3] [--forms ...] [--onnx FILE] [--json FILE]

All forms run with one thread, by turns, in one process, with the published DF2K on a crop of
scikit-image's astronaut. What counts is the CPU time of the process, and of all rounds the minimum,
so that other work on the machine affects the ratios little. `upscale.py` has two threads and wall
time, for a quiet machine.

To measure the AVX2 case on a processor with AVX-512, set (ncnn has no such setting: it always uses
what the processor has):

    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2
    NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES=+avx,+avx2,+fma,+bmi,+bmi2,+f16c,+sse4.2,-avx512f

The last line is the CPU time of Winograd's form over that of the direct one.
"""

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import numpy as np
import torch
from common import make_parser, report, take_turns
from upscale import float_psnr, make_pair
from upscale_forms import SCALE, make_ncnn

from realsr.core.devices import cpu_instruction_set
from realsr.inference.fast_rrdb import FastRRDB
from realsr.weights import load_generator

Form = Callable[[np.ndarray], np.ndarray]
FORMS = ("direct", "winograd", "direct bf16", "winograd bf16", "ncnn", "ncnn bf16", "plain")


def make_form(name: str, network: Any, onnx: Path | None) -> Form:
    """Return a form by its name; `onnxruntime` needs a file of `realsr.export`, in float32."""
    if name.startswith("ncnn"):
        return make_ncnn("df2k", 1, bf16=name == "ncnn bf16")
    if name == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(onnx), options, ["CPUExecutionProvider"])
        return lambda lr: session.run(None, {session.get_inputs()[0].name: lr[None]})[0][0]
    half = torch.bfloat16 if name.endswith("bf16") else None
    run = (
        torch.no_grad()(network)
        if name == "plain"
        else FastRRDB(network, half, winograd=name.startswith("winograd"))
    )
    return lambda lr: run(torch.from_numpy(lr)[None])[0].numpy()


def main() -> None:
    """Measure and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--size", type=int, default=64, help="of the LR crop")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--forms", nargs="+", default=FORMS)
    parser.add_argument("--onnx", type=Path)
    options = parser.parse_args()
    from skimage import data

    torch.set_num_threads(1)
    network = load_generator("df2k")[0]
    lr, _ = make_pair(data.astronaut()[: SCALE * options.size, : SCALE * options.size])
    forms = {name: make_form(name, network, options.onnx) for name in options.forms}
    for form in forms.values():
        form(lr[:, :8, :8])
    images = {name: form(lr) for name, form in forms.items()}
    tasks = {name: partial(form, lr) for name, form in forms.items()}
    times = take_turns(tasks, options.rounds, time.process_time)
    exact = images.get("plain", images["direct"])
    results: dict[str, Any] = {
        "size": options.size,
        "instruction_set": cpu_instruction_set(),
        "forms": {
            name: {
                "cpu_seconds": round(min(seconds), 3),
                "median_cpu_seconds": round(float(np.median(seconds)), 3),
                "to_direct": round(min(seconds) / min(times["direct"]), 3),
                **(
                    {}
                    if images[name] is exact
                    else {"psnr_to_float32": round(float_psnr(images[name], exact), 2)}
                ),
            }
            for name, seconds in times.items()
        },
    }
    results["ratio"] = results["forms"].get("winograd", {}).get("to_direct")
    report(results, options.json)


if __name__ == "__main__":
    main()
