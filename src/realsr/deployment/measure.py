"""Measure the cost of a network: time, peak memory and floating-point operations.

Time and memory are measured in a new process, which prints JSON:
python -m realsr.deployment.measure FILE SIDE THREADS KIND.

KIND is `file` for an exported file, which the library of its format runs; `weights` for a source of
weights, which PyTorch runs in float32; `custom` for a source that may name a custom network. (A
`.param` can be a file or a source.) Torch is imported only if needed: its memory is not a cost of
an exported file.
"""

import copy
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from realsr.core.errors import UserError
from realsr.core.file_names import utf8_path
from realsr.core.machine import process_memory
from realsr.inference.onnx_files import INPUT, OUTPUT, open_session

if TYPE_CHECKING:
    from torch import nn

ROUNDS = 3
UNUSABLE = 3  # exit code for a file that cannot be used; the last line of stderr has the reason

ArrayFunction = Callable[[np.ndarray], np.ndarray]
"""(1, 3, h, w) float32 in 0..1 -> (1, 3, s*h, s*w) float32, not clamped."""


@dataclass(frozen=True)
class Cost:
    """The cost of one image; None: unknown.

    seconds: the minimum of `ROUNDS` repetitions. memory: peak in bytes, without libraries.
    """

    seconds: float | None
    memory: int | None


def measure(source: str | Path, side: int, threads: int, kind: str = "file") -> Cost:
    """Return the cost of an image of side x side LR pixels on the CPU, measured in a new process.

    kind: `file`, `weights` or `custom`, see the module. Raises RuntimeError if the process fails.
    """
    arguments = [str(source), str(side), str(threads), kind]
    command = [sys.executable, "-m", "realsr.deployment.measure", *arguments]
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    if process.returncode != 0:
        reason = f"the process ended with exit code {process.returncode}, perhaps out of memory"
        lines = process.stderr.strip().splitlines()
        if process.returncode == UNUSABLE and lines:
            reason = lines[-1]
        raise RuntimeError(f"{source} could not be measured: {reason}")
    return Cost(**json.loads(process.stdout.splitlines()[-1]))


def open_file(path: Path, threads: int) -> ArrayFunction:
    """Return an exported file as a function on the CPU. Raises UserError if it cannot be loaded."""
    if path.suffix not in RUNTIMES:
        raise UserError(f"{path}: expected a file whose name ends in {', '.join(RUNTIMES)}")
    return RUNTIMES[path.suffix][1](path, threads)


@cache
def openvino_core() -> Any:
    """Return the only `openvino.Core` of this process.

    Each Core that uses the CPU sets a signal stack for the thread, and restores the previous stack
    with its last model. With two Cores, the last one to end may restore a stack that is already
    freed; the next signal (Ctrl-C) then crashes the process.
    """
    import openvino

    return openvino.Core()


def count_gflop(network: "nn.Module", side: int) -> float:
    """Return the number of operations, in 10^9, for an image of side x side LR pixels.

    Torch's `FlopCounterMode` counts two per multiply-accumulate, none for biases and activations.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        try:
            copy.deepcopy(network).to("meta")(torch.empty(1, 3, side, side, device="meta"))
        except (NotImplementedError, RuntimeError):  # control flow depends on values
            counter.flop_counts.clear()
            network(torch.zeros(1, 3, side, side))
    return counter.get_total_flops() / 1e9


def main(source: str, side: int, threads: int, kind: str) -> Cost:
    """Measure in this process."""
    is_file, custom = kind == "file", kind == "custom"
    if is_file:  # import libraries first: their memory does not count
        _load_library(Path(source))
    else:
        import torch  # noqa: F401
    before = process_memory("VmRSS")
    run = open_file(Path(source), threads) if is_file else _open_weights(source, threads, custom)
    run(np.zeros((1, 3, 16, 16), np.float32))  # warm-up
    lr = np.random.default_rng(0).random((1, 3, side, side), np.float32)
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run(lr)
        seconds.append(time.perf_counter() - start)
    peak = process_memory("VmHWM")
    return Cost(round(min(seconds), 4), None if before is None or peak is None else peak - before)


def _load_library(path: Path) -> Any:
    """Import the library that runs a file, and what it loads on first use.

    Raises UserError if it is not installed.
    """
    name = RUNTIMES[path.suffix][0]
    try:
        library = importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{path}: needs {name}: pip install {name}") from error
    if name == "openvino":
        openvino_core().get_property("CPU", "FULL_DEVICE_NAME")  # loads the CPU plugin
    return library


def _open_onnx(path: Path, threads: int) -> ArrayFunction:
    session, _ = open_session(path, threads)
    return lambda lr: session.run([OUTPUT], {INPUT: lr})[0]


def _open_openvino(path: Path, threads: int) -> ArrayFunction:
    _load_library(path)
    # Without this hint OpenVINO computes in bf16 if the processor supports it.
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    try:
        model = openvino_core().compile_model(path, "CPU", settings)
    except RuntimeError as error:
        raise UserError(
            f"{path}: damaged, not an OpenVINO model, or the .bin file is missing"
        ) from error
    return lambda lr: model({INPUT: lr})[OUTPUT]


def _open_ncnn(path: Path, threads: int) -> ArrayFunction:
    ncnn = _load_library(path)
    net = ncnn.Net()
    net.opt.num_threads = threads
    with utf8_path(path.parent) as folder:
        graph, weights = folder / path.name, folder / path.with_suffix(".bin").name
        if net.load_param(str(graph)) != 0 or net.load_model(str(weights)) != 0:
            raise UserError(
                f"{path}: damaged, has layers unknown to ncnn, or the .bin file is missing"
            )

    def run(lr: np.ndarray) -> np.ndarray:
        extractor = net.create_extractor()
        samples = np.ascontiguousarray(lr[0])  # a local name: ncnn's Mat does not own the memory
        extractor.input("in0", ncnn.Mat(samples))  # pnnx's names of input and output
        code, sr = extractor.extract("out0")
        if code:
            raise RuntimeError(f"{path}: ncnn failed with code {code}")
        return np.array(sr)[None]

    return run


def _open_weights(source: str, threads: int, allow_custom_code: bool) -> ArrayFunction:
    import torch

    from realsr.inference.model import load_model

    torch.set_num_threads(threads)
    model = load_model(source, torch.device("cpu"), "fp32", allow_custom_code)
    return lambda lr: model.run(torch.from_numpy(lr)).numpy()


RUNTIMES: dict[str, tuple[str, Callable[[Path, int], ArrayFunction]]] = {
    ".onnx": ("onnxruntime", _open_onnx),
    ".xml": ("openvino", _open_openvino),
    ".param": ("ncnn", _open_ncnn),
}

if __name__ == "__main__":
    try:
        result = main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
        print(json.dumps(asdict(result)))  # noqa: T201
    except UserError as error:
        print(str(error).replace("\n", " "), file=sys.stderr)  # noqa: T201
        sys.exit(UNUSABLE)
