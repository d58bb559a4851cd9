"""Files of tensors that are not trusted: no code in them is run, and what they declare is checked first."""

import mmap
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from realsr.core.file_names import utf8_path
from realsr.limits import limited_memory

LONGEST_NAME = 300
COPIES = 4  # tensors that share memory (tied weights) may together be this many times as large as the file
REASON = 200  # characters of a library's reason in a message


class TensorFileError(Exception):
    """A file that cannot be read as tensors; the message gives the reason, and the caller names the file."""


def read_pickle(path: Path) -> object:
    """Return what `torch.save` wrote, on the CPU; its tensors are not checked yet, see `check_tensors`.

    Raises TensorFileError where the file is empty, damaged, holds Python objects, or declares more than it holds.
    """
    size = path.stat().st_size
    if size == 0:
        raise TensorFileError("is empty (0 bytes); copy or download it again")
    try:
        in_zip = _check_zip(path, size)
        _refuse_bytearrays(path)
        with limited_memory(size), utf8_path(path) as file:
            # Mapped, a tensor that declares more than its record has cannot read beyond it.
            return torch.load(file, map_location="cpu", weights_only=True, mmap=in_zip)
    except (TensorFileError, OSError):
        raise
    except pickle.UnpicklingError as error:
        objects = re.search(r"[Uu]nsupported (?:\w+: )?(?:GLOBAL )?([\w.]+\w)", str(error))
        what = f"Python objects ({objects[1][:REASON]})" if objects else "something"
        raise TensorFileError(
            f"holds {what} beside tensors, or is damaged; reading that could run code, so it is refused. "
            "Expected a state dict, tensor by name, saved by torch.save"
        ) from error
    except Exception as error:  # torch raises many kinds for a broken file
        raise TensorFileError(f"damaged, or no file of weights ({tell_reason(error)})") from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a `.safetensors` by name. Raises TensorFileError where it is damaged."""
    try:
        with limited_memory(path.stat().st_size), utf8_path(path) as file, safe_open(file, framework="pt") as content:
            return {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 (not a dict)
    except OSError:
        raise
    except Exception as error:  # safetensors' own, and torch's for sizes that it cannot have
        raise TensorFileError(f"damaged, or no file of weights ({tell_reason(error)})") from error


def read_safetensors_metadata(path: Path) -> dict[str, str]:
    """Return what a `.safetensors` tells about itself. Raises TensorFileError where it is damaged."""
    try:
        with utf8_path(path) as file, safe_open(file, framework="pt") as content:
            return content.metadata() or {}
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise TensorFileError(f"damaged, or no file of weights ({tell_reason(error)})") from error


def check_tensors(state: Mapping[Any, object], size: int) -> dict[str, Tensor]:
    """Return copies of a state dict's tensors: plain, dense and finite, on the CPU.

    size: of the file in bytes; the tensors of a state dict cannot be much larger.

    Raises TensorFileError for names that are not printable text, for tensors that are of another kind, declare more
    values than they hold, or hold values that are not finite.
    """
    tensors = dict[str, Tensor]()
    for name, value in state.items():
        if not isinstance(name, str) or len(name) > LONGEST_NAME or not name.isprintable():
            what = f"{len(name)} characters" if isinstance(name, str) else f"type {type(name).__name__}"
            raise TensorFileError(
                f"a tensor has a name that is not plain text of at most {LONGEST_NAME} characters ({what}); expected "
                "a state dict as torch.save writes it"
            )
        if not isinstance(value, Tensor):
            raise TensorFileError(f"{name} is a {type(value).__name__}; expected a tensor")
        tensors[name] = _check_kind(name, value)
    total = sum(value.numel() * value.element_size() for value in tensors.values())
    if total > COPIES * size:
        raise TensorFileError(f"its tensors declare {total} bytes, but the file has {size}; copy or download it again")
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
    """Return the first line of an error's message, cut to a length that a line holds."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[0] if lines and " " in lines[0] else repr(error)  # a KeyError has its key alone
    reason = "".join(letter if letter.isprintable() else " " for letter in reason)
    return reason if len(reason) <= REASON else f"{reason[:REASON]} …"


def _check_kind(name: str, value: Tensor) -> Tensor:
    """Return the tensor without what a pickle may have attached to it."""
    value = Tensor.detach(value)
    kinds = {
        f"on the device {value.device}": value.device.type != "cpu",
        f"of the layout {value.layout}": value.layout is not torch.strided,
        "quantised": value.is_quantized,
        "complex": value.is_complex(),
        f"of the type {type(value).__name__}": type(value) is not Tensor,
    }
    if wrong := [kind for kind, holds in kinds.items() if holds]:
        raise TensorFileError(f"the tensor {name} is {wrong[0]}; expected a dense tensor of real numbers on the CPU")
    declared, held = value.numel() * value.element_size(), value.untyped_storage().nbytes()
    if declared > held:
        raise TensorFileError(f"the tensor {name} declares {declared} bytes and holds {held}: download the file again")
    return value


def _check_zip(path: Path, size: int) -> bool:
    """Return whether a file is a zip. Raises TensorFileError where its records are compressed, or larger than it."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return False
        with zipfile.ZipFile(file) as content:
            records = content.infolist()
    declared = sum(record.file_size for record in records)
    if declared > size or any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise TensorFileError(
            f"its records are compressed or declare more than there is ({declared} bytes, the file has {size}), which "
            "torch.save does not do; save it again"
        )
    return True


def _refuse_bytearrays(path: Path) -> None:
    """Raise TensorFileError where a pickle may make a bytearray, whose length the file states and need not hold."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(b"\nbytearray\n") >= 0:
            raise TensorFileError("holds a bytearray beside tensors; expected a state dict, saved by torch.save")
