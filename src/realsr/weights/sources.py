"""From what a user says, a path or a published model's name, to a file of weights."""

from pathlib import Path

from realsr.core.errors import UserError
from realsr.weights.published import PUBLISHED, find_published

EXPECTED = (
    "expected a run's folder, a file of weights (.safetensors, .pth, .pt, .onnx, or ncnn's .param beside its .bin), or "
    f"a published model: {', '.join(PUBLISHED)}"
)


def find_weights(source: str | Path) -> Path:
    """Return the file of weights that a source means.

    A `str` may be a published model's name, which goes before a file of that name (say `./df2k` for the file); a
    `Path` is always a path. Of a folder it is a run's `generator.safetensors`, else its newest checkpoint, else the
    only `.param`. Raises UserError where there is none, with what to do.
    """
    if isinstance(source, str) and source in PUBLISHED:
        return find_published(source)
    path = Path(source)
    if path.is_dir():
        return _find_in_folder(path)
    if not path.is_file():
        raise UserError(f"{source}: no such file; {EXPECTED}")
    return path


def _find_in_folder(folder: Path) -> Path:
    if (folder / "generator.safetensors").is_file():
        return folder / "generator.safetensors"
    if checkpoints := sorted((folder / "checkpoints").glob("step_*.pt")):
        return checkpoints[-1]
    if len(networks := list(folder.glob("*.param"))) == 1:
        return networks[0]
    if networks := sorted(folder.glob("*.onnx")):
        raise UserError(f"{folder}: has networks of its own; say which: {', '.join(map(str, networks))}")
    raise UserError(
        f"{folder}: has neither generator.safetensors, which a finished training leaves there, nor a checkpoint in "
        f"checkpoints/, nor one ncnn model (.param); {EXPECTED}"
    )
