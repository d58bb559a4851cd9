"""INT8: calibration photos, the ranges of tensors on them, the quantised network, and what each layer costs.

Weights are quantised by channel, activations by tensor, as pairs of quantise and dequantise nodes (QDQ).
"""

import contextlib
import io
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
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
from realsr.deployment.check import similarity
from realsr.deployment.measure import Run, open_file
from realsr.deployment.table import KeptLayers, SensitivityReport
from realsr.imaging import crop_to_multiple, list_images, read_uint8, to_float
from realsr.inference.onnx_files import INPUT
from realsr.simulation.camera import load_photograph

CALIBRATED = (
    "brick", "camera", "coins", "grass", "gravel", "hubble_deep_field", "immunohistochemistry", "retina",
    "stereo_motorcycle",
)  # fmt: skip
"""scikit-image's photographs for calibration, none of which is in `check.EVALUATED`."""
OUTER_LEVELS = (0.01, 0.99)  # quantiles, so that a single bright pixel does not count
MIN_LEVELS, FEW_LEVELS, USUAL_LEVELS = 64, 128, 220  # of 255; see docs/deploy/deployment.md
MIN_PHOTOS = 5
MIN_SATURATION = 16  # levels between the channels of a pixel

QUANTISED = (
    "Conv",
    "LeakyRelu",
    "Concat",
)  # residual sums stay float32: they are few, and all later layers read them
BINS, LEVELS = 1024, 128  # onnxruntime's own 128 bins leave its entropy nothing to choose from
PERCENTILE = 99.999  # onnxruntime's own

PHOTOS, SIDE = 3, 64  # of the calibration's, for the sensitivity: enough to rank layers by
ROUNDS = 6  # of timing: the least counts
KEPT = (0, 1, 2, 4, 8)  # how many of the most costly layers stay in float32

Histogram = tuple[np.ndarray, np.ndarray, Any, Any]  # counts, edges, least, greatest
Range = tuple[Any, Any]


def load_calibration(
    folder: Path | None, side: int, scale: int, damaged: str = "refuse"
) -> list[Tensor]:
    """Return the middle of each photo as LR, (1, 3, h, w) float32 in 0..1, at most `side` pixels a side.

    A folder's photos are taken as they are; of scikit-image's, which are sharper than a camera's pixels, LR is made by
    bicubic. damaged: see `read_uint8`.

    Raises ImageError for a folder that cannot be used, UserError where scikit-image is missing.
    """
    if folder is not None:
        photos = [to_float(read_uint8(path, damaged)) for path in list_images(folder)]
    else:
        images = [
            load_photograph(name, "export without folders of photos", "onnx") for name in CALIBRATED
        ]
        photos = [shrink(crop_to_multiple(to_float(image), scale), scale) for image in images]
    middles = []
    for photo in photos:
        top, left = (max(0, (size - side) // 2) for size in photo.shape[1:])
        middles.append(photo[None, :, top : top + side, left : left + side].clone())
    return middles


def check_calibration(photos: Sequence[Tensor], name: str) -> list[str]:
    """Return warnings about photos that ranges of INT8 are measured on.

    name: what they are, for messages. Raises UserError where they cover so few levels that INT8 would cut off most of
    other photos.
    """
    low, high = np.quantile(
        np.concatenate([photo.numpy().ravel() for photo in photos]), OUTER_LEVELS
    )
    levels = round(255 * float(high - low))
    if levels < MIN_LEVELS:
        raise UserError(
            f"{name}: these photos cover {levels} of 255 levels, at least {MIN_LEVELS} are needed (usual: "
            f"{USUAL_LEVELS}). INT8 would cut off the levels of other photos: set int8.photos to photos such as the "
            "model will upscale, ten or more, dark and bright ones"
        )
    warnings = list[str]()
    if len(photos) < MIN_PHOTOS:
        warnings.append(
            f"INT8 is calibrated on few photos ({len(photos)}): set int8.photos to a folder of ten or more"
        )
    if levels < FEW_LEVELS:
        warnings.append(
            f"INT8 is calibrated on photos that cover {levels} of 255 levels (usual: {USUAL_LEVELS}): add dark and "
            "bright ones to int8.photos"
        )
    saturation = np.concatenate([np.ptp(photo.numpy(), axis=1).ravel() for photo in photos])
    if 255 * np.quantile(saturation, OUTER_LEVELS[1]) < MIN_SATURATION:
        warnings.append(
            "INT8 is calibrated on photos without colour: add photos with colours to int8.photos"
        )
    return warnings


def collect_histograms(
    model: onnx.ModelProto, photos: Sequence[np.ndarray]
) -> dict[str, Histogram]:
    """Return a histogram of each tensor to be quantised of a float32 model over photos, each (1, 3, h, w) in 0..1."""
    with (
        TemporaryDirectory(prefix="realsr_") as folder,
        Progress("ranges, photos", total=len(photos)) as progress,
    ):
        onnx.save(model, Path(folder, "model.onnx"))
        calibrator = create_calibrator(
            Path(folder, "model.onnx"),
            QUANTISED,
            augmented_model_path=str(Path(folder, "with_outputs.onnx")),
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"symmetric": False, "num_bins": BINS, "percentile": PERCENTILE},
        )
        for photo in photos:  # each by itself, since all outputs of one call are kept
            with contextlib.redirect_stdout(io.StringIO()):
                calibrator.collect_data(_Reader(photo))
            progress.advance()
    histograms = calibrator.collector.get_histogram_dict()
    return {name: histograms[name][:4] for name in sorted(histograms)}  # a set gave their order


def choose_ranges(histograms: dict[str, Histogram], method: str) -> dict[str, Range]:
    """Return the range of each tensor that INT8 is to cover, by onnxruntime's three methods.

    Args:
        histograms: what `collect_histograms` returned.
        method: `minmax`: all values. `percentile`: without the rarest 0.0005 % on each side. `entropy`: the part
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


def to_int8(
    model: onnx.ModelProto, ranges: dict[str, Range], keep: Collection[str]
) -> onnx.ModelProto:
    """Return an INT8 model by onnxruntime's static quantisation: weights signed, activations unsigned.

    Args:
        model: in float32; it stays as it is.
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
        tensors_range=TensorsData(
            CalibrationMethod.MinMax, limits
        ),  # as which any ranges are taken
        nodes_to_quantize=[],
        nodes_to_exclude=list(keep),
        op_types_to_quantize=list(QUANTISED),
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
    """Return what layers cost, on the middle of a few photos.

    Args:
        model: in float32.
        nodes: names of nodes by layer.
        ranges: of tensors, chosen by `method`.
        photos: (1, 3, h, w), 0..1.
    """
    lrs = [photo[:, :, :SIDE, :SIDE].contiguous().numpy() for photo in photos[:PHOTOS]]
    exact = _open(model)
    references = [exact(lr) for lr in lrs]
    counts = [count for count in KEPT if count < len(nodes)]

    def quantise(kept: Sequence[str]) -> Run:
        return _open(to_int8(model, ranges, [node for name in kept for node in nodes[name]]))

    def compare(run: Run) -> float:
        return float(
            np.mean(
                [
                    similarity(run(lr), reference)
                    for lr, reference in zip(lrs, references, strict=True)
                ]
            )
        )

    alone, choices = dict[str, float](), list[KeptLayers]()
    with Progress("layers in INT8", total=len(nodes) + len(counts)) as progress:
        for name in nodes:
            alone[name] = round(compare(quantise([other for other in nodes if other != name])), 2)
            progress.advance(note=name)
        ranked = sorted(nodes, key=alone.__getitem__)
        for count in counts:
            run = quantise(ranked[:count])
            seconds = _take_turns([exact, run], lrs[0])
            choices.append(
                KeptLayers(
                    ranked[:count], round(compare(run), 2), round(seconds[1] / seconds[0], 3)
                )
            )
            progress.advance()
    return SensitivityReport(method, alone, choices)


def _open(model: onnx.ModelProto) -> Run:
    with TemporaryDirectory(prefix="realsr_") as folder:
        onnx.save(model, Path(folder, "model.onnx"))
        return open_file(Path(folder, "model.onnx"), torch.get_num_threads())


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, photo: np.ndarray) -> None:
        self._photos: Iterator[dict[str, np.ndarray]] = iter([{INPUT: photo}])

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
