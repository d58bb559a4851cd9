"""Files of tensors that are not trusted: no code in them is run, and what they declare is checked first."""

import json
import mmap
import re
import shutil
import struct
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from realsr.core.file_kinds import AGAIN, LARGEST_HEADER, STATE_DICT, identify_file, list_pickled_names
from realsr.core.file_names import utf8_path
from realsr.core.memory import limited_memory

LONGEST_NAME = 300
COPIES = 4  # tensors that share memory (tied weights) may together be this many times as large as the file
REASON = 200  # characters of a reason in a message
TENSOR_NAMES = re.compile(r"collections\.|torch\.\w+$|torch\.(_utils|_tensor|storage|serialization|nn\.parameter)\.")
"""What a pickle of tensors and dictionaries refers to."""


class TensorFileError(Exception):
    """A file that cannot be read as tensors; the message gives the reason, and the caller names the file."""


@dataclass(frozen=True)
class TensorFile:
    """What a file of tensors holds; of safetensors, `metadata` is what it tells about itself."""

    content: object
    metadata: dict[str, str] = field(default_factory=dict)


def read_tensors(path: Path) -> TensorFile:
    """Return what a PyTorch or a safetensors file holds, whatever its name, see `read_pickle` and `read_safetensors`.

    Raises TensorFileError that tells what the file is where it is something else, cannot be read or is damaged.
    """
    try:
        kind = identify_file(path)
        if kind.format == "safetensors":
            return read_safetensors(path)
        if kind.format == "torch":
            return TensorFile(read_pickle(path))
    except OSError as error:
        raise TensorFileError(f"cannot be read ({error.strerror or 'the disk fails'})") from error
    raise TensorFileError(kind.refuse("a file of weights"))


def read_pickle(path: Path) -> object:
    """Return what `torch.save` wrote, on the CPU; its tensors are not checked yet, see `check_tensors`.

    Raises TensorFileError where the file is damaged, holds Python objects, or declares more than it holds.
    """
    size = path.stat().st_size
    try:
        in_zip = _check_zip(path, size)
        _refuse_bytearrays(path)
        with ExitStack() as cleanup:
            if path.suffix == ".safetensors":  # by which torch.load takes it for one
                folder = cleanup.enter_context(TemporaryDirectory(prefix="realsr_", ignore_cleanup_errors=True))
                path = Path(shutil.copy(path, Path(folder) / "weights.pth"))
            cleanup.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")  # of newer pickles and older tensors, which are read all the same
            cleanup.enter_context(limited_memory(size))
            file = cleanup.enter_context(utf8_path(path))
            # Mapped, a tensor that declares more than its record has cannot read beyond it.
            return torch.load(file, map_location="cpu", weights_only=True, mmap=in_zip)
    except (TensorFileError, OSError):
        raise
    except Exception as error:  # torch raises many kinds for a broken file
        raise TensorFileError(_explain_pickle(path)) from error


def read_safetensors(path: Path) -> TensorFile:
    """Return the tensors of a safetensors file by name, and its metadata. Raises TensorFileError where damaged."""
    try:
        with limited_memory(path.stat().st_size), utf8_path(path) as file, safe_open(file, framework="pt") as content:
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 (not a dict)
            return TensorFile(tensors, content.metadata() or {})
    except OSError:
        raise
    except Exception as error:  # safetensors' own, and torch's for sizes that it cannot have
        raise TensorFileError(_explain_safetensors(path)) from error


def read_safetensors_metadata(path: Path) -> dict[str, str]:
    """Return what a safetensors file tells about itself. Raises TensorFileError where it is damaged."""
    try:
        with utf8_path(path) as file, safe_open(file, framework="pt") as content:
            return content.metadata() or {}
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise TensorFileError(_explain_safetensors(path)) from error


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
    """Return the first line of the message of an error of this package, cut to a length that a line holds.

    Of an error of another library it is what such an error means here: sizes that it cannot have.
    """
    if isinstance(error, RuntimeError | OverflowError | MemoryError):
        return "its sizes are those of no network"
    reason = (str(error).strip().splitlines() or ["without a reason"])[0]
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


def _explain_safetensors(path: Path) -> str:
    """Return what is wrong with a safetensors file that its library does not read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        header = file.read(min(length, LARGEST_HEADER))
    if len(header) < length:
        return f"is cut off: it ends inside its header, after {size} bytes. {AGAIN}"
    try:
        tensors = [value for name, value in json.loads(header).items() if name != "__metadata__"]
        end = 8 + length + max((value["data_offsets"][1] for value in tensors), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return f"has a damaged header. {AGAIN}"
    if end > size:
        return f"is cut off: it has {size} of {end} bytes. {AGAIN}"
    return f"is damaged: its header and its content do not fit. {AGAIN}"


def _explain_pickle(path: Path) -> str:
    """Return why PyTorch does not read a file: Python objects in it, or damage."""
    objects = [name for name in list_pickled_names(path) or [] if not TENSOR_NAMES.match(name)]
    if not objects:
        return f"is cut off or damaged: PyTorch cannot read it. {AGAIN}"
    code = objects[0][:REASON] if objects[0].isprintable() else "a name that is no text"
    whole = any(name.startswith("torch.nn.modules.") for name in objects)
    what = f"is a whole network with its code ({code})" if whole else f"holds Python objects beside tensors ({code})"
    return f"{what}. Reading it could run code, so it is refused. {STATE_DICT}"


def _check_zip(path: Path, size: int) -> bool:
    """Return whether a file is a zip.

    Raises TensorFileError where its records are compressed, larger than it, or some are not what was written.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return False
        with zipfile.ZipFile(file) as content:
            records = content.infolist()
            declared = sum(record.file_size for record in records)
            if declared > size or any(record.compress_type != zipfile.ZIP_STORED for record in records):
                raise TensorFileError(
                    f"its records are compressed or declare more than there is ({declared} bytes, the file has "
                    f"{size}), which torch.save does not do; save it again"
                )
            # torch.save can leave checksums out; then none fits.
            wrong = [record.filename for record in records if not _is_intact(content, record)]
    if 0 < len(wrong) < len(records):
        raise TensorFileError(
            f"is damaged: {len(wrong)} of its {len(records)} parts do not have the checksum that was stored. {AGAIN}"
        )
    return True


def _is_intact(content: zipfile.ZipFile, record: zipfile.ZipInfo) -> bool:
    try:
        with content.open(record) as part:
            while part.read(2**20):
                pass
    except zipfile.BadZipFile:
        return False
    return True


def _refuse_bytearrays(path: Path) -> None:
    """Raise TensorFileError where a pickle may make a bytearray, whose length the file states and need not hold."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(b"\nbytearray\n") >= 0:
            raise TensorFileError("holds a bytearray beside tensors; expected a state dict, saved by torch.save")
