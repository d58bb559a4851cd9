"""The formats and settings of an export. Without torch, so that a configuration is read quickly."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from realsr.core.errors import UserError
from realsr.core.ranges import Range

DEFAULT_FORMATS = ("onnx_fp32", "onnx_fp16", "onnx_int8")
FORMATS = (*DEFAULT_FORMATS, "openvino", "openvino_int8", "ncnn")
METHODS = ("entropy", "percentile", "minmax")
LIBRARIES = {  # by extra
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "openvino": ("openvino",),
    "ncnn": ("ncnn", "pnnx"),
}


@dataclass
class Int8Config:
    """How INT8 files are made.

    photos: a folder of photos such as the model will upscale, on which ranges are measured; None: scikit-image's.
    methods: how ranges are chosen, a file for each: entropy (Kullback-Leibler divergence), percentile, minmax.
    crop: LR pixels a side that are taken of each photo, from its middle.
    keep: layers that stay in float32; None: the first.
    sensitivity: whether to measure what each layer costs, and what keeping the most costly ones gains.
    """

    photos: Path | None
    methods: list[str]
    crop: Annotated[int, Range(16)]
    keep: list[str] | None
    sensitivity: bool


def check_formats(formats: Sequence[str], int8: Int8Config) -> None:
    """Raise UserError for names that are unknown or repeated, and where a library is not installed."""
    for key, names, options in (
        ("formats", formats, FORMATS),
        ("int8.methods", int8.methods, METHODS),
    ):
        if not names or not set(names) <= set(options) or len(set(names)) < len(names):
            raise UserError(
                f"{key}=[{','.join(names)}]: expected one or more of {', '.join(options)}, each once"
            )
    # All formats begin with ONNX's graph, or its names of layers.
    extras = ["onnx"] + [
        extra for extra in ("openvino", "ncnn") if any(name.startswith(extra) for name in formats)
    ]
    if missing := [
        name for extra in extras for name in LIBRARIES[extra] if find_spec(name) is None
    ]:
        raise UserError(
            f"formats=[{','.join(formats)}] need {', '.join(missing)}: pip install 'realsr[{','.join(extras)}]'"
        )
