"""From a generator to ONNX's graph, in float32 and in half precision, and which of its layers is which."""

import contextlib
import io
import logging
import warnings
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel
from torch import nn
from torch.export import Dim

from realsr.core.errors import UserError
from realsr.inference.onnx_files import INPUT, OUTPUT

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
    nodes: dict[str, list[str]] = {}
    weights = {value.name for value in model.graph.initializer}
    layer = ""
    for node in model.graph.node:
        if node.op_type == "Conv" and len(node.input) > 1 and node.input[1] in weights:
            layer = layer_of(node.input[1]) or node.name
        if layer:
            nodes.setdefault(layer, []).append(node.name)
    return nodes


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


def to_half(model: onnx.ModelProto, keep: Collection[str]) -> onnx.ModelProto:
    """Return a model in fp16 whose input and output, and the nodes to keep, are float32.

    onnxruntime's converter; the given model stays as it is.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    half = convert_float_to_float16(half, keep_io_types=True, node_block_list=list(keep))
    OnnxModel(half).topological_sort()  # the converter puts the input's cast at the end
    del half.graph.value_info[:]  # some of it tells the types of before
    _remove_redundant_casts(half.graph)
    return half


def with_rounding(half: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float32 model that rounds to fp16 wherever a model of `to_half` has fp16: weights and each result.

    So accelerators compute: sums in float32, results in fp16. onnxruntime on a CPU does not round: it computes such
    models in float32 and leaves out the casts between its nodes, which flatters them.
    """
    half = onnx.shape_inference.infer_shapes(half, strict_mode=True)
    graph = half.graph
    rounded = {value.name for value in graph.value_info if value.type.tensor_type.elem_type == TensorProto.FLOAT16}
    for weight in graph.initializer:
        if weight.data_type == TensorProto.FLOAT16:
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float32), weight.name))
    nodes = []
    for node in graph.node:
        if _casts_to(node, TensorProto.FLOAT16):  # the others stay: of integers, or from float32 to itself
            node.attribute[0].i = TensorProto.FLOAT
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in rounded:
                node.output[index], down = f"{name}_exact", f"{name}_half"
                nodes.append(
                    helper.make_node("Cast", [f"{name}_exact"], [down], f"{down}_down", to=TensorProto.FLOAT16)
                )
                nodes.append(helper.make_node("Cast", [down], [name], f"{down}_up", to=TensorProto.FLOAT))
    exact = onnx.ModelProto()
    exact.CopyFrom(half)
    del exact.graph.node[:], exact.graph.value_info[:]
    exact.graph.node.extend(nodes)
    return exact


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
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


def _remove_redundant_casts(graph: onnx.GraphProto) -> None:
    """Hand float32 on as it is where the converter casts it down and up again: between, before and after kept nodes."""
    exact = {node.output[0]: node.input[0] for node in graph.node if _casts_to(node, TensorProto.FLOAT16)}
    for node in graph.node:
        if _casts_to(node, TensorProto.FLOAT) and node.input[0] in exact:
            node.input[0] = exact[node.input[0]]  # a cast that does nothing, unless this is an integer
    read = {name for node in graph.node for name in node.input}
    for node in [node for node in graph.node if node.output[0] in exact and node.output[0] not in read]:
        graph.node.remove(node)


def _casts_to(node: onnx.NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and helper.get_node_attr_value(node, "to") == kind
