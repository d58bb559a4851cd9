"""A generator and its ONNX graph: in float32, in fp16, and its layers."""

import contextlib
import copy
import io
import logging
import sys
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel
from torch import Tensor, nn
from torch.export import Dim

from realsr.core.errors import UserError, first_line
from realsr.inference.model import SRModel
from realsr.inference.onnx_files import INPUT, OUTPUT
from realsr.inference.tiling import measure_bytes
from realsr.weights.origin import Origin

# Some graphs hold for every size only if traced on a batch of two, on sizes that are no multiples
# of a window, and on sizes of more than two windows (32 pixels in DAT).
EXAMPLE = (2, 3, 67, 101)


@dataclass(frozen=True)
class Generator:
    """The network to export, in float32 on the CPU, and the origin of its weights.

    name: for the table. source: a source of weights of the same cost, see `measure`.
    """

    name: str
    source: str
    network: nn.Module
    scale: int
    origin: Origin
    allow_custom_code: bool

    @cached_property
    def bytes_per_pixel(self) -> float:
        """As in `OnnxFacts`."""
        return measure_bytes(SRModel(self.scale, torch.device("cpu"), self.network))


def to_onnx(network: nn.Module) -> onnx.ModelProto:
    """Return a generator as an ONNX model in float32; input (batch, 3, height, width) in 0..1.

    Batch, height and width are dynamic. Weights have the names of the network. Torch's references
    to source code are removed. Raises UserError if torch cannot express the network in ONNX.
    """
    shapes = ({0: Dim("batch"), 2: Dim("height"), 3: Dim("width")},)
    parameters = next(network.parameters(), torch.empty(0))
    generator = torch.Generator().manual_seed(0)
    example = torch.rand(EXAMPLE, generator=generator).to(parameters.device)
    try:
        with _quiet(), _dynamic_windows(network):
            program: Any = torch.onnx.export(
                network.eval(),
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=shapes,
                verbose=False,
            )
    except Exception as error:  # the exporter raises many types
        raise UserError(
            f"torch cannot express the generator in ONNX ({first_line(error)})"
        ) from error
    model = program.model_proto
    for part in (model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
    del model.functions[:], model.graph.value_info[:]
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress logs, warnings and prints of the exporter and its libraries."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextmanager
def _dynamic_windows(network: nn.Module) -> Iterator[None]:
    """Replace spandrel's functions that join windows (SwinIR, HAT, DAT) by ones without `int()`.

    They compute the batch size by `int()`, which the exporter stores as the example's batch size.
    """

    def join(windows: Tensor, high: int, wide: int, height: int, width: int) -> Tensor:
        """Return images (N, height, width, C) of windows of high x wide pixels."""
        shape = (-1, height // high, width // wide, high, wide, windows.shape[-1])
        parts = windows.reshape(shape).permute(0, 1, 3, 2, 4, 5)
        return parts.reshape(-1, height, width, windows.shape[-1])

    def join_squares(windows: Tensor, side: int, height: int, width: int) -> Tensor:
        """Return images (N, height, width, C) of square windows."""
        return join(windows, side, side, height, width)

    forms = {"window_reverse": join_squares, "windows2img": join}
    names = {type(module).__module__ for module in network.modules()}
    modules = [sys.modules[name] for name in sorted(names) if name.startswith("spandrel.")]
    originals = [(m, name, getattr(m, name)) for m in modules for name in forms if hasattr(m, name)]
    for module, name, _ in originals:
        setattr(module, name, forms[name])
    try:
        yield
    finally:
        for module, name, function in originals:
            setattr(module, name, function)


def layers(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Return the names of a graph's nodes by layer, in the order of computation.

    A layer is a convolution and the nodes up to the next one. A block such as `RRDB_trunk.7` counts
    as one layer.
    """
    nodes: dict[str, list[str]] = {}
    weights = {value.name for value in model.graph.initializer}
    layer = ""
    for node in model.graph.node:
        if node.op_type == "Conv" and len(node.input) > 1 and node.input[1] in weights:
            parts = node.input[1].split(".")[:-1]  # the module's path, up to the first number
            numbers = (index for index, part in enumerate(parts, start=1) if part.isdigit())
            layer = ".".join(parts[: next(numbers, len(parts))]) or node.name
        if layer:
            nodes.setdefault(layer, []).append(node.name)
    return nodes


def to_half(model: onnx.ModelProto, keep: Collection[str]) -> onnx.ModelProto:
    """Return a copy in fp16, by onnxruntime's converter; input, output and `keep` stay float32.

    keep: names of nodes.
    """
    half = convert_float_to_float16(
        copy.deepcopy(model), keep_io_types=True, node_block_list=list(keep)
    )
    OnnxModel(half).topological_sort()  # the converter appends the cast of the input at the end
    del half.graph.value_info[:]  # partly still with float32 types
    _remove_redundant_casts(half.graph)
    return half


def with_rounding(half: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float32 model with fp16 rounding of all weights and results that are fp16 in `half`.

    half: what `to_half` returns. Accelerators accumulate in float32 and store results in fp16, as
    this model does. onnxruntime on a CPU computes fp16 models in float32 without casts between its
    nodes, so its scores of `half` would be too high.
    """
    half = onnx.shape_inference.infer_shapes(half, strict_mode=True)
    graph = half.graph
    half_names = {
        value.name
        for value in graph.value_info
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16
    }
    for weight in graph.initializer:
        if weight.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(weight).astype(np.float32)
            weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    nodes = []
    for node in graph.node:
        # Other casts stay: from integers, or from float32 to float32.
        if _casts_to(node, TensorProto.FLOAT16):
            node.attribute[0].i = TensorProto.FLOAT
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in half_names:
                exact_name, half_name = f"{name}_exact", f"{name}_half"
                node.output[index] = exact_name
                for source, target, label, kind in (
                    (exact_name, half_name, f"{half_name}_down", TensorProto.FLOAT16),
                    (half_name, name, f"{half_name}_up", TensorProto.FLOAT),
                ):
                    nodes.append(helper.make_node("Cast", [source], [target], label, to=kind))
    exact = copy.deepcopy(half)
    del exact.graph.node[:], exact.graph.value_info[:]
    exact.graph.node.extend(nodes)
    return exact


def _remove_redundant_casts(graph: onnx.GraphProto) -> None:
    """Bypass casts from float32 to fp16 and back, which the converter adds around float32 nodes."""
    sources = {
        node.output[0]: node.input[0] for node in graph.node if _casts_to(node, TensorProto.FLOAT16)
    }
    for node in graph.node:
        if _casts_to(node, TensorProto.FLOAT):
            # Now a cast to the same type, except from an integer.
            node.input[0] = sources.get(node.input[0], node.input[0])
    inputs = {name for node in graph.node for name in node.input}
    for node in list(graph.node):
        if node.output[0] in sources and node.output[0] not in inputs:
            graph.node.remove(node)


def _casts_to(node: onnx.NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and helper.get_node_attr_value(node, "to") == kind
