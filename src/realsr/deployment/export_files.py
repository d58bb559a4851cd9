"""The generator to export, the exported files, and their folder."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from realsr.core.errors import UserError
from realsr.core.file_names import utf8_path
from realsr.core.files import hold_lock, sync_files
from realsr.deployment.export_options import FORMATS, METHODS
from realsr.inference.model import SRModel
from realsr.inference.tile_layout import measure_bytes
from realsr.weights.conversion import read_with_origin
from realsr.weights.generators import make_generator
from realsr.weights.hub import MODEL_FILE
from realsr.weights.origin import Origin
from realsr.weights.sources import find_weights

# A fixed name, so that an export removes the files of an earlier one that was killed.
STAGING = ".unfinished"
CARD = "README.md"
OTHERS = ("table.json", "table.md", "sensitivity.png", MODEL_FILE, CARD)
LIBRARY = "library_name: realsr"  # a line by which a model card of this package is recognised


@dataclass(frozen=True)
class Generator:
    """The network to export, in float32 on the CPU, and the origin of its weights."""

    source: str
    network: nn.Module
    scale: int
    origin: Origin

    @cached_property
    def bytes_per_pixel(self) -> float:
        """As in `OnnxFacts`."""
        return measure_bytes(SRModel(self.scale, torch.device("cpu"), self.network))


@dataclass(frozen=True)
class File:
    """An exported file. If the format has two parts, `path` is the graph, and `.bin` the weights.

    calibration: INT8's method.
    score_path: a file to score instead, if a CPU would compute this one with other rounding.
    """

    path: Path
    precision: str
    calibration: str = ""
    float32_layers: Sequence[str] = ()
    score_path: Path | None = None

    @property
    def parts(self) -> list[Path]:
        """All files that it consists of."""
        weights = [] if self.path.suffix == ".onnx" else [self.path.with_suffix(".bin")]
        return [self.path, *weights]

    def move(self, folder: Path) -> "File":
        """Move it to a folder on the same disk, synced against power cuts, and return it."""
        sync_files(self.parts)
        for part in self.parts:
            part.replace(folder / part.name)
        file = replace(self, path=folder / self.path.name)
        sync_files(file.parts)
        return file


def load(
    source: str,
    allow_custom_code: bool = False,
    weights_b: str | None = None,
    interpolate: float | None = None,
    licence: str | None = None,
) -> Generator:
    """Return the generator of a source. The arguments and errors are those of `convert_weights`."""
    file, origin = read_with_origin(source, weights_b, interpolate, licence)
    network, scale = make_generator(file, allow_custom_code)
    network.requires_grad_(False)
    return Generator(source, network, scale, origin)


def list_exported(folder: Path) -> list[Path]:
    """Return the files in a folder that have names of an export; none if there is no folder.

    A README.md that is no model card of this package is another file.
    """
    stems = {*FORMATS, *(f"onnx_int8_{method}" for method in METHODS)}
    networks = {
        f"{stem}{suffix}" for stem in stems for suffix in (".onnx", ".xml", ".bin", ".param")
    }
    return sorted(
        path
        for path in folder.glob("*")
        if path.name in networks.union(OTHERS) and (path.name != CARD or _is_card(path))
    )


def _is_card(path: Path) -> bool:
    return LIBRARY in path.read_text(encoding="utf-8", errors="replace").splitlines()


def check_output(sources: Sequence[str], output: Path, overwrite: bool) -> None:
    """Raise UserError if an export into a folder would replace other files or its own sources."""
    earlier = list_exported(output)
    if earlier and not overwrite:
        raise UserError(
            f"{output}: already has an export ({', '.join(path.name for path in earlier)}): set "
            "overwrite=true to replace all of it, or choose another output"
        )
    if (output / CARD).exists() and output / CARD not in earlier:
        raise UserError(
            f"{output / CARD}: would be replaced by the model card: choose another output"
        )
    for source in sources:
        if find_weights(source).resolve() in [path.resolve() for path in earlier]:
            raise UserError(
                f"weights={source} would be replaced by output={output}: choose another output"
            )


@contextmanager
def staging_folder(output: Path) -> Iterator[Path]:
    """Yield a temporary folder inside `output`; at the end it is deleted with all files in it.

    `output` is created if necessary, and removed if an error leaves it empty. Raises UserError if
    another process exports into it.
    """
    new = not output.exists()
    output.mkdir(parents=True, exist_ok=True)
    folder, advice = output / STAGING, "Wait until it ends, stop it, or set another output."
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
