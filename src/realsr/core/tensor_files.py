"""Files of tensors that are not trusted: no code in them is run. And what their tensors are of, by names and shapes."""

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

from realsr.core.file_kinds import AGAIN, STATE_DICT, identify_file
from realsr.core.file_names import utf8_path
from realsr.core.memory import limited_memory

LONGEST_NAME = 300
COPIES = 4  # tensors that share memory (tied weights) may together be this many times as large as the file
REASON = 200  # characters of a reason in a message
GENERATOR = "Give a generator's weights"


class TensorFileError(Exception):
    """A file that cannot be read as tensors; the message gives the reason, and the caller names the file."""


def read_tensors(path: Path) -> tuple[object, dict[str, str]]:
    """Return what a PyTorch or safetensors file holds, whatever its name, and a safetensors file's metadata.

    The tensors are on the CPU and not checked yet, see `check_tensors`. Raises TensorFileError where the file is of
    another kind, cannot be read, is damaged, holds Python objects, or declares more than it holds.
    """
    try:
        kind = identify_file(path)
        if kind.format == "safetensors":
            return _read_safetensors(path)
        if kind.format == "torch":
            return _read_pickle(path), {}
    except OSError as error:
        raise TensorFileError(f"cannot be read ({error.strerror or 'the disk fails'})") from error
    raise TensorFileError(kind.refuse("a file of weights"))


def _read_pickle(path: Path) -> object:
    size = path.stat().st_size
    try:
        _check_zip(path, size)
        with (
            TemporaryDirectory(prefix="realsr_") as folder,
            limited_memory(size),
            warnings.catch_warnings(),
        ):
            # torch.load takes a file by its suffix for one of safetensors, and opens UTF-8 names only.
            link = Path(folder, "weights.pth")
            link.symlink_to(path.absolute())
            warnings.simplefilter(
                "ignore"
            )  # of newer pickles and older tensors, which are read all the same
            # Mapped, a tensor that declares more than its record has cannot read beyond the file.
            return torch.load(
                link, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except (TensorFileError, OSError):
        raise
    except Exception as error:  # torch raises many kinds for a broken file
        raise TensorFileError(_explain_pickle(error)) from error


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    size = path.stat().st_size
    try:
        with (
            limited_memory(size),
            utf8_path(path) as file,
            safe_open(file, framework="pt") as content,
        ):
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 (not a dict)
            return tensors, content.metadata() or {}
    except OSError:
        raise
    except Exception as error:  # safetensors' own, and torch's for sizes that it cannot have
        raise TensorFileError(
            f"is cut off or damaged: its header does not fit its {size} bytes. {AGAIN}"
        ) from error


def check_tensors(state: Mapping[Any, object], size: int) -> dict[str, Tensor]:
    """Return copies of a state dict's tensors: plain, dense and finite, on the CPU.

    size: of the file in bytes; the tensors of a state dict cannot be much larger.

    Raises TensorFileError for names that are not printable text, for tensors that are of another kind, declare more
    values than they hold, or hold values that are not finite.
    """
    tensors = dict[str, Tensor]()
    for name, value in state.items():
        if not isinstance(name, str) or len(name) > LONGEST_NAME or not name.isprintable():
            raise TensorFileError(
                f"a tensor's name (a {type(name).__name__}) is not plain text of at most {LONGEST_NAME} characters; "
                "expected a state dict as torch.save writes it"
            )
        if not isinstance(value, Tensor):
            raise TensorFileError(f"{name} is a {type(value).__name__}; expected a tensor")
        tensors[name] = _check_kind(name, value)
    total = sum(value.numel() * value.element_size() for value in tensors.values())
    if total > COPIES * size:
        raise TensorFileError(
            f"its tensors declare {total} bytes, but the file has {size}; copy or download it again"
        )
    copies = {name: value.clone() for name, value in tensors.items()}
    check_finite(copies)
    return copies


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Raise TensorFileError that names the tensors which hold NaN or infinity, the first three of them."""
    broken = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise TensorFileError(
            f"{len(broken)} of its {len(state)} tensors hold values that are not finite (NaN or infinity): "
            f"{', '.join(broken[:3])}{', …' if broken[3:] else ''}; the training diverged or the file is damaged: use "
            "an earlier checkpoint, or download it again"
        )


def tell_reason(error: BaseException) -> str:
    """Return the first line, shortened, of an error of this package; of torch's errors, what they mean here."""
    if isinstance(error, RuntimeError | OverflowError | MemoryError):
        return "its sizes are those of no network"
    reason = (str(error).strip().splitlines() or ["without a reason"])[0]
    reason = "".join(letter if letter.isprintable() else " " for letter in reason)
    return reason if len(reason) <= REASON else f"{reason[:REASON]} …"


def _check_kind(name: str, value: Tensor) -> Tensor:
    """Return the tensor without what a pickle may have attached to it."""
    value = Tensor.detach(value)
    is_dense = (
        value.device.type == "cpu" and value.layout is torch.strided and not value.is_quantized
    )
    if not is_dense or value.is_complex() or type(value) is not Tensor:
        raise TensorFileError(
            f"the tensor {name} is {value.layout}, {value.dtype}, on {value.device}; expected a dense tensor of real "
            "numbers on the CPU"
        )
    declared, available = value.numel() * value.element_size(), value.untyped_storage().nbytes()
    if declared > available:
        raise TensorFileError(
            f"the tensor {name} declares {declared} bytes and holds {available}: download the file again"
        )
    return value


def _explain_pickle(error: Exception) -> str:
    """Return why PyTorch does not read a file, by its error: Python objects in the file, or damage."""
    name = re.search(r"GLOBAL ([\w.]+)", str(error))
    if name is None:
        return f"is damaged or cut off, or holds more than tensors: PyTorch cannot read it. {AGAIN}. {STATE_DICT}"
    return (
        f"holds Python objects beside tensors ({name[1][:REASON]}), or is a whole network. Reading it could run code, "
        f"so it is refused. {STATE_DICT}"
    )


def _check_zip(path: Path, size: int) -> None:
    """Raise TensorFileError where a zip's records are compressed, larger than the file, or not what was written."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as content:
        records = content.infolist()
        declared = sum(record.file_size for record in records)
        if declared > size or any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise TensorFileError(
                f"its records are compressed or declare more than there is ({declared} bytes, the file has {size}), "
                "which torch.save does not do; save it again"
            )
        # torch.save can leave checksums out, then all are 0; torch.load does not compare them.
        if any(record.CRC for record in records) and (name := content.testzip()) is not None:
            raise TensorFileError(
                f"is damaged: its part {name[:REASON]!r} does not have its checksum. {AGAIN}"
            )


def is_counter(value: object) -> bool:
    """Return whether a tensor is a count and no weight: a single whole number or truth value.

    Such are `n_averaged`, `num_batches_tracked` and `step`.
    """
    return (
        isinstance(value, Tensor)
        and value.ndim == 0
        and not value.is_floating_point()
        and not value.is_complex()
    )


def strip_prefixes(state: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Yield a state dict, then again without the first word that all its names share (`module.`, `_orig_mod.`), etc.

    Counters may have other names.
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
    """Return what tensors look like and what to do, as a sentence for a message; empty where unknown."""
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    layers = [value.shape for value in tensors.values() if value.ndim >= 2]
    if any("lora_" in name or ".lora" in name for name in tensors):
        return "It looks like a LoRA, which holds changes to another network. Give the weights of a whole network"
    if any(name.lower().endswith(("rdb1.conv1.weight", "rdb1.conv1.0.weight")) for name in tensors):
        return "It looks like an RRDB generator"
    reads_rgb = any(len(shape) == 4 and shape[1] in (3, 6) for shape in layers)
    if (
        reads_rgb
        and any(shape[0] == 1 for shape in layers)
        and not any(shape[0] == 3 for shape in layers)
    ):
        return f"It looks like a discriminator, which gives one value for an image. {GENERATOR} (netG, not netD)"
    if reads_rgb and (classes := [shape[0] for shape in layers if len(shape) == 2]):
        return (
            f"It looks like a classifier of {classes[-1]} classes (as VGG or ResNet). {GENERATOR}"
        )
    return ""
