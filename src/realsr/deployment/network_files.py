"""A generator as the files of each format: ONNX in float32, fp16 and INT8; OpenVINO's and ncnn's files."""

import contextlib
import copy
import io
import logging
import subprocess
import warnings
from collections.abc import Collection, Iterator, Sequence
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

import realsr
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
NCNN_SHAPES = (EXAMPLE, (1, 3, 32, 28))  # what differs between them pnnx leaves open
RT_INFO = (
    "realsr"  # the section of an OpenVINO model's rt_info where `OnnxFacts.as_metadata` is put
)


class Maker:
    """Makes files in a folder. `sensitivity` is what layers cost in INT8, once it has been measured."""

    def __init__(
        self, generator: Generator, folder: Path, int8: Int8Config, photos: Sequence[Tensor]
    ) -> None:
        self.generator, self.folder, self.int8, self.photos = generator, folder, int8, photos
        self.sensitivity: SensitivityReport | None = None
        logger.info("%s: to ONNX's graph, by torch's exporter", generator.source)
        self.exact = to_onnx(generator.network)
        self.layers = layers(self.exact)
        self.kept = list(self.layers)[:1] if int8.keep is None else int8.keep
        if unknown := [name for name in self.kept if name not in self.layers]:
            raise UserError(
                f"int8.keep: no layer {', '.join(unknown)}; the generator's are {', '.join(self.layers)}"
            )

    def make(self, name: str) -> Iterator[File]:
        """Yield the files of a format, each when it is finished."""
        match name:
            case "onnx_fp32":
                yield File(self._write(name, self.exact, "fp32"), "fp32")
            case "onnx_fp16":
                yield self._make_fp16()
            case "onnx_int8":
                yield from self._make_int8()
            case "openvino":
                yield self._make_openvino(name, self.exact, "fp32")
            case (
                "openvino_int8"
            ):  # the first of `onnx_int8`, which is made for it where it is missing
                method = self.int8.methods[0]
                source = self.folder / f"onnx_int8_{method}.onnx"
                if not source.is_file():
                    next(self._make_int8())
                yield self._make_openvino(name, onnx.load(source), "int8", method, self.kept)
            case "ncnn":
                path = self.folder / "ncnn.param"
                logger.info("to ncnn's layers, by pnnx: minutes for a network of full size")
                write_ncnn(self.generator.network, path)
                yield File(path, "fp16")

    def _make_fp16(self) -> File:
        names = list(self.layers)
        kept = names[:1] + names[1:][-1:]
        half = to_half(self.exact, [node for name in kept for node in self.layers[name]])
        rounding = self.folder / "rounding.onnx"
        onnx.save(with_rounding(half), rounding)
        return File(self._write("onnx_fp16", half, "fp16"), "fp16", "", kept, rounding)

    def _make_int8(self) -> Iterator[File]:
        network = self.generator.network
        if isinstance(network, RRDB):
            logger.info("channels equalised on %d photos, and to ONNX's graph", len(self.photos))
            network = equalise(network, self.photos)
        exact = to_onnx(network)
        nodes = layers(exact)
        histograms = collect_histograms(exact, [photo.numpy() for photo in self.photos])
        for method in self.int8.methods:
            ranges = choose_ranges(histograms, method)
            model = to_int8(exact, ranges, [node for name in self.kept for node in nodes[name]])
            path = self._write(f"onnx_int8_{method}", model, f"int8 ({method})")
            yield File(path, "int8", method, self.kept)
            if self.int8.sensitivity and self.sensitivity is None:
                self.sensitivity = measure_sensitivity(exact, nodes, ranges, method, self.photos)

    def _make_openvino(
        self,
        name: str,
        model: onnx.ModelProto,
        precision: str,
        calibration: str = "",
        kept: Sequence[str] = (),
    ) -> File:
        path = self.folder / f"{name}.xml"
        write_openvino(
            model,
            self._metadata(f"{precision} ({calibration})" if calibration else precision),
            path,
        )
        return File(path, precision, calibration, kept)

    def _write(self, name: str, model: onnx.ModelProto, precision: str) -> Path:
        """Write a model with its metadata, once onnx's checker has passed it."""
        helper.set_model_props(model, self._metadata(precision))
        onnx.checker.check_model(model, full_check=True)
        path = self.folder / f"{name}.onnx"
        onnx.save(model, path)
        return path

    def _metadata(self, precision: str) -> dict[str, str]:
        generator, made_by = self.generator, f"realsr {realsr.__version__}"
        facts = OnnxFacts(
            generator.scale, precision, generator.bytes_per_pixel, generator.sha256, made_by
        )
        return facts.as_metadata()


def to_onnx(network: nn.Module) -> onnx.ModelProto:
    """Return a generator as an ONNX model in float32, (batch, 3, height, width) in 0..1, all but the 3 dynamic.

    The names of weights are those of the network. Torch's notes about places in the code are left out.

    Raises UserError where torch cannot express the network in ONNX.
    """
    shapes = ({0: Dim("batch"), 2: Dim("height"), 3: Dim("width")},)
    parameters = next(network.parameters(), torch.empty(0))
    generator = torch.Generator().manual_seed(0)
    example = torch.rand(ONNX_EXAMPLE, generator=generator).to(parameters.device)
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
        raise UserError(
            f"torch cannot express the generator in ONNX ({_first_line(error)})"
        ) from error
    model = program.model_proto
    for part in (model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
    del model.functions[:], model.graph.value_info[:]
    return model


def layers(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Return the names of a graph's nodes by the layer they belong to, in the order of computation.

    A layer is a convolution with what follows it until the next; those of one block, such as `RRDB_trunk.7`, are one.
    """
    nodes: dict[str, list[str]] = {}
    weights = {value.name for value in model.graph.initializer}
    layer = ""
    for node in model.graph.node:
        if node.op_type == "Conv" and len(node.input) > 1 and node.input[1] in weights:
            parts = node.input[1].split(".")[
                :-1
            ]  # what is before the last point, as far as the first number
            end = next(
                (place for place, part in enumerate(parts, start=1) if part.isdigit()), len(parts)
            )
            layer = ".".join(parts[:end]) or node.name
        if layer:
            nodes.setdefault(layer, []).append(node.name)
    return nodes


def to_half(model: onnx.ModelProto, keep: Collection[str]) -> onnx.ModelProto:
    """Return a model in fp16 whose input and output, and the nodes to keep, are float32.

    onnxruntime's converter; the given model stays as it is.
    """
    half = convert_float_to_float16(
        copy.deepcopy(model), keep_io_types=True, node_block_list=list(keep)
    )
    OnnxModel(half).topological_sort()  # the converter puts the input's cast at the end
    del half.graph.value_info[:]  # some of it has the types of before
    _remove_redundant_casts(half.graph)
    return half


def with_rounding(half: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float32 model that rounds to fp16 wherever a model of `to_half` has fp16: weights and each result.

    So accelerators compute: sums in float32, results in fp16. onnxruntime on a CPU does not round: it computes such
    models in float32 and leaves out the casts between its nodes, which flatters them.
    """
    half = onnx.shape_inference.infer_shapes(half, strict_mode=True)
    graph = half.graph
    rounded = {
        value.name
        for value in graph.value_info
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16
    }
    for weight in graph.initializer:
        if weight.data_type == TensorProto.FLOAT16:
            weight.CopyFrom(
                numpy_helper.from_array(
                    numpy_helper.to_array(weight).astype(np.float32), weight.name
                )
            )
    nodes = []
    for node in graph.node:
        if _casts_to(
            node, TensorProto.FLOAT16
        ):  # the others stay: of integers, or from float32 to itself
            node.attribute[0].i = TensorProto.FLOAT
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in rounded:
                node.output[index], down = f"{name}_exact", f"{name}_half"
                nodes.append(
                    helper.make_node(
                        "Cast", [f"{name}_exact"], [down], f"{down}_down", to=TensorProto.FLOAT16
                    )
                )
                nodes.append(
                    helper.make_node("Cast", [down], [name], f"{down}_up", to=TensorProto.FLOAT)
                )
    exact = copy.deepcopy(half)
    del exact.graph.node[:], exact.graph.value_info[:]
    exact.graph.node.extend(nodes)
    return exact


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
        raise UserError(
            f"OpenVINO cannot express the generator ({reason}): leave its formats out"
        ) from error
    for key, value in metadata.items():
        converted.set_rt_info(value, [RT_INFO, key])
    openvino.save_model(converted, path, compress_to_fp16=False)


def write_ncnn(network: nn.Module, path: Path) -> None:
    """Write `path` (.param) and its .bin; their input and output are called in0 and out0.

    Weights that fp16 holds as subnormal numbers, those below 2^-14, become 0: so pnnx rounds.

    The program itself is run, and not `pnnx.export`, which executes code that it generates, does not report failures,
    and leaves eight files beside the two.

    Raises UserError where torch cannot trace the network, or pnnx cannot express it.
    """
    from pnnx import EXEC_PATH

    with TemporaryDirectory(prefix="realsr_") as folder:
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter(
                    "ignore"
                )  # torch prefers its own new formats, which pnnx does not read
                program = torch.jit.trace(
                    network.eval(), torch.zeros(NCNN_SHAPES[0]), check_trace=False
                )
                program.save(str(Path(folder, "network.pt")))
        except Exception as error:  # whatever the network's own code raises, too
            raise UserError(
                f"torch cannot trace the generator for pnnx ({_first_line(error)}): leave the format ncnn out"
            ) from error
        shapes = ["[{},{},{},{}]f32".format(*shape) for shape in NCNN_SHAPES]
        command = [
            EXEC_PATH,
            "network.pt",
            f"inputshape={shapes[0]}",
            f"inputshape2={shapes[1]}",
            "fp16=1",
        ]
        try:
            process = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, errors="replace"
            )
        except OSError as error:
            raise UserError(f"pnnx cannot be run ({error}): leave the format ncnn out") from error
        parts = [
            (Path(folder, f"network.ncnn{suffix}"), path.with_suffix(suffix))
            for suffix in (".param", ".bin")
        ]
        if process.returncode != 0 or not all(part.is_file() for part, _ in parts):
            last = (process.stderr.strip() or process.stdout.strip() or "no message").splitlines()[
                -1
            ]
            raise UserError(
                f"pnnx cannot express the generator (ended with {process.returncode}: {last}): leave the format ncnn "
                "out"
            )
        for part, target in parts:
            target.write_bytes(part.read_bytes())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter and its libraries log and print: errors are raised, the rest is of no use."""
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
    """Hand float32 on as it is where the converter casts it down and up again: between, before and after kept nodes."""
    exact = {
        node.output[0]: node.input[0] for node in graph.node if _casts_to(node, TensorProto.FLOAT16)
    }
    for node in graph.node:
        if _casts_to(node, TensorProto.FLOAT) and node.input[0] in exact:
            node.input[0] = exact[
                node.input[0]
            ]  # a cast that does nothing, unless this is an integer
    read = {name for node in graph.node for name in node.input}
    for node in [
        node for node in graph.node if node.output[0] in exact and node.output[0] not in read
    ]:
        graph.node.remove(node)


def _casts_to(node: onnx.NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and helper.get_node_attr_value(node, "to") == kind
