"""Write a generator in each format: ONNX in float32, fp16 and INT8; OpenVINO; ncnn."""

import contextlib
import copy
import io
import logging
import subprocess
import sys
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel
from torch import Tensor, nn
from torch.export import Dim

from realsr.core.errors import UserError
from realsr.deployment.equalise import equalise
from realsr.deployment.export_files import File, Generator
from realsr.deployment.export_options import Int8Config
from realsr.deployment.measure import openvino_core
from realsr.deployment.quantise import (
    choose_ranges,
    collect_histograms,
    measure_sensitivity,
    to_int8,
)
from realsr.deployment.table import SensitivityReport
from realsr.inference.onnx_files import INPUT, OUTPUT, OnnxFacts
from realsr.networks.rrdb import RRDB

logger = logging.getLogger("realsr")

EXAMPLE = (1, 3, 24, 40)
# Some graphs hold for every size only if traced on a batch of two, on sizes that are no multiples
# of a window, and on sizes of more than two windows (32 pixels in DAT).
ONNX_EXAMPLE = (2, 3, 67, 101)
NCNN_SHAPES = (EXAMPLE, (1, 3, 32, 28))  # pnnx makes the dimensions that differ dynamic
RT_INFO = "realsr"  # section of an OpenVINO model's rt_info that holds `OnnxFacts.as_metadata`


class FileMaker:
    """Makes files in a folder. `sensitivity` is set once the layers' loss in INT8 is measured."""

    def __init__(
        self, generator: Generator, folder: Path, int8: Int8Config, photos: Sequence[Tensor]
    ) -> None:
        self.generator, self.folder, self.int8, self.photos = generator, folder, int8, photos
        self.sensitivity: SensitivityReport | None = None
        logger.info("%s: converting to an ONNX graph", generator.source)
        self.exact = to_onnx(generator.network)
        self.layers = layers(self.exact)
        self.float32_layers = list(self.layers)[:1] if int8.keep is None else int8.keep
        if unknown := [name for name in self.float32_layers if name not in self.layers]:
            raise UserError(
                f"int8.keep: no layer {', '.join(unknown)}; the generator has "
                f"{', '.join(self.layers)}"
            )

    def make(self, name: str) -> Iterator[File]:
        """Yield the files of a format, each when it is complete."""
        match name:
            case "onnx_fp32":
                yield File(self._write(name, self.exact, "fp32"), "fp32")
            case "onnx_fp16":
                yield self._make_fp16()
            case "onnx_int8":
                yield from self._make_int8()
            case "openvino":
                yield self._make_openvino(name, self.exact, "fp32")
            case "openvino_int8":  # converted from the first `onnx_int8`
                method = self.int8.methods[0]
                source = self.folder / f"onnx_int8_{method}.onnx"
                if not source.is_file():
                    next(self._make_int8())
                model = onnx.load(source)
                yield self._make_openvino(name, model, "int8", method, self.float32_layers)
            case "ncnn":
                path = self.folder / "ncnn.param"
                logger.info("converting to ncnn by pnnx; a full-size network takes minutes")
                write_ncnn(self.generator.network, path)
                yield File(path, "fp16")

    def _make_fp16(self) -> File:
        names = list(self.layers)
        outer = names[:1] + names[1:][-1:]
        half = to_half(self.exact, [node for name in outer for node in self.layers[name]])
        rounding = self.folder / "rounding.onnx"
        onnx.save(with_rounding(half), rounding)
        return File(self._write("onnx_fp16", half, "fp16"), "fp16", "", outer, rounding)

    def _make_int8(self) -> Iterator[File]:
        network = self.generator.network
        if isinstance(network, RRDB):
            logger.info("equalising channels on %d photos", len(self.photos))
            network = equalise(network, self.photos)
        exact = to_onnx(network)
        nodes = layers(exact)
        histograms = collect_histograms(exact, [photo.numpy() for photo in self.photos])
        for method in self.int8.methods:
            ranges = choose_ranges(histograms, method)
            keep = [node for name in self.float32_layers for node in nodes[name]]
            model = to_int8(exact, ranges, keep)
            path = self._write(f"onnx_int8_{method}", model, f"int8 ({method})")
            yield File(path, "int8", method, self.float32_layers)
            if self.int8.sensitivity and self.sensitivity is None:
                self.sensitivity = measure_sensitivity(exact, nodes, ranges, method, self.photos)

    def _make_openvino(
        self,
        name: str,
        model: onnx.ModelProto,
        precision: str,
        calibration: str = "",
        float32_layers: Sequence[str] = (),
    ) -> File:
        path = self.folder / f"{name}.xml"
        label = f"{precision} ({calibration})" if calibration else precision
        write_openvino(model, self._metadata(label), path)
        return File(path, precision, calibration, float32_layers)

    def _write(self, name: str, model: onnx.ModelProto, precision: str) -> Path:
        """Add metadata to a model, check it by onnx's checker, and write it."""
        helper.set_model_props(model, self._metadata(precision))
        onnx.checker.check_model(model, full_check=True)
        path = self.folder / f"{name}.onnx"
        onnx.save(model, path)
        return path

    def _metadata(self, precision: str) -> dict[str, str]:
        generator, origin = self.generator, self.generator.origin
        facts = OnnxFacts(
            generator.scale,
            precision,
            generator.bytes_per_pixel,
            origin.source_sha256,
            origin.made_by,
        )
        return facts.as_metadata() | origin.as_texts()


def to_onnx(network: nn.Module) -> onnx.ModelProto:
    """Return a generator as an ONNX model in float32; input (batch, 3, height, width) in 0..1.

    Batch, height and width are dynamic. Weights have the names of the network. Torch's references
    to source code are removed. Raises UserError if torch cannot express the network in ONNX.
    """
    shapes = ({0: Dim("batch"), 2: Dim("height"), 3: Dim("width")},)
    parameters = next(network.parameters(), torch.empty(0))
    generator = torch.Generator().manual_seed(0)
    example = torch.rand(ONNX_EXAMPLE, generator=generator).to(parameters.device)
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
            f"torch cannot express the generator in ONNX ({_first_line(error)})"
        ) from error
    model = program.model_proto
    for part in (model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
    del model.functions[:], model.graph.value_info[:]
    return model


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
                for source, target, suffix, kind in (
                    (exact_name, half_name, "down", TensorProto.FLOAT16),
                    (half_name, name, "up", TensorProto.FLOAT),
                ):
                    label = f"{half_name}_{suffix}"
                    nodes.append(helper.make_node("Cast", [source], [target], label, to=kind))
    exact = copy.deepcopy(half)
    del exact.graph.node[:], exact.graph.value_info[:]
    exact.graph.node.extend(nodes)
    return exact


def write_openvino(model: onnx.ModelProto, metadata: dict[str, str], path: Path) -> None:
    """Write `path` (.xml) and its .bin, with the precision of the ONNX model's weights.

    The model is read by `Core.read_model`, since `convert_model` sends telemetry. Raises UserError
    if OpenVINO does not accept the model.
    """
    import openvino

    try:
        network = openvino_core().read_model(model.SerializeToString())
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(
            f"OpenVINO cannot express the generator ({reason}): remove its formats"
        ) from error
    for key, value in metadata.items():
        network.set_rt_info(value, [RT_INFO, key])
    openvino.save_model(network, path, compress_to_fp16=False)


def write_ncnn(network: nn.Module, path: Path) -> None:
    """Write `path` (.param) and its .bin; the input is named in0, the output out0.

    Weights below 2^-14, subnormal numbers in fp16, become 0: pnnx rounds so.

    The pnnx program is run directly. `pnnx.export` executes code that it generates, does not report
    failures, and leaves eight extra files.

    Raises UserError if torch cannot trace the network, or pnnx cannot express it.
    """
    from pnnx import EXEC_PATH

    with TemporaryDirectory(prefix="realsr_") as folder:
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")  # tracing is deprecated; pnnx reads nothing newer
                example = torch.zeros(NCNN_SHAPES[0])
                program = torch.jit.trace(network.eval(), example, check_trace=False)
                program.save(str(Path(folder, "network.pt")))
        except Exception as error:  # custom networks may raise any type
            raise UserError(
                f"torch cannot trace the generator for pnnx ({_first_line(error)}): remove the "
                "format ncnn"
            ) from error
        shapes = ["[{},{},{},{}]f32".format(*shape) for shape in NCNN_SHAPES]
        options = [f"inputshape={shapes[0]}", f"inputshape2={shapes[1]}", "fp16=1"]
        command = [EXEC_PATH, "network.pt", *options]
        try:
            process = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, errors="replace"
            )
        except OSError as error:
            raise UserError(f"pnnx cannot be run ({error}): remove the format ncnn") from error
        parts = [
            (Path(folder, f"network.ncnn{suffix}"), path.with_suffix(suffix))
            for suffix in (".param", ".bin")
        ]
        if process.returncode != 0 or not all(part.is_file() for part, _ in parts):
            message = process.stderr.strip() or process.stdout.strip() or "no message"
            raise UserError(
                f"pnnx cannot express the generator (exit code {process.returncode}: "
                f"{message.splitlines()[-1]}): remove the format ncnn"
            )
        for part, target in parts:
            target.write_bytes(part.read_bytes())


@contextlib.contextmanager
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


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]


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
