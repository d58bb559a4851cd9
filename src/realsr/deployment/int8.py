"""8-bit integers: weights by channel, activations by tensor, as pairs of quantise and dequantise nodes (QDQ)."""

import logging
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from realsr.deployment.calibration import QUANTISED, Range, save_ranges


@contextmanager
def prepared(model: onnx.ModelProto) -> Iterator[Path]:
    """A float32 model's file as `collect_histograms` and `to_int8` take it, with shapes inferred, for a while."""
    with tempfile.TemporaryDirectory(prefix="realsr_") as folder:
        plain, path = Path(folder) / "plain.onnx", Path(folder) / "prepared.onnx"
        onnx.save(model, plain)
        quant_pre_process(plain, path, skip_optimization=True, skip_symbolic_shape=True)
        yield path


def to_int8(model: Path, ranges: dict[str, Range], keep: Collection[str]) -> onnx.ModelProto:
    """Return an 8-bit model by onnxruntime's static quantisation: weights signed, activations unsigned.

    Args:
        model: what `prepared` gave.
        ranges: of tensors by name, as `choose_ranges` returns.
        keep: names of nodes that stay in float32.
    """
    cache, result = model.with_name("ranges.json"), model.with_name("int8.onnx")
    save_ranges(ranges, cache)
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
