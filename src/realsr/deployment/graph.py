"""From a generator to ONNX's graph, and which of its layers is which."""

import contextlib
import io
import logging
import warnings
from typing import Any

import onnx
import torch
from torch import nn
from torch.export import Dim

from realsr.core.errors import UserError
from realsr.inference.sessions import INPUT, OUTPUT

EXAMPLE = (1, 3, 24, 40)


def to_onnx(network: nn.Module) -> onnx.ModelProto:
    """Return a generator as an ONNX model in float32, (batch, 3, height, width) in 0..1, all but the 3 dynamic.

    The names of weights are those of the network. What torch notes of the code's places is left out.

    Raises UserError where torch cannot express the network in ONNX.
    """
    shapes = ({0: Dim("batch"), 2: Dim("height"), 3: Dim("width")},)
    parameters = next(network.parameters(), torch.empty(0))
    example = torch.rand(EXAMPLE, generator=torch.Generator().manual_seed(0)).to(parameters.device)
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                network.eval(),
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=shapes,
                verbose=False,
            )
    except Exception as error:  # torch has many kinds, for each step of its own
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise UserError(f"torch cannot express the generator in ONNX ({reason})") from error
    model = program.model_proto
    for part in (model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info):
        del part.metadata_props[:]
    del model.functions[:]
    del model.graph.value_info[:]
    return model


def layers(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Return the names of a graph's nodes by the layer they belong to, in the order of computation.

    A layer is a convolution with what follows it until the next; those of one block, such as `RRDB_trunk.7`, are one:
    see `layer_of`.
    """
    found: dict[str, list[str]] = {}
    weights = {value.name for value in model.graph.initializer}
    layer = ""
    for node in model.graph.node:
        if node.op_type == "Conv" and len(node.input) > 1 and node.input[1] in weights:
            layer = layer_of(node.input[1]) or node.name
        if layer:
            found.setdefault(layer, []).append(node.name)
    return found


def layer_of(weight: str) -> str:
    """Return the layer that a weight's name tells: what is before its last point, as far as the first number."""
    parts = weight.split(".")[:-1]
    end = next((place for place, part in enumerate(parts, start=1) if part.isdigit()), len(parts))
    return ".".join(parts[:end])


def add_metadata(model: onnx.ModelProto, values: dict[str, str]) -> None:
    """Put text by key into a model, in place of what it has under these keys."""
    kept = [(entry.key, entry.value) for entry in model.metadata_props if entry.key not in values]
    del model.metadata_props[:]
    for key, value in [*kept, *values.items()]:
        model.metadata_props.add(key=key, value=value)


@contextlib.contextmanager
def _quiet() -> Any:
    """Without what the exporter and its libraries say of their steps: errors are raised, the rest is of no use."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
