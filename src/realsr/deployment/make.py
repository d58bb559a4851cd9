"""The files of a generator, one format after another."""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

import realsr
from realsr.core.errors import UserError
from realsr.core.files import sync_files
from realsr.deployment.calibration import choose_ranges, collect_histograms
from realsr.deployment.equalise import equalise
from realsr.deployment.formats import Int8Config
from realsr.deployment.graph import add_metadata, layer_of, layers, to_onnx
from realsr.deployment.half import to_half, with_rounding
from realsr.deployment.int8 import prepared, to_int8
from realsr.deployment.ncnn_files import write_ncnn
from realsr.deployment.openvino_files import write_openvino
from realsr.deployment.sensitivity import Trade, measure_sensitivity
from realsr.inference.memory import measure_bytes
from realsr.inference.model import SRModel
from realsr.inference.onnx_files import OnnxFacts
from realsr.networks.rrdb import RRDB
from realsr.provenance.fingerprints import fingerprint_file
from realsr.weights import load_generator
from realsr.weights.ncnn import find_pair, is_ncnn
from realsr.weights.sources import find_weights
from realsr.weights.state_files import identify_weights

logger = logging.getLogger("realsr")


@dataclass(frozen=True)
class Generator:
    """What is exported: a network in float32 on the CPU, its scale, and the SHA-256 of its file of weights."""

    source: str
    network: nn.Module
    scale: int
    sha256: str

    @cached_property
    def bytes_per_pixel(self) -> float:
        """As `OnnxFacts` has it."""
        return measure_bytes(SRModel(self.scale, torch.device("cpu"), self.network))


@dataclass(frozen=True)
class File:
    """An exported file; of two parts, the one that names the layers: the weights lie beside it as `.bin`.

    kept: the layers in float32. scored: what it is judged by, if a CPU computes it otherwise.
    """

    path: Path
    precision: str
    calibration: str = ""
    kept: Sequence[str] = ()
    scored: Path | None = field(default=None, kw_only=True)

    @property
    def parts(self) -> list[Path]:
        """All files that it consists of."""
        return [self.path] if self.path.suffix == ".onnx" else [self.path, self.path.with_suffix(".bin")]

    def move(self, folder: Path) -> "File":
        """Move it to a folder of the same disk, where it lasts through a power cut; return it as it is there."""
        sync_files(self.parts)
        for part in self.parts:
            part.replace(folder / part.name)
        file = replace(self, path=folder / self.path.name)
        sync_files(file.parts)
        return file


def load(source: str, allow_custom_code: bool = False) -> Generator:
    """Return the generator of a source. Raises UserError as `load_generator`."""
    path = find_weights(source)
    network, scale = load_generator(path, allow_custom_code)
    network.requires_grad_(False)
    numbers = find_pair(path)[1] if is_ncnn(path, identify_weights(path)) else path
    return Generator(source, network, scale, fingerprint_file(numbers)["sha256"])


class Maker:
    """Makes files in a folder. `trade` is what layers cost in 8 bits, once it has been measured."""

    def __init__(self, generator: Generator, folder: Path, int8: Int8Config, photos: Sequence[Tensor]) -> None:
        self.generator, self.folder, self.int8, self.photos = generator, folder, int8, photos
        self.trade: Trade | None = None
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
                if self.int8.sensitivity and self.trade is None:
                    self.trade = measure_sensitivity(path, nodes, ranges, method, self.photos)

    def _make_openvino(self) -> Iterator[File]:
        path = self.folder / "openvino.xml"
        write_openvino(self.exact, self._facts("fp32"), path)
        yield File(path, "fp32")

    def _make_openvino_int8(self) -> Iterator[File]:
        """The first of `onnx_int8`, which is made for it where it is not there."""
        method = self.int8.methods[0]
        made = self.folder / f"onnx_int8_{method}.onnx"
        if not made.is_file():
            next(self._make_int8())  # and no further
        path = self.folder / "openvino_int8.xml"
        write_openvino(onnx.load(made), self._facts(f"int8 ({method})"), path)
        yield File(path, "int8", method, self._kept())

    def _make_ncnn(self) -> Iterator[File]:
        path = self.folder / "ncnn.param"
        logger.info("to ncnn's layers, by pnnx: minutes for a network of full size")
        write_ncnn(self.generator.network, path)
        yield File(path, "fp16")

    def _kept(self) -> Sequence[str]:
        return list(self.layers)[:1] if self.int8.keep is None else self.int8.keep

    def _facts(self, precision: str) -> dict[str, str]:
        made, made_by = self.generator, f"realsr {realsr.__version__}"
        return OnnxFacts(made.scale, precision, made.bytes_per_pixel, made.sha256, made_by).as_metadata()

    def _write(self, name: str, model: onnx.ModelProto, precision: str) -> Path:
        """Write a model with its metadata, once onnx's checker has passed it."""
        add_metadata(model, self._facts(precision))
        onnx.checker.check_model(model, full_check=True)
        path = self.folder / f"{name}.onnx"
        onnx.save(model, path)
        return path


def _check_layers(asked: Sequence[str], known: Collection[str]) -> None:
    if unknown := [name for name in asked if name not in known]:
        raise UserError(f"int8.keep: no layer {', '.join(unknown)}; the generator's are {', '.join(known)}")
