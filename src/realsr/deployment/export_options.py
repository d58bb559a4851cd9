"""Formats and settings of an export, without torch so that configurations load quickly."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from realsr.core.errors import UserError
from realsr.core.ranges import Range

WEIGHTS = "safetensors"  # the weights, not a network: for this package
ONNX_FORMATS = ("onnx_fp32", "onnx_fp16", "onnx_int8")
DEFAULT_FORMATS = (*ONNX_FORMATS, WEIGHTS)
FORMATS = (*ONNX_FORMATS, "openvino", "openvino_int8", "ncnn", WEIGHTS)
METHODS = ("entropy", "percentile", "minmax")
LIBRARIES = {  # by extra
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "openvino": ("openvino",),
    "ncnn": ("ncnn", "pnnx"),
}


@dataclass
class Int8Config:
    """How INT8 files are made.

    photos: a folder of calibration photos, similar to those to be upscaled; None: scikit-image's.
    methods: of choosing ranges, one file each: entropy (Kullback-Leibler divergence), percentile,
        minmax.
    crop: side in LR pixels of the central crop of each photo.
    keep: layers that stay in float32; None: the first.
    sensitivity: whether to measure the loss of each layer in INT8, and the gain of keeping the most
        sensitive layers in float32.
    """

    photos: Path | None
    methods: list[str]
    crop: Annotated[int, Range(16)]
    keep: list[str] | None
    sensitivity: bool


def check_formats(formats: Sequence[str], int8: Int8Config) -> None:
    """Raise UserError if a name is unknown or repeated, or a library is not installed."""
    for key, names, options in (
        ("formats", formats, FORMATS),
        ("int8.methods", int8.methods, METHODS),
    ):
        if not names or not set(names) <= set(options) or len(set(names)) < len(names):
            raise UserError(
                f"{key}=[{','.join(names)}]: expected one or more of {', '.join(options)}, "
                "each once"
            )
    # All networks start from the ONNX graph or its layer names.
    extras = ["onnx"] * (set(formats) != {WEIGHTS}) + [
        extra for extra in ("openvino", "ncnn") if any(name.startswith(extra) for name in formats)
    ]
    libraries = [name for extra in extras for name in LIBRARIES[extra]]
    if missing := [name for name in libraries if find_spec(name) is None]:
        raise UserError(
            f"formats=[{','.join(formats)}] need {', '.join(missing)}: "
            f"pip install 'realsr[{','.join(extras)}]'"
        )
