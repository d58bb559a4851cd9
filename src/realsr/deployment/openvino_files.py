"""A model of ONNX as OpenVINO's two files, a `.xml` (layers) and a `.bin` (weights)."""

from pathlib import Path

import onnx

from realsr.core.errors import UserError
from realsr.deployment.runtimes import openvino_core

SECTION = "realsr"  # of a model's rt_info, where `OnnxFacts.as_metadata` is put


def write_openvino(model: onnx.ModelProto, metadata: dict[str, str], path: Path) -> None:
    """Write `path` (.xml) and its .bin, with weights as they are in the ONNX model.

    OpenVINO's own reader of ONNX is used, and not its `convert_model`, which reports its use over the network.

    Raises UserError where OpenVINO does not take the model.
    """
    import openvino

    try:
        converted = openvino_core().read_model(model.SerializeToString())
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"OpenVINO cannot express the generator ({reason}): leave its formats out") from error
    for key, value in metadata.items():
        converted.set_rt_info(value, [SECTION, key])
    openvino.save_model(converted, path, compress_to_fp16=False)


def read_metadata(path: Path) -> dict[str, str]:
    """Return what `write_openvino` has put into a file's rt_info."""
    return dict(openvino_core().read_model(path).get_rt_info([SECTION]).value)
