"""INT8: how wide a network's tensors are on photos, the network of these ranges, and what each layer costs in it.

Weights are quantised by channel, activations by tensor, as pairs of quantise and dequantise nodes (QDQ).
"""

import contextlib
import io
import logging
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.calibrate import (
    HistogramCollector,
    TensorsData,
    create_calibrator,
    save_tensors_data,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from realsr.core.progress import Progress
from realsr.core.workers import count_workers, map_items
from realsr.deployment.check import similarity
from realsr.deployment.measure import Run, open_file
from realsr.deployment.table import KeptLayers, SensitivityReport
from realsr.inference.onnx_files import INPUT

QUANTISED = ("Conv", "LeakyRelu", "Concat")  # residual sums stay float32: they are few, and all later layers read them
BINS, LEVELS = 1024, 128  # onnxruntime's own 128 bins leave its entropy nothing to choose from
PERCENTILE = 99.999  # onnxruntime's own

PHOTOS, SIDE = 3, 64  # of the calibration's, for the sensitivity: enough to rank layers by
ROUNDS = 6  # of timing: the least counts
KEPT = (0, 1, 2, 4, 8)  # how many of the most costly layers stay in float32

Histogram = tuple[np.ndarray, np.ndarray, Any, Any]  # counts, edges, least, greatest
Range = tuple[Any, Any]


def collect_histograms(model: Path, photos: Sequence[np.ndarray], scratch: Path) -> dict[str, Histogram]:
    """Return a histogram of each tensor to be quantised of a float32 model over photos, each (1, 3, h, w) in 0..1.

    scratch: a folder for files that are of no use afterwards.
    """
    calibrator = create_calibrator(
        model,
        QUANTISED,
        augmented_model_path=str(scratch / "with_outputs.onnx"),
        calibrate_method=CalibrationMethod.Percentile,
        extra_options={"symmetric": False, "num_bins": BINS, "percentile": PERCENTILE},
    )
    with Progress("ranges, photos", total=len(photos)) as progress:
        for photo in photos:  # each by itself, since all outputs of one call are kept
            with contextlib.redirect_stdout(io.StringIO()):
                calibrator.collect_data(_Photos([photo]))
            progress.advance()
    histograms = calibrator.collector.get_histogram_dict()
    return {name: histograms[name][:4] for name in sorted(histograms)}  # a set gave their order


def choose_ranges(histograms: dict[str, Histogram], method: str) -> dict[str, Range]:
    """Return the range of each tensor that INT8 is to cover, by onnxruntime's three methods.

    Args:
        histograms: what `collect_histograms` returned.
        method: `minmax`: all that was seen. `percentile`: without the rarest 0.0005 % on each side. `entropy`: the part
            whose distribution in 128 levels differs least from the original by the Kullback-Leibler divergence.
    """
    if method == "minmax":
        return {name: (least, greatest) for name, (_, _, least, greatest) in histograms.items()}
    collector = HistogramCollector(method, False, BINS, LEVELS, PERCENTILE, "same")
    if method == "percentile":
        collector.histogram_dict = histograms
        with contextlib.redirect_stdout(io.StringIO()):
            return {name: limits[:2] for name, limits in collector.compute_percentile().items()}
    search = partial(collector.get_entropy_threshold, num_quantized_bins=LEVELS)
    ranges = list[Range]()
    workers = count_workers(len(histograms), None)
    with Progress("ranges by entropy, tensors", total=len(histograms)) as progress:
        for tensor_range in map_items(search, histograms.values(), workers, ahead=16):
            ranges.append(tensor_range)
            progress.advance()
    return dict(zip(histograms, ranges, strict=True))


@contextmanager
def prepared(model: onnx.ModelProto) -> Iterator[Path]:
    """A float32 model's file as `collect_histograms` and `to_int8` take it, with shapes inferred, for a while."""
    with tempfile.TemporaryDirectory(prefix="realsr_") as folder:
        plain, path = Path(folder) / "plain.onnx", Path(folder) / "prepared.onnx"
        onnx.save(model, plain)
        quant_pre_process(plain, path, skip_optimization=True, skip_symbolic_shape=True)
        yield path


def to_int8(model: Path, ranges: dict[str, Range], keep: Collection[str]) -> onnx.ModelProto:
    """Return an INT8 model by onnxruntime's static quantisation: weights signed, activations unsigned.

    Args:
        model: what `prepared` gave.
        ranges: of tensors by name, as `choose_ranges` returns.
        keep: names of nodes that stay in float32.
    """
    cache, result = model.with_name("ranges.json"), model.with_name("int8.onnx")
    _save_ranges(ranges, cache)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it warns on the root logger of things that are meant
    try:
        quantize_static(
            model,
            result,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(keep),
            calibrate_method=CalibrationMethod.MinMax,  # as which any ranges are saved
            calibration_cache_path=cache,
        )
    finally:
        root.setLevel(level)
        cache.unlink()
    return onnx.load(result)


def measure_sensitivity(
    model: Path, nodes: Mapping[str, Sequence[str]], ranges: dict[str, Range], method: str, photos: Sequence[Tensor]
) -> SensitivityReport:
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
    references = [exact(lr) for lr in lrs]
    counts = [count for count in KEPT if count < len(nodes)]

    def quantised(kept: Sequence[str]) -> Run:
        result = to_int8(model, ranges, [node for name in kept for node in nodes[name]])
        path = model.with_name("tried.onnx")
        onnx.save(result, path)
        return open_file(path, threads)

    def compare(run: Run) -> float:
        return float(np.mean([similarity(run(lr), reference) for lr, reference in zip(lrs, references, strict=True)]))

    alone, choices = dict[str, float](), list[KeptLayers]()
    with Progress("layers in INT8", total=len(nodes) + len(counts)) as progress:
        for name in nodes:
            alone[name] = round(compare(quantised([other for other in nodes if other != name])), 2)
            progress.advance(note=name)
        ranked = sorted(nodes, key=alone.__getitem__)
        for count in counts:
            run = quantised(ranked[:count])
            seconds = _take_turns([exact, run], lrs[0])
            choices.append(KeptLayers(ranked[:count], round(compare(run), 2), round(seconds[1] / seconds[0], 3)))
            progress.advance()
    return SensitivityReport(method, alone, choices)


def _save_ranges(ranges: dict[str, Range], path: Path) -> None:
    """Write ranges as the calibration cache that onnxruntime's `quantize_static` reads."""
    values = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    save_tensors_data(TensorsData(CalibrationMethod.MinMax, values), path)


class _Photos(CalibrationDataReader):
    def __init__(self, photos: Sequence[np.ndarray]) -> None:
        self._photos: Iterator[dict[str, np.ndarray]] = iter([{INPUT: photo} for photo in photos])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._photos, None)


def _take_turns(runs: Sequence[Run], lr: np.ndarray) -> list[float]:
    """Return the least seconds of each, measured in turns, so that a busy machine meets all."""
    least = [float("inf")] * len(runs)
    for _ in range(ROUNDS):
        for index, run in enumerate(runs):
            start = time.perf_counter()
            run(lr)
            least[index] = min(least[index], time.perf_counter() - start)
    return least
