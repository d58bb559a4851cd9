"""The generator to export, the files that it becomes, and their folder."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from realsr.core.file_names import utf8_path
from realsr.core.files import hold_lock, sync_files
from realsr.deployment.export_options import FORMATS, METHODS
from realsr.inference.model import SRModel
from realsr.inference.tile_layout import measure_bytes
from realsr.provenance.fingerprints import fingerprint_file
from realsr.weights.generators import make_generator
from realsr.weights.sources import find_weights
from realsr.weights.state_files import read_weights

UNFINISHED = (
    ".unfinished"  # a fixed name, so that the next export removes the files of a killed one
)
TABLES = ("table.json", "table.md", "sensitivity.png")


@dataclass(frozen=True)
class Generator:
    """What is exported: a network in float32 on the CPU, its scale, and the SHA-256 of its file of weights."""

    source: str
    network: nn.Module
    scale: int
    sha256: str

    @cached_property
    def bytes_per_pixel(self) -> float:
        """As in `OnnxFacts`."""
        return measure_bytes(SRModel(self.scale, torch.device("cpu"), self.network))


@dataclass(frozen=True)
class File:
    """An exported file; of two parts, the one that names the layers: the weights lie beside it as `.bin`.

    kept: the layers in float32. scored: the file that is scored in its place, if a CPU computes it otherwise.
    """

    path: Path
    precision: str
    calibration: str = ""
    kept: Sequence[str] = ()
    scored: Path | None = None

    @property
    def parts(self) -> list[Path]:
        """All files that it consists of."""
        return (
            [self.path]
            if self.path.suffix == ".onnx"
            else [self.path, self.path.with_suffix(".bin")]
        )

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
    file = read_weights(find_weights(source))
    network, scale = make_generator(file, allow_custom_code)
    network.requires_grad_(False)
    return Generator(source, network, scale, fingerprint_file(file.values)["sha256"])


def list_exported(folder: Path) -> list[Path]:
    """Return the files of a folder that have the names of an export's; none where there is no folder."""
    stems = {*FORMATS, *(f"onnx_int8_{method}" for method in METHODS)}
    networks = {
        f"{stem}{suffix}" for stem in stems for suffix in (".onnx", ".xml", ".bin", ".param")
    }
    return sorted(path for path in folder.glob("*") if path.name in networks.union(TABLES))


@contextmanager
def unfinished(output: Path) -> Iterator[Path]:
    """A folder inside `output` for unfinished files, which are lost unless they are moved.

    `output` is made if need be, and removed again if an error leaves nothing in it. Raises UserError where another
    process exports into it.
    """
    new = not output.exists()
    output.mkdir(parents=True, exist_ok=True)
    folder, advice = output / UNFINISHED, "Wait until it ends, stop it, or set another output."
    try:
        with hold_lock(output / ".export.lock", f"{output}: export", wait=False, advice=advice):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            try:
                with utf8_path(folder) as path:
                    yield path
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except BaseException:
        if new and not any(output.iterdir()):
            output.rmdir()
        raise
