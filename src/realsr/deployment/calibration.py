"""How wide the tensors of a network are on photos, which sets the scales of their 8 bits."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import (
    HistogramCollector,
    TensorsData,
    create_calibrator,
    save_tensors_data,
)

from realsr.core.progress import Progress
from realsr.core.workers import count_workers, map_items
from realsr.inference.sessions import INPUT

METHODS = ("entropy", "percentile", "minmax")
QUANTISED = ("Conv", "LeakyRelu", "Concat")  # residual sums stay float32: they are few, and all later layers read them
BINS, LEVELS = 1024, 128  # onnxruntime's own 128 bins leave its entropy nothing to choose from
PERCENTILE = 99.999  # onnxruntime's own

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
        for photo in photos:  # each by itself, since all outputs of what is given at once are kept
            with contextlib.redirect_stdout(io.StringIO()):
                calibrator.collect_data(_Photos([photo]))
            progress.advance()
    found = calibrator.collector.get_histogram_dict()
    return {name: found[name][:4] for name in sorted(found)}  # a set gave their order


def choose_ranges(histograms: dict[str, Histogram], method: str) -> dict[str, Range]:
    """Return the range of each tensor that 8 bits are to cover, by onnxruntime's three methods.

    Args:
        histograms: what `collect_histograms` returned.
        method: `minmax`: all that was seen. `percentile`: without the rarest 0.0005 % on each side. `entropy`: the part
            whose distribution in 128 levels differs least from the original by the Kullback-Leibler divergence.
    """
    if method == "minmax":
        return {name: (found[2], found[3]) for name, found in histograms.items()}
    collector = HistogramCollector(method, False, BINS, LEVELS, PERCENTILE, "same")
    if method == "percentile":
        collector.histogram_dict = histograms
        with contextlib.redirect_stdout(io.StringIO()):
            return {name: found[:2] for name, found in collector.compute_percentile().items()}
    search = partial(_search, collector)
    found: list[Range] = []
    workers = count_workers(len(histograms), None)
    with Progress("ranges by entropy, tensors", total=len(histograms)) as progress:
        for one in map_items(search, histograms.values(), workers, ahead=16):
            found.append(one)
            progress.advance()
    return dict(zip(histograms, found, strict=True))


def save_ranges(ranges: dict[str, Range], path: Path) -> None:
    """Write ranges as the calibration cache that onnxruntime's `quantize_static` reads."""
    values = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    save_tensors_data(TensorsData(CalibrationMethod.MinMax, values), path)


def _search(collector: HistogramCollector, histogram: Histogram) -> Range:
    return collector.get_entropy_threshold(histogram, LEVELS)


class _Photos(CalibrationDataReader):
    def __init__(self, photos: Sequence[np.ndarray]) -> None:
        self._photos: Iterator[dict[str, np.ndarray]] = iter([{INPUT: photo} for photo in photos])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._photos, None)
