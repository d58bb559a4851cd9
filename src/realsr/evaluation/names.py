"""What models are called in tables and file names."""

from collections.abc import Sequence
from pathlib import Path

from realsr.core.errors import UserError

SUFFIXES = (".safetensors", ".pth", ".pt", ".param", ".bin", ".onnx")
# Names of files and folders that many runs have: what is above them tells more.
COMMON = {"generator", "generator_ema", "best", "default", "runs", "checkpoints", "models"}


def check_names(names: Sequence[str], published: Sequence[str]) -> None:
    """Raise UserError where two names are the same model: equal, or paths of one file or folder."""
    seen: dict[str, str] = {}
    for name in names:
        key = name if name in published else str(Path(name).resolve())
        if key in seen:
            raise UserError(f"weights: {seen[key]} and {name} are the same; name each model once")
        seen[key] = name


def shorten_names(names: Sequence[str]) -> dict[str, str]:
    """Return a short name for each: the last parts of a path, as few as tell it from the others.

    `runs/a/generator.safetensors` is `a`, beside `runs/a/best.safetensors`, which is `a/best`.
    """
    parts = {name: _parts(name) for name in names}
    return {name: _shorten(parts[name], [other for n, other in parts.items() if n != name]) or name for name in names}


def _parts(name: str) -> list[str]:
    suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")
    path = Path(name.removesuffix(suffix))
    parts = [part for part in (path.resolve() if ".." in path.parts or not path.name else path).parts if part != "/"]
    return parts[:-1] if suffix and parts[-1:] == ["generator"] and len(parts) > 1 else parts


def _shorten(parts: list[str], others: list[list[str]]) -> str:
    for count in range(1, len(parts) + 1):
        tail = parts[-count:]
        if (tail[0] not in COMMON or count == len(parts)) and all(other[-count:] != tail for other in others):
            return "/".join(tail)
    return ""
