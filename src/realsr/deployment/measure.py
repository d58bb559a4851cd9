"""What a network costs: exported files run by the library they are made for, their seconds, memory and operations.

Seconds and memory are of one network alone in a process: python -m realsr.deployment.measure FILE SIDE THREADS KIND.

KIND is `file` for an exported one; `weights` for a source of weights, which PyTorch then runs in float32, and
`custom` for one that may name a network of the user's own. (A `.param` can be either.) Prints JSON. Without torch at
first, whose memory is not that of an exported file.
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
from realsr.core.memory import process_memory
from realsr.inference.onnx_files import INPUT, OUTPUT, open_session

if TYPE_CHECKING:
    from torch import nn

ROUNDS = 3
REFUSED = 3  # the exit code where the file cannot be used, which the last line on stderr explains

Run = Callable[[np.ndarray], np.ndarray]
"""(1, 3, h, w) float32 in 0..1 -> (1, 3, s*h, s*w) float32, not clamped."""


@dataclass(frozen=True)
class Cost:
    """seconds: for one image, the least of some runs. memory: bytes at the peak, without libraries. None: unknown."""

    seconds: float | None
    memory: int | None


def measure(source: str | Path, side: int, threads: int, kind: str = "file") -> Cost:
    """Return what an image of side x side LR pixels costs on the CPU, measured in a new process, see above.

    Raises RuntimeError where that process fails.
    """
    command = [
        sys.executable,
        "-m",
        "realsr.deployment.measure",
        str(source),
        str(side),
        str(threads),
        kind,
    ]
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    if process.returncode != 0:
        lines = process.stderr.strip().splitlines()[-1:] if process.returncode == REFUSED else []
        reason = (
            lines[0]
            if lines
            else f"its process ended with {process.returncode}, as where memory does not suffice"
        )
        raise RuntimeError(f"{source} could not be measured: {reason}")
    return Cost(**json.loads(process.stdout.splitlines()[-1]))


def open_file(path: Path, threads: int) -> Run:
    """Return an exported file as a function on the CPU. Raises UserError where it cannot be loaded."""
    if path.suffix not in RUNTIMES:
        raise UserError(f"{path}: expected a file whose name ends in {', '.join(RUNTIMES)}")
    return RUNTIMES[path.suffix][1](path, threads)


@cache
def openvino_core() -> Any:
    """Return the only `openvino.Core` of this process.

    Each Core that uses the CPU gives the thread a stack for signals and takes it back with its last model. With two,
    the one that ends last can leave a stack that is freed, and the next signal (a Ctrl-C) ends the process.
    """
    import openvino

    return openvino.Core()


def count_gflop(network: "nn.Module", side: int) -> float:
    """Return 10^9 floating-point operations for an image of side x side LR pixels, by torch's own counter.

    It counts two for each weight that meets a pixel, and neither biases nor activations.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        try:
            copy.deepcopy(network).to("meta")(torch.empty(1, 3, side, side, device="meta"))
        except (
            NotImplementedError,
            RuntimeError,
        ):  # a network that looks at values has to compute them
            counter.flop_counts.clear()
            network(torch.zeros(1, 3, side, side))
    return counter.get_total_flops() / 1e9


def main(source: str, side: int, threads: int, kind: str) -> Cost:
    """Measure in this process."""
    if kind == "file":
        _load_library(Path(source))  # whose memory does not count
    else:
        import torch  # noqa: F401
    before = process_memory("VmRSS")
    run = (
        open_file(Path(source), threads)
        if kind == "file"
        else _open_weights(source, threads, kind == "custom")
    )
    run(np.zeros((1, 3, 16, 16), np.float32))  # what is set up once does not count
    lr = np.random.default_rng(0).random((1, 3, side, side), np.float32)
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run(lr)
        seconds.append(time.perf_counter() - start)
    peak = process_memory("VmHWM")
    return Cost(round(min(seconds), 4), None if before is None or peak is None else peak - before)


def _load_library(path: Path) -> Any:
    """Import what runs a file, and all that it loads later of itself. Raises UserError where it is not installed."""
    name = RUNTIMES[path.suffix][0]
    try:
        library = importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{path}: running it needs {name}: pip install {name}") from error
    if name == "openvino":
        openvino_core().get_property(
            "CPU", "FULL_DEVICE_NAME"
        )  # the part for the CPU is loaded at its first use
    return library


def _open_onnx(path: Path, threads: int) -> Run:
    session, _ = open_session(path, threads)
    return lambda lr: session.run([OUTPUT], {INPUT: lr})[0]


def _open_openvino(path: Path, threads: int) -> Run:
    _load_library(path)
    # Without the hint OpenVINO computes in bf16 where the processor can.
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    try:
        model = openvino_core().compile_model(path, "CPU", settings)
    except RuntimeError as error:
        raise UserError(
            f"{path}: damaged, no OpenVINO model, or its .bin is not beside it"
        ) from error
    return lambda lr: model({INPUT: lr})[OUTPUT]


def _open_ncnn(path: Path, threads: int) -> Run:
    ncnn = _load_library(path)
    net = ncnn.Net()
    net.opt.num_threads = threads
    with utf8_path(path.parent) as folder:
        network = folder / path.name
        if (
            net.load_param(str(network)) != 0
            or net.load_model(str(network.with_suffix(".bin"))) != 0
        ):
            raise UserError(
                f"{path}: damaged, has layers that ncnn does not know, or its .bin is not beside it"
            )

    def run(lr: np.ndarray) -> np.ndarray:
        extractor = net.create_extractor()
        samples = np.ascontiguousarray(lr[0])  # held by this name: ncnn's Mat does not own it
        extractor.input("in0", ncnn.Mat(samples))  # names are pnnx's
        failed, sr = extractor.extract("out0")
        if failed:
            raise RuntimeError(f"{path}: ncnn ended with {failed}")
        return np.array(sr)[None]

    return run


def _open_weights(source: str, threads: int, allow_custom_code: bool) -> Run:
    import torch

    from realsr.inference.model import load_model

    torch.set_num_threads(threads)
    model = load_model(source, torch.device("cpu"), "fp32", allow_custom_code)
    return lambda lr: model.run(torch.from_numpy(lr)).numpy()


RUNTIMES: dict[str, tuple[str, Callable[[Path, int], Run]]] = {
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
        sys.exit(REFUSED)
