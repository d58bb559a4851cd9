"""Reading of untrusted tensor files without running code, and guesses about their network."""

import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from realsr.core.errors import first_line
from realsr.core.file_kinds import COPY_AGAIN, STATE_DICT, identify_file
from realsr.core.file_names import utf8_path
from realsr.core.machine import limited_memory

MAX_NAME = 300  # characters of a tensor's name
MAX_SIZE_RATIO = 4  # of tensors to file; above 1 if tensors share memory (tied weights)
MAX_REASON = 200  # characters of a reason in a message
GENERATOR = "Use the weights of a generator"


class TensorFileError(Exception):
    """A file without readable tensors; the message gives the reason, the caller the file."""


def read_tensors(path: Path) -> tuple[object, dict[str, str]]:
    """Return the content of a PyTorch or safetensors file, and the metadata of a safetensors file.

    The file name does not matter. The tensors are on the CPU and not checked, see `check_tensors`.

    Raises TensorFileError if the file is of another kind, unreadable or damaged, holds Python objects,
    or declares more data than it holds.
    """
    try:
        kind = identify_file(path)
        if kind.format == "safetensors":
            return _read_safetensors(path)
        if kind.format == "torch":
            return _read_pickle(path), {}
    except OSError as error:
        raise TensorFileError(f"cannot be read ({error.strerror or 'disk error'})") from error
    raise TensorFileError(kind.refuse("a weights file"))


def _read_pickle(path: Path) -> object:
    size = path.stat().st_size
    try:
        _check_zip(path, size)
        with (
            TemporaryDirectory(prefix="realsr_") as folder,
            limited_memory(size),
            # Warnings about new pickle formats and old tensor types, which are still read.
            warnings.catch_warnings(action="ignore"),
        ):
            # torch.load detects safetensors by the suffix, and opens UTF-8 names only.
            link = Path(folder, "weights.pth")
            link.symlink_to(path.absolute())
            # With mmap, a tensor that declares too much data cannot read beyond the file.
            return torch.load(
                link, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except (TensorFileError, OSError):
        raise
    except Exception as error:  # torch raises many types of errors for a damaged file
        raise TensorFileError(_explain_pickle(error)) from error


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    size = path.stat().st_size
    try:
        with (
            limited_memory(size),
            utf8_path(path) as file,
            safe_open(file, framework="pt") as content,
        ):
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
            return tensors, content.metadata() or {}
    except OSError:
        raise
    except Exception as error:  # errors of safetensors, and of torch for impossible sizes
        raise TensorFileError(
            f"is truncated or damaged: its header does not fit its {size} bytes. {COPY_AGAIN}"
        ) from error


def check_tensors(state: Mapping[Any, object], size: int) -> dict[str, Tensor]:
    """Return copies of the tensors of a state dict, checked to be plain, dense and finite.

    size: the file size in bytes, which the tensors cannot exceed by much.

    Raises TensorFileError for a name that is not printable text, and for a tensor of another kind,
    with more declared than stored values, or with values that are not finite.
    """
    tensors = dict[str, Tensor]()
    for name, value in state.items():
        if not isinstance(name, str) or len(name) > MAX_NAME or not name.isprintable():
            raise TensorFileError(
                f"a tensor's name (a {type(name).__name__}) is not plain text of at most "
                f"{MAX_NAME} characters; expected a state dict as written by torch.save"
            )
        if not isinstance(value, Tensor):
            raise TensorFileError(f"{name} is a {type(value).__name__}; expected a tensor")
        tensors[name] = _check_kind(name, value)
    total = sum(value.numel() * value.element_size() for value in tensors.values())
    if total > MAX_SIZE_RATIO * size:
        raise TensorFileError(
            f"its tensors declare {total} bytes, but the file has {size}: download or copy it again"
        )
    copies = {name: value.clone() for name, value in tensors.items()}
    check_finite(copies)
    return copies


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Raise TensorFileError if tensors hold NaN or infinity; the message names the first three."""
    broken = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        names = f"{', '.join(broken[:3])}{', …' if broken[3:] else ''}"
        raise TensorFileError(
            f"{len(broken)} of its {len(state)} tensors hold values that are not finite (NaN or "
            f"infinity): {names}; the training diverged or the file is damaged: use an earlier "
            "checkpoint, or download it again"
        )


def tell_reason(error: BaseException) -> str:
    """Return the shortened first line of an error; errors of torch mean that sizes are invalid."""
    if isinstance(error, RuntimeError | OverflowError | MemoryError):
        return "its sizes do not fit any network"
    reason = "".join(letter if letter.isprintable() else " " for letter in first_line(error))
    return reason if len(reason) <= MAX_REASON else f"{reason[:MAX_REASON]} …"


def _check_kind(name: str, value: Tensor) -> Tensor:
    """Return the tensor without the hooks and attributes that a pickle may attach."""
    value = Tensor.detach(value)
    is_dense = (
        value.device.type == "cpu" and value.layout is torch.strided and not value.is_quantized
    )
    if not is_dense or value.is_complex() or type(value) is not Tensor:
        raise TensorFileError(
            f"the tensor {name} is {value.layout}, {value.dtype}, on {value.device}; "
            "expected a dense tensor of real numbers on the CPU"
        )
    size, available = value.numel() * value.element_size(), value.untyped_storage().nbytes()
    if size > available:
        raise TensorFileError(
            f"the tensor {name} declares {size} bytes and holds {available}: "
            "download the file again"
        )
    return value


def _explain_pickle(error: Exception) -> str:
    """Return the reason for an error of torch.load: Python objects in the file, or damage."""
    name = re.search(r"GLOBAL ([\w.]+)", str(error))
    if name is None:
        return (
            "is damaged, truncated, or holds more than tensors: PyTorch cannot read it. "
            f"{COPY_AGAIN}. {STATE_DICT}"
        )
    return (
        f"holds Python objects besides tensors ({name[1][:MAX_REASON]}), or is a whole network. "
        f"Reading it could run code, so it is refused. {STATE_DICT}"
    )


def _check_zip(path: Path, size: int) -> None:
    """Raise TensorFileError if a zip's records are compressed, larger than the file, or damaged."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as content:
        records = content.infolist()
        total = sum(record.file_size for record in records)
        if total > size or any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise TensorFileError(
                f"its records are compressed or too large ({total} bytes, the file has {size}), "
                "so torch.save did not write it: save it again"
            )
        # torch.save can omit checksums, which are then all 0; torch.load does not check them.
        if any(record.CRC for record in records) and (name := content.testzip()) is not None:
            raise TensorFileError(
                f"is damaged: the checksum of its part {name[:MAX_REASON]!r} does not match. {COPY_AGAIN}"
            )


def is_counter(value: object) -> bool:
    """Return whether a tensor is a counter, not a weight: a single integer or boolean.

    Examples are `n_averaged`, `num_batches_tracked` and `step`.
    """
    return (
        isinstance(value, Tensor)
        and value.ndim == 0
        and not value.is_floating_point()
        and not value.is_complex()
    )


def strip_prefixes(state: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Yield a state dict, then the same without its common prefix (`module.`, `_orig_mod.`), etc.

    Counters may lack the prefix.
    """
    state = dict(state)
    yield state
    while True:
        words = {
            name.partition(".")[0] if "." in name else ""
            for name, value in state.items()
            if not is_counter(value)
        }
        if len(words) != 1 or "" in words:
            return
        prefix = f"{words.pop()}."
        state = {name.removeprefix(prefix): value for name, value in state.items()}
        yield state


def describe_tensors(state: Mapping[Any, object]) -> str:
    """Return a guess about the network of tensors, with advice for a message; empty if unknown."""
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    layers = [value.shape for value in tensors.values() if value.ndim >= 2]
    if any("lora_" in name or ".lora" in name for name in tensors):
        return (
            "It looks like a LoRA, a change of another network. Use the weights of a whole network"
        )
    if any(name.lower().endswith(("rdb1.conv1.weight", "rdb1.conv1.0.weight")) for name in tensors):
        return "It looks like an RRDB generator"
    reads_rgb = any(len(shape) == 4 and shape[1] in (3, 6) for shape in layers)
    outputs = {shape[0] for shape in layers}
    if reads_rgb and 1 in outputs and 3 not in outputs:
        return f"It looks like a discriminator. {GENERATOR} (netG, not netD)"
    if reads_rgb and (classes := [shape[0] for shape in layers if len(shape) == 2]):
        kind = f"a classifier with {classes[-1]} classes (e.g. VGG or ResNet)"
        return f"It looks like {kind}. {GENERATOR}"
    return ""
