"""Exported files, each run by the library it is made for. Without torch, as sessions.py."""

import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from realsr.core.errors import UserError
from realsr.core.file_names import utf8_path
from realsr.inference.sessions import INPUT, OUTPUT, open_session

Run = Callable[[np.ndarray], np.ndarray]
"""(1, 3, h, w) float32 in 0..1 -> (1, 3, s*h, s*w) float32, not clamped."""

LIBRARIES = {".onnx": "onnxruntime", ".xml": "openvino", ".param": "ncnn"}
NCNN_INPUT, NCNN_OUTPUT = "in0", "out0"  # as pnnx names them


def open_file(path: Path, threads: int) -> Run:
    """Return an exported file as a function on the CPU. Raises UserError where it cannot be loaded."""
    if path.suffix not in LIBRARIES:
        raise UserError(f"{path}: expected a file whose name ends in {', '.join(LIBRARIES)}")
    return {".onnx": _open_onnx, ".xml": _open_openvino, ".param": _open_ncnn}[path.suffix](path, threads)


def load_library(path: Path) -> Any:
    """Import what runs a file, and all that it loads later of itself. Raises UserError where it is not installed."""
    name = LIBRARIES[path.suffix]
    try:
        library = importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{path}: running it needs {name}: say pip install {name}") from error
    if name == "openvino":
        openvino_core().get_property("CPU", "FULL_DEVICE_NAME")  # the part for the CPU is loaded when first asked for
    return library


@cache
def openvino_core() -> Any:
    """Return the only `openvino.Core` of this process.

    Each Core that uses the CPU gives the thread a stack for signals and takes it back with its last model. With two,
    the one that ends last can leave a stack that is freed, and the next signal (a Ctrl-C) ends the process.
    """
    import openvino

    return openvino.Core()


def _open_onnx(path: Path, threads: int) -> Run:
    session, _ = open_session(path, threads)
    return lambda lr: session.run([OUTPUT], {INPUT: lr})[0]


def _open_openvino(path: Path, threads: int) -> Run:
    load_library(path)
    # Without the hint OpenVINO computes in bf16 where the processor can.
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    try:
        model = openvino_core().compile_model(path, "CPU", settings)
    except RuntimeError as error:
        raise UserError(f"{path}: damaged, no OpenVINO model, or its .bin is not beside it") from error
    return lambda lr: model({INPUT: lr})[OUTPUT]


def _open_ncnn(path: Path, threads: int) -> Run:
    ncnn = load_library(path)
    net = ncnn.Net()
    net.opt.num_threads = threads
    with utf8_path(path.parent) as folder:
        network = folder / path.name
        if net.load_param(str(network)) != 0 or net.load_model(str(network.with_suffix(".bin"))) != 0:
            raise UserError(f"{path}: damaged, has layers that ncnn does not know, or its .bin is not beside it")

    def run(lr: np.ndarray) -> np.ndarray:
        extractor = net.create_extractor()
        given = np.ascontiguousarray(lr[0])  # kept by this name: ncnn's Mat does not own it
        extractor.input(NCNN_INPUT, ncnn.Mat(given))
        failed, sr = extractor.extract(NCNN_OUTPUT)
        if failed:
            raise RuntimeError(f"{path}: ncnn ended with {failed}")
        return np.array(sr)[None]

    return run
