"""What an export writes: its formats, the settings of INT8, and the files of its folder.

Torch is imported only by functions, so that configurations load quickly.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from realsr.core.errors import UserError
from realsr.core.file_names import utf8_path
from realsr.core.files import hold_lock, sync_files
from realsr.core.ranges import Range

WEIGHTS = "safetensors"  # the weights, not a network: for this package
ONNX_FORMATS = ("onnx_fp32", "onnx_fp16", "onnx_int8")
DEFAULT_FORMATS = (*ONNX_FORMATS, WEIGHTS)
FORMATS = (*ONNX_FORMATS, "openvino", "openvino_int8", "ncnn", WEIGHTS)
METHODS = ("entropy", "percentile", "minmax")
LIBRARIES = {  # by extra
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "openvino": ("openvino",),
    "ncnn": ("ncnn", "pnnx"),
}
# A fixed name, so that an export removes the files of an earlier one that was killed.
STAGING = ".unfinished"
CARD = "README.md"
OTHERS = ("table.json", "table.md", "sensitivity.png", CARD)  # and the weights
LIBRARY = "library_name: realsr"  # a line by which a model card of this package is recognised


@dataclass
class Int8Config:
    """How INT8 files are made.

    photos: a folder of calibration photos, similar to those to be upscaled; None: scikit-image's.
    methods: of choosing ranges, one file each: entropy (Kullback-Leibler divergence), percentile,
        minmax.
    crop: side in LR pixels of the central crop of each photo.
    keep: layers that stay in float32; None: the first.
    sensitivity: whether to measure the loss of each layer in INT8, and the gain of keeping the most
        sensitive layers in float32.
    """

    photos: Path | None
    methods: list[str]
    crop: Annotated[int, Range(16)]
    keep: list[str] | None
    sensitivity: bool


def check_formats(formats: Sequence[str], int8: Int8Config) -> None:
    """Raise UserError if a name is unknown or repeated, or a library is not installed."""
    for key, names, options in (
        ("formats", formats, FORMATS),
        ("int8.methods", int8.methods, METHODS),
    ):
        if not names or not set(names) <= set(options) or len(set(names)) < len(names):
            raise UserError(
                f"{key}=[{','.join(names)}]: expected one or more of {', '.join(options)}, "
                "each once"
            )
    # All networks start from the ONNX graph or its layer names.
    extras = ["onnx"] * (set(formats) != {WEIGHTS}) + [
        extra for extra in ("openvino", "ncnn") if any(name.startswith(extra) for name in formats)
    ]
    libraries = [name for extra in extras for name in LIBRARIES[extra]]
    if absent := [name for name in libraries if find_spec(name) is None]:
        raise UserError(
            f"formats=[{','.join(formats)}] need {', '.join(absent)}: "
            f"pip install 'realsr[{','.join(extras)}]'"
        )


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


def list_exported(folder: Path) -> list[Path]:
    """Return the files in a folder that have names of an export; none if there is no folder.

    A README.md that is no model card of this package is another file.
    """
    from realsr.weights.hub import MODEL_FILE

    stems = (*FORMATS, *(f"onnx_int8_{method}" for method in METHODS))
    names = {stem + suffix for stem in stems for suffix in (".onnx", ".xml", ".bin", ".param")}
    names |= {MODEL_FILE, *OTHERS}
    return sorted(
        path
        for path in folder.glob("*")
        if path.name in names and (path.name != CARD or _is_card(path))
    )


def _is_card(path: Path) -> bool:
    return LIBRARY in path.read_text(encoding="utf-8", errors="replace").splitlines()


def check_output(sources: Sequence[str], output: Path, overwrite: bool) -> None:
    """Raise UserError if an export into a folder would replace other files or its own sources."""
    from realsr.weights.sources import find_weights

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
