"""The files of a generator, one format after another: ONNX, OpenVINO's and ncnn's."""

import logging
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

import realsr
from realsr.core.errors import UserError
from realsr.deployment.equalise import equalise
from realsr.deployment.export_files import File, Generator
from realsr.deployment.export_options import Int8Config
from realsr.deployment.measure import openvino_core
from realsr.deployment.onnx_graph import add_metadata, layer_of, layers, to_half, to_onnx, with_rounding
from realsr.deployment.quantise import choose_ranges, collect_histograms, measure_sensitivity, prepared, to_int8
from realsr.deployment.table import SensitivityReport
from realsr.inference.onnx_files import OnnxFacts
from realsr.networks.rrdb import RRDB

logger = logging.getLogger("realsr")

RT_INFO = "realsr"  # the section of an OpenVINO model's rt_info where `OnnxFacts.as_metadata` is put
NCNN_SHAPES = ((1, 3, 24, 40), (1, 3, 32, 28))  # what differs between them pnnx leaves open


class Maker:
    """Makes files in a folder. `sensitivity` is what layers cost in INT8, once it has been measured."""

    def __init__(self, generator: Generator, folder: Path, int8: Int8Config, photos: Sequence[Tensor]) -> None:
        self.generator, self.folder, self.int8, self.photos = generator, folder, int8, photos
        self.sensitivity: SensitivityReport | None = None
        # Of their names alone, before the minutes that follow.
        weights = [name for name, weight in generator.network.named_parameters() if weight.ndim == 4]
        _check_layers(int8.keep or [], dict.fromkeys(map(layer_of, weights)))
        logger.info("%s: to ONNX's graph, by torch's exporter", generator.source)
        self.exact = to_onnx(generator.network)
        self.layers = layers(self.exact)
        _check_layers(int8.keep or [], self.layers)  # once more: a network may have weights that it does not use

    def make(self, name: str) -> Iterator[File]:
        """Yield the files of a format as they are there."""
        makers: dict[str, Callable[[], Iterator[File]]] = {
            "onnx_fp32": self._make_fp32,
            "onnx_fp16": self._make_fp16,
            "onnx_int8": self._make_int8,
            "openvino": self._make_openvino,
            "openvino_int8": self._make_openvino_int8,
            "ncnn": self._make_ncnn,
        }
        yield from makers[name]()

    def _make_fp32(self) -> Iterator[File]:
        yield File(self._write("onnx_fp32", self.exact, "fp32"), "fp32")

    def _make_fp16(self) -> Iterator[File]:
        names = list(self.layers)
        kept = names[:1] + names[1:][-1:]
        half = to_half(self.exact, [node for name in kept for node in self.layers[name]])
        rounding = self.folder / "rounding.onnx"
        onnx.save(with_rounding(half), rounding)
        yield File(self._write("onnx_fp16", half, "fp16"), "fp16", "", kept, scored=rounding)

    def _make_int8(self) -> Iterator[File]:
        network = self.generator.network
        if isinstance(network, RRDB):
            logger.info("channels equalised on %d photos, and to ONNX's graph", len(self.photos))
            network = equalise(network, self.photos)
        exact = to_onnx(network)
        nodes = layers(exact)
        kept = self._kept()
        with prepared(exact) as path:
            histograms = collect_histograms(path, [photo.numpy() for photo in self.photos], self.folder)
            for method in self.int8.methods:
                ranges = choose_ranges(histograms, method)
                model = to_int8(path, ranges, [node for name in kept for node in nodes[name]])
                written = self._write(f"onnx_int8_{method}", model, f"int8 ({method})")
                yield File(written, "int8", method, kept)
                if self.int8.sensitivity and self.sensitivity is None:
                    self.sensitivity = measure_sensitivity(path, nodes, ranges, method, self.photos)

    def _make_openvino(self) -> Iterator[File]:
        path = self.folder / "openvino.xml"
        write_openvino(self.exact, self._facts("fp32"), path)
        yield File(path, "fp32")

    def _make_openvino_int8(self) -> Iterator[File]:
        """The first of `onnx_int8`, which is made for it where it is not there."""
        method = self.int8.methods[0]
        source = self.folder / f"onnx_int8_{method}.onnx"
        if not source.is_file():
            next(self._make_int8())  # and no further
        path = self.folder / "openvino_int8.xml"
        write_openvino(onnx.load(source), self._facts(f"int8 ({method})"), path)
        yield File(path, "int8", method, self._kept())

    def _make_ncnn(self) -> Iterator[File]:
        path = self.folder / "ncnn.param"
        logger.info("to ncnn's layers, by pnnx: minutes for a network of full size")
        write_ncnn(self.generator.network, path)
        yield File(path, "fp16")

    def _kept(self) -> Sequence[str]:
        return list(self.layers)[:1] if self.int8.keep is None else self.int8.keep

    def _facts(self, precision: str) -> dict[str, str]:
        generator, made_by = self.generator, f"realsr {realsr.__version__}"
        facts = OnnxFacts(generator.scale, precision, generator.bytes_per_pixel, generator.sha256, made_by)
        return facts.as_metadata()

    def _write(self, name: str, model: onnx.ModelProto, precision: str) -> Path:
        """Write a model with its metadata, once onnx's checker has passed it."""
        add_metadata(model, self._facts(precision))
        onnx.checker.check_model(model, full_check=True)
        path = self.folder / f"{name}.onnx"
        onnx.save(model, path)
        return path


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
        converted.set_rt_info(value, [RT_INFO, key])
    openvino.save_model(converted, path, compress_to_fp16=False)


def write_ncnn(network: nn.Module, path: Path) -> None:
    """Write `path` (.param) and its .bin; their input and output are called in0 and out0.

    Weights that fp16 holds as subnormal numbers, those below 2^-14, become 0: so pnnx rounds.

    The program itself is run, and not `pnnx.export`, which executes code that it generates, does not tell of failure,
    and leaves eight files beside the two.

    Raises UserError where torch cannot trace the network, or pnnx cannot express it.
    """
    from pnnx import EXEC_PATH

    with tempfile.TemporaryDirectory(prefix="realsr_") as folder:
        _trace(network, Path(folder) / "network.pt")
        shapes = ["[{},{},{},{}]f32".format(*shape) for shape in NCNN_SHAPES]
        command = [EXEC_PATH, "network.pt", f"inputshape={shapes[0]}", f"inputshape2={shapes[1]}", "fp16=1"]
        try:
            ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
        except OSError as error:
            raise UserError(f"pnnx cannot be run ({error}): leave the format ncnn out") from error
        parts = [(Path(folder) / f"network.ncnn{suffix}", path.with_suffix(suffix)) for suffix in (".param", ".bin")]
        if ended.returncode != 0 or not all(part.is_file() for part, _ in parts):
            last = (ended.stderr.strip() or ended.stdout.strip() or "nothing said").splitlines()[-1]
            raise UserError(
                f"pnnx cannot express the generator (ended with {ended.returncode}: {last}): leave the format ncnn out"
            )
        for part, target in parts:
            target.write_bytes(part.read_bytes())


def _check_layers(names: Sequence[str], known: Collection[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"int8.keep: no layer {', '.join(unknown)}; the generator's are {', '.join(known)}")


def _trace(network: nn.Module, path: Path) -> None:
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch prefers its own new formats, which pnnx does not read
            torch.jit.trace(network.eval(), torch.zeros(NCNN_SHAPES[0]), check_trace=False).save(str(path))
    except Exception as error:  # whatever the network's own code raises, too
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise UserError(f"torch cannot trace the generator for pnnx ({reason}): leave the format ncnn out") from error
