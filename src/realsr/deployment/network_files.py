"""Write a generator in each format: ONNX in float32, fp16 and INT8; OpenVINO; ncnn."""

import logging
import subprocess
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from realsr.core.errors import UserError, first_line
from realsr.deployment.equalise import equalise
from realsr.deployment.export_folder import File, Int8Config
from realsr.deployment.measure import openvino_core
from realsr.deployment.onnx_graph import (
    Generator,
    layers,
    to_half,
    to_onnx,
    with_rounding,
)
from realsr.deployment.quantise import (
    choose_ranges,
    collect_histograms,
    measure_sensitivity,
    to_int8,
)
from realsr.deployment.table import SensitivityReport
from realsr.inference.onnx_files import OnnxFacts
from realsr.networks.rrdb import RRDB

logger = logging.getLogger("realsr")

NCNN_SHAPES = ((1, 3, 24, 40), (1, 3, 32, 28))  # pnnx makes the dimensions that differ dynamic
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
        graph, path = self.folder / f"{name}.onnx", self.folder / f"{name}.xml"
        match name:
            case "onnx_fp32":
                yield self._write(File(graph, "fp32"), self.exact)
            case "onnx_fp16":
                yield self._make_fp16(graph)
            case "onnx_int8":
                yield from self._make_int8()
            case "openvino":
                yield self._write(File(path, "fp32"), self.exact)
            case "openvino_int8":  # converted from the first `onnx_int8`
                method = self.int8.methods[0]
                source = self.folder / f"onnx_int8_{method}.onnx"
                if not source.is_file():
                    next(self._make_int8())
                file = File(path, "int8", method, self.float32_layers)
                yield self._write(file, onnx.load(source))
            case "ncnn":
                logger.info("converting to ncnn by pnnx; a full-size network takes minutes")
                write_ncnn(self.generator.network, self.folder / "ncnn.param")
                yield File(self.folder / "ncnn.param", "fp16")

    def _make_fp16(self, path: Path) -> File:
        names = list(self.layers)
        outer = names[:1] + names[1:][-1:]
        half = to_half(self.exact, [node for name in outer for node in self.layers[name]])
        rounding = self.folder / "rounding.onnx"
        onnx.save(with_rounding(half), rounding)
        return self._write(File(path, "fp16", "", outer, rounding), half)

    def _make_int8(self) -> Iterator[File]:
        network = self.generator.network
        if isinstance(network, RRDB):
            logger.info("equalising channels on %d photos", len(self.photos))
            network = equalise(network, self.photos)
        exact = to_onnx(network)
        nodes = layers(exact)
        keep = [node for name in self.float32_layers for node in nodes[name]]
        histograms = collect_histograms(exact, [photo.numpy() for photo in self.photos])
        for method in self.int8.methods:
            ranges = choose_ranges(histograms, method)
            path = self.folder / f"onnx_int8_{method}.onnx"
            file = File(path, "int8", method, self.float32_layers)
            yield self._write(file, to_int8(exact, ranges, keep))
            if self.int8.sensitivity and self.sensitivity is None:
                self.sensitivity = measure_sensitivity(exact, nodes, ranges, method, self.photos)

    def _write(self, file: File, model: onnx.ModelProto) -> File:
        """Write a model with its metadata as ONNX, checked by onnx, or as OpenVINO; return `file`."""
        generator, origin = self.generator, self.generator.origin
        facts = OnnxFacts(
            generator.scale,
            f"{file.precision} ({file.calibration})" if file.calibration else file.precision,
            generator.bytes_per_pixel,
            origin.source_sha256,
            origin.made_by,
        )
        metadata = facts.as_metadata() | origin.as_texts()
        if file.path.suffix == ".xml":
            write_openvino(model, metadata, file.path)
        else:
            helper.set_model_props(model, metadata)
            onnx.checker.check_model(model, full_check=True)
            onnx.save(model, file.path)
        return file


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
                f"torch cannot trace the generator for pnnx ({first_line(error)}): remove the "
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
        parts = [Path(folder, f"network.ncnn{suffix}") for suffix in (".param", ".bin")]
        if process.returncode != 0 or not all(part.is_file() for part in parts):
            message = process.stderr.strip() or process.stdout.strip() or "no message"
            raise UserError(
                f"pnnx cannot express the generator (exit code {process.returncode}: "
                f"{message.splitlines()[-1]}): remove the format ncnn"
            )
        for part in parts:
            path.with_suffix(part.suffix).write_bytes(part.read_bytes())
