"""The forms that `upscale.py` compares, each run in a process of its own: one line of JSON in, one out.

`{"lr": FILE.npy, "sr": FILE.npy, "tile": N or null}` is answered by seconds and the peak memory so far, in MB.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import peak_memory

from realsr.inference.fast_rrdb import FastRRDB
from realsr.inference.model import load_model
from realsr.weights import load_generator
from realsr.weights.sources import find_weights

Form = Callable[[np.ndarray], np.ndarray]  # (3, h, w) float32, 0..1 -> (3, 4h, 4w)
FORMS = ("ours", "ours fp32", "direct fp32", "plain float32", "ncnn", "ncnn bf16")
CPU = torch.device("cpu")
SCALE, OVERLAP = 4, 10  # pixels of overlap of tiles, as realsr-ncnn-vulkan has it


def make_form(name: str, weights: str, threads: int) -> Form:
    """Return a form of the generator with these weights."""
    torch.set_num_threads(threads)
    if name.startswith("ncnn"):
        return make_ncnn(weights, threads, bf16=name == "ncnn bf16")
    if name == "direct fp32":
        run = FastRRDB(load_generator(weights)[0], None)
    elif name == "plain float32":
        run = torch.no_grad()(load_generator(weights)[0])
    else:
        run = load_model(weights, CPU, "fp32" if name == "ours fp32" else "auto").run
    return lambda lr: run(torch.from_numpy(lr)[None])[0].numpy()


def make_ncnn(weights: str, threads: int, bf16: bool) -> Form:
    """Load ncnn with default settings: light mode, Winograd, packed layouts, float16."""
    import ncnn

    param = find_weights(weights)
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_bf16_storage = bf16
    if net.load_param(str(param)) != 0 or net.load_model(str(param.with_suffix(".bin"))) != 0:
        raise OSError(f"ncnn cannot load {param}")

    def run(lr: np.ndarray) -> np.ndarray:
        extractor = net.create_extractor()
        array = np.ascontiguousarray(lr)  # keep a reference: ncnn's Mat does not copy it
        extractor.input(net.input_names()[0], ncnn.Mat(array))
        status, sr = extractor.extract(net.output_names()[0])
        if status:
            raise RuntimeError(f"ncnn ended with {status}")
        return np.array(sr)

    return run


def in_tiles(run: Form, lr: np.ndarray, tile: int) -> np.ndarray:
    """Run a form on square tiles that overlap by OVERLAP pixels; keep the middle of each."""
    _, height, width = lr.shape
    sr = np.empty((3, SCALE * height, SCALE * width), np.float32)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            first, begin = max(top - OVERLAP, 0), max(left - OVERLAP, 0)
            part = run(lr[:, first : bottom + OVERLAP, begin : right + OVERLAP])
            sr[:, SCALE * top : SCALE * bottom, SCALE * left : SCALE * right] = part[
                :,
                SCALE * (top - first) : SCALE * (bottom - first),
                SCALE * (left - begin) : SCALE * (right - begin),
            ]
    return sr


def main(name: str, weights: str, threads: str) -> None:
    """Answer requests line by line until the input ends."""
    form = make_form(name, weights, int(threads))
    print(json.dumps({"peak_MB": peak_memory()}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        lr = np.load(request["lr"])
        start = time.perf_counter()
        sr = form(lr) if request["tile"] is None else in_tiles(form, lr, request["tile"])
        answer = {"seconds": time.perf_counter() - start, "peak_MB": peak_memory()}
        np.save(Path(request["sr"]), sr)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
