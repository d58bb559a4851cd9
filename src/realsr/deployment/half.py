"""Half precision: what most of a network computes in, and what it costs."""

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel


def to_half(model: onnx.ModelProto, keep: Collection[str]) -> onnx.ModelProto:
    """Return a model in fp16 whose input and output, and the nodes to keep, are float32.

    onnxruntime's converter; the given model stays as it is.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    half = convert_float_to_float16(half, keep_io_types=True, node_block_list=list(keep))
    OnnxModel(half).topological_sort()  # the converter puts the input's cast at the end
    del half.graph.value_info[:]  # some of it tells the types of before
    _leave_out_detours(half.graph)
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


def _leave_out_detours(graph: onnx.GraphProto) -> None:
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
