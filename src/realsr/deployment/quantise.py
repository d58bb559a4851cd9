"""INT8: calibration photos, activation ranges, the quantised network, and its sensitivity by layer.

Weights are quantised by channel, activations by tensor, as pairs of quantise and dequantise nodes
(QDQ).
"""

import io
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import torch
from onnxruntime.quantization import (
    CalibrationMethod,
    QDQQuantizer,
    QuantType,
    TensorsData,
    create_calibrator,
)
from onnxruntime.quantization.calibrate import HistogramCollector
from torch import Tensor

from realsr.core.errors import UserError
from realsr.core.progress import Progress
from realsr.core.workers import count_workers, map_items
from realsr.data.validation_images import shrink
from realsr.deployment.check import load_default_photo, similarity
from realsr.deployment.measure import ArrayFunction, open_file
from realsr.deployment.table import Float32Choice, SensitivityReport
from realsr.imaging import crop_to_multiple, list_images, read_uint8, to_float
from realsr.inference.onnx_files import INPUT

CALIBRATION_PHOTOS = (
    "brick", "camera", "coins", "grass", "gravel", "hubble_deep_field", "immunohistochemistry",
    "retina", "stereo_motorcycle",
)  # fmt: skip
"""scikit-image photographs for calibration, disjoint from `check.EVALUATION_PHOTOS`."""
OUTER_LEVELS = (0.01, 0.99)  # quantiles, so that single outliers do not count
MIN_LEVELS, FEW_LEVELS, USUAL_LEVELS = 64, 128, 220  # of 255; see docs/deploy/deployment.md
MIN_PHOTOS = 5
MIN_SATURATION = 16  # levels between the channels of a pixel

# Residual sums stay float32: they are few, and all later layers read them.
INT8_OPERATORS = ("Conv", "LeakyRelu", "Concat")
BINS, LEVELS = 1024, 128  # with onnxruntime's default of 128 bins, entropy would have no choice
PERCENTILE = 99.999  # onnxruntime's default

PHOTOS, SIDE = 3, 64  # calibration photos for the sensitivity, and the side of their crops
ROUNDS = 6  # of timing; the minimum counts
FLOAT32_COUNTS = (0, 1, 2, 4, 8)  # numbers of most sensitive layers to try in float32

Histogram = tuple[np.ndarray, np.ndarray, Any, Any]  # counts, edges, minimum, maximum
Range = tuple[Any, Any]


def load_calibration(folder: Path | None, side: int, scale: int, damaged: str) -> list[Tensor]:
    """Return the centre of each photo as LR, (1, 3, h, w) float32 in 0..1, at most `side` a side.

    Photos of a folder are used at their own size. Those of scikit-image are sharper than camera
    pixels, so LR is made by bicubic. damaged: see `read_uint8`.

    Raises ImageError if the folder cannot be used, UserError if scikit-image is missing.
    """
    if folder is not None:
        photos = [to_float(read_uint8(path, damaged)) for path in list_images(folder)]
    else:
        images = [load_default_photo(name) for name in CALIBRATION_PHOTOS]
        photos = [shrink(crop_to_multiple(to_float(image), scale), scale) for image in images]
    crops = []
    for photo in photos:
        top, left = (max(0, (size - side) // 2) for size in photo.shape[1:])
        crops.append(photo[None, :, top : top + side, left : left + side].clone())
    return crops


def check_calibration(photos: Sequence[Tensor], name: str) -> list[str]:
    """Return warnings about calibration photos, (1, 3, h, w) in 0..1.

    name: of the photos, for messages. Raises UserError if they cover so few levels that INT8 would
    clip most other photos.
    """
    values = np.concatenate([photo.numpy().ravel() for photo in photos])
    low, high = np.quantile(values, OUTER_LEVELS)
    levels = round(255 * float(high - low))
    if levels < MIN_LEVELS:
        raise UserError(
            f"{name}: these photos cover {levels} of 255 levels, expected {MIN_LEVELS} or more "
            f"(usual: {USUAL_LEVELS}). INT8 would clip the levels of other photos: set int8.photos "
            "to ten or more photos, dark and bright, like those to be upscaled"
        )
    warnings = list[str]()
    if len(photos) < MIN_PHOTOS:
        warnings.append(
            f"INT8 is calibrated on few photos ({len(photos)}): set int8.photos to a folder of ten "
            "or more"
        )
    if levels < FEW_LEVELS:
        warnings.append(
            f"INT8 is calibrated on photos that cover {levels} of 255 levels (usual: "
            f"{USUAL_LEVELS}): add dark and bright photos to int8.photos"
        )
    saturation = np.concatenate([np.ptp(photo.numpy(), axis=1).ravel() for photo in photos])
    if 255 * np.quantile(saturation, OUTER_LEVELS[1]) < MIN_SATURATION:
        warnings.append(
            "INT8 is calibrated on photos without colour: add colour photos to int8.photos"
        )
    return warnings


def collect_histograms(
    model: onnx.ModelProto, photos: Sequence[np.ndarray]
) -> dict[str, Histogram]:
    """Return, by tensor to be quantised, its histogram over photos, each (1, 3, h, w) in 0..1.

    model: in float32.
    """
    with (
        TemporaryDirectory(prefix="realsr_") as folder,
        Progress("activation ranges, photos", total=len(photos)) as progress,
    ):
        onnx.save(model, Path(folder, "model.onnx"))
        calibrator = create_calibrator(
            Path(folder, "model.onnx"),
            INT8_OPERATORS,
            augmented_model_path=str(Path(folder, "with_outputs.onnx")),
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"symmetric": False, "num_bins": BINS, "percentile": PERCENTILE},
        )
        for photo in photos:  # one per call, since a call stores all its outputs
            reader = SimpleNamespace(get_next=iter([{INPUT: photo}, None]).__next__)
            with redirect_stdout(io.StringIO()):
                calibrator.collect_data(reader)
            progress.advance()
    histograms = calibrator.collector.get_histogram_dict()
    return {name: histograms[name][:4] for name in sorted(histograms)}  # a reproducible order


def choose_ranges(histograms: dict[str, Histogram], method: str) -> dict[str, Range]:
    """Return, by tensor, the range that INT8 has to cover, by one of onnxruntime's methods.

    Args:
        histograms: what `collect_histograms` returns.
        method: `minmax`: all values. `percentile`: without the outermost 0.0005 % on each side.
            `entropy`: the range whose distribution in 128 levels has the smallest Kullback-Leibler
            divergence from the original.
    """
    if method == "minmax":
        return {name: (low, high) for name, (_, _, low, high) in histograms.items()}
    collector = HistogramCollector(method, False, BINS, LEVELS, PERCENTILE, "same")
    if method == "percentile":
        collector.histogram_dict = histograms
        with redirect_stdout(io.StringIO()):
            return {name: limits[:2] for name, limits in collector.compute_percentile().items()}
    search = partial(collector.get_entropy_threshold, num_quantized_bins=LEVELS)
    ranges = list[Range]()
    workers = count_workers(len(histograms), None)
    with Progress("entropy ranges, tensors", total=len(histograms)) as progress:
        for tensor_range in map_items(search, histograms.values(), workers, ahead=16):
            ranges.append(tensor_range)
            progress.advance()
    return dict(zip(histograms, ranges, strict=True))


def to_int8(
    model: onnx.ModelProto, ranges: dict[str, Range], keep: Collection[str]
) -> onnx.ModelProto:
    """Return an INT8 model by onnxruntime's static quantisation; activations are unsigned.

    Args:
        model: in float32; not modified.
        ranges: of tensors by name, as `choose_ranges` returns.
        keep: names of nodes that stay in float32.
    """
    limits = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    quantizer = QDQQuantizer(
        onnx.shape_inference.infer_shapes(model),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        # MinMax uses the ranges unchanged, whichever method chose them.
        tensors_range=TensorsData(CalibrationMethod.MinMax, limits),
        nodes_to_quantize=[],
        nodes_to_exclude=list(keep),
        op_types_to_quantize=list(INT8_OPERATORS),
        extra_options={},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    return quantizer.model.model


def measure_sensitivity(
    model: onnx.ModelProto,
    nodes: Mapping[str, Sequence[str]],
    ranges: dict[str, Range],
    method: str,
    photos: Sequence[Tensor],
) -> SensitivityReport:
    """Return the loss of each layer in INT8, measured on crops of a few photos.

    Args:
        model: in float32.
        nodes: names of nodes by layer.
        ranges: of tensors, chosen by `method`.
        photos: (1, 3, h, w), 0..1.
    """
    lrs = [photo[:, :, :SIDE, :SIDE].contiguous().numpy() for photo in photos[:PHOTOS]]
    exact = _open(model)
    references = [exact(lr) for lr in lrs]
    counts = [count for count in FLOAT32_COUNTS if count < len(nodes)]

    def quantise(float32_layers: Sequence[str]) -> ArrayFunction:
        keep = [node for name in float32_layers for node in nodes[name]]
        return _open(to_int8(model, ranges, keep))

    def compare(run: ArrayFunction) -> float:
        pairs = zip(lrs, references, strict=True)
        return float(np.mean([similarity(run(lr), reference) for lr, reference in pairs]))

    alone, choices = dict[str, float](), list[Float32Choice]()
    with Progress("layers in INT8", total=len(nodes) + len(counts)) as progress:
        for name in nodes:
            alone[name] = round(compare(quantise([other for other in nodes if other != name])), 2)
            progress.advance(note=name)
        ranking = sorted(nodes, key=alone.__getitem__)
        for count in counts:
            run = quantise(ranking[:count])
            exact_seconds, seconds = _time_alternately([exact, run], lrs[0])
            time_ratio = round(seconds / exact_seconds, 3)
            choices.append(Float32Choice(ranking[:count], round(compare(run), 2), time_ratio))
            progress.advance()
    return SensitivityReport(method, alone, choices)


def _open(model: onnx.ModelProto) -> ArrayFunction:
    with TemporaryDirectory(prefix="realsr_") as folder:
        onnx.save(model, Path(folder, "model.onnx"))
        return open_file(Path(folder, "model.onnx"), torch.get_num_threads())


def _time_alternately(runs: Sequence[ArrayFunction], lr: np.ndarray) -> list[float]:
    """Return the minimum seconds of each, timed in turns so that other load affects all."""
    seconds = [float("inf")] * len(runs)
    for _ in range(ROUNDS):
        for index, run in enumerate(runs):
            start = time.perf_counter()
            run(lr)
            seconds[index] = min(seconds[index], time.perf_counter() - start)
    return seconds
