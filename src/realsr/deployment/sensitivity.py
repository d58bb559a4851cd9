"""What each layer costs in 8 bits, and what keeping the most costly ones in float32 gains."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor

from realsr.core.progress import Progress
from realsr.deployment.calibration import Range
from realsr.deployment.check import similarity
from realsr.deployment.int8 import to_int8
from realsr.deployment.runtimes import Run, open_file

PHOTOS, SIDE = 3, 64  # of the calibration's: enough to rank layers by
ROUNDS = 6  # of timing: the least counts
KEPT = (0, 1, 2, 4, 8)  # how many of the most costly layers stay in float32


@dataclass(frozen=True)
class Choice:
    """The most costly layers kept in float32: PSNR in dB to float32 throughout, and its time as a share of that's."""

    kept: list[str]
    similarity: float
    time: float


@dataclass(frozen=True)
class Trade:
    """alone: by layer, PSNR in dB to float32 where this one alone is in 8 bits; the lower, the more it costs."""

    method: str
    alone: dict[str, float]
    choices: list[Choice]


def measure_sensitivity(
    model: Path, nodes: Mapping[str, Sequence[str]], ranges: dict[str, Range], method: str, photos: Sequence[Tensor]
) -> Trade:
    """Return what layers cost, on the middle of a few photos.

    Args:
        model: float32, as `prepared` gives it.
        nodes: names of nodes by layer.
        ranges: of tensors, chosen by `method`.
        photos: (1, 3, h, w), 0..1.
    """
    lrs = [photo[:, :, :SIDE, :SIDE].contiguous().numpy() for photo in photos[:PHOTOS]]
    threads = torch.get_num_threads()
    exact = open_file(model, threads)
    wanted = [exact(lr) for lr in lrs]
    counts = [count for count in KEPT if count < len(nodes)]

    def quantised(kept: Sequence[str]) -> Run:
        result = to_int8(model, ranges, [node for name in kept for node in nodes[name]])
        path = model.with_name("tried.onnx")
        onnx.save(result, path)
        return open_file(path, threads)

    def compare(run: Run) -> float:
        return float(np.mean([similarity(run(lr), result) for lr, result in zip(lrs, wanted, strict=True)]))

    alone, choices = dict[str, float](), list[Choice]()
    with Progress("layers in 8 bits", total=len(nodes) + len(counts)) as progress:
        for name in nodes:
            alone[name] = round(compare(quantised([other for other in nodes if other != name])), 2)
            progress.advance(note=name)
        ranked = sorted(nodes, key=alone.__getitem__)
        for count in counts:
            run = quantised(ranked[:count])
            seconds = _take_turns([exact, run], lrs[0])
            choices.append(Choice(ranked[:count], round(compare(run), 2), round(seconds[1] / seconds[0], 3)))
            progress.advance()
    return Trade(method, alone, choices)


def _take_turns(runs: Sequence[Run], lr: np.ndarray) -> list[float]:
    """Return the least seconds of each, measured in turns, so that a busy machine meets all."""
    least = [float("inf")] * len(runs)
    for _ in range(ROUNDS):
        for index, run in enumerate(runs):
            start = time.perf_counter()
            run(lr)
            least[index] = min(least[index], time.perf_counter() - start)
    return least
