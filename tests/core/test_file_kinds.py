"""What a file is, is told by its content."""

import gzip
import io
import pickle
import re
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save as save_safetensors
from scipy.io import savemat
from torch import nn

from realsr.core.file_kinds import identify_file
from realsr.core.tensor_files import TensorFileError, read_tensors

STATE = {"conv.weight": torch.arange(108.0).reshape(4, 3, 3, 3)}
HTML = "<!DOCTYPE html>\n<html><head><title>DPED.pth</title></head><body>Sign in</body></html>"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 66929876\n"


def pickled(content: object, **options: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(file, kind)
    return file.getvalue()


def zipped(**files: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as content:
        for name, data in files.items():
            content.writestr(name, data)
    return file.getvalue()


def tarred(*names: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as content:
        for name in names:
            content.addfile(tarfile.TarInfo(name))
    return file.getvalue()


def numpy_array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


def matlab() -> bytes:
    file = io.BytesIO()
    savemat(file, {"Kernel": np.ones((5, 5))})
    return file.getvalue()


def script() -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch prefers newer forms
        torch.jit.save(torch.jit.trace(nn.Conv2d(3, 3, 1), torch.zeros(1, 3, 4, 4)), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: pickled(STATE), "torch"),
        (lambda: pickled(STATE, _use_new_zipfile_serialization=False), "torch"),
        (lambda: pickle.dumps({"a": 1}, protocol=4), "torch"),
        (lambda: save_safetensors(STATE), "safetensors"),
        (lambda: b"7767517\n2 2\nInput in0 0 1 in0\n", "ncnn"),
        (lambda: b"\xef\xbb\xbf7767517\r\n2 2\r\n", "ncnn"),
        (matlab, "mat"),
        (lambda: b"\x08\x08\x12\x07pytorch:\x10", "onnx"),
    ],
)
def test_formats_are_told_without_a_suffix(
    make: Callable[[], bytes], expected: str, tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(make())
    assert identify_file(tmp_path / "x").format == expected


@pytest.mark.parametrize(
    ("make", "name", "advice"),
    [
        (lambda: HTML, "a web page", "/resolve/ on Hugging Face"),
        (lambda: f"\ufeff\n<!-- saved -->\n{HTML.upper()}", "a web page", "raw"),
        (lambda: HTML.encode("utf-16"), "a web page", "download"),
        (lambda: POINTER, "a Git LFS pointer for 66.9 MB", "git lfs pull"),
        (lambda: POINTER.replace("\n", "\r\n"), "a Git LFS pointer for 66.9 MB", "git lfs pull"),
        (
            lambda: '{"error":"Repository not found"}',
            'a text .*"{"error":"Repository not found"}"',
            "download",
        ),
        (lambda: '<?xml version="1.0"?><Error/>', "a text", "download"),
        (
            lambda: '<?xml version="1.0"?>\n<net name="a" version="11">',
            "an OpenVINO network",
            "weights",
        ),
        (
            lambda: "Invalid username or password.\n",
            'a text .*"Invalid username or password."',
            "download",
        ),
        (lambda: "café ".encode("latin-1") * 9, "a text", "download"),
        (lambda: b"", "empty", "again"),
        (lambda: bytes(9000), "damaged: it begins with zeros", "again"),
        (lambda: np.random.default_rng(0).bytes(9000), "damaged or of an unknown kind", "again"),
        (lambda: zipped(**{"a/DPED.pth": b"x", "README": b"x"}), "a zip archive", "Unpack"),
        (lambda: tarred("DPED.pth"), "a tar archive", "Unpack"),
        (lambda: gzip.compress(b"x"), "a gzip archive", "Unpack"),
        (lambda: b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive", "Unpack"),
        (script, "a TorchScript program", "state_dict"),
        (lambda: zipped(**{"x/archive_format": b"pt2"}), "a program of torch.export", "state_dict"),
        (lambda: zipped(**{"a.npy": b"x"}), "a file of NumPy arrays", ""),
        (lambda: pickled(STATE)[:-1000], "truncated or damaged", "again"),
        (numpy_array, "a NumPy array", ""),
        (lambda: picture("PNG"), "an image", ""),
        (lambda: picture("JPEG"), "an image", ""),
        (lambda: picture("WEBP"), "an image", ""),
        (lambda: picture("BMP"), "an image", ""),
        (lambda: b"8BPS\0\1\0\0", "an image", ""),
        (lambda: b"II+\0\x08\0\0\0", "an image", ""),
        (lambda: b"P5 is the fifth point", "a text", ""),
        (lambda: b"\0\5\x16\7\0\2\0\0Mac OS X", "a macOS metadata file", "without ._"),
        (lambda: b"\xdd\x85\x76\0\1\2", "a binary ncnn .param file", "text form"),
    ],
)
def test_what_holds_no_weights_is_named_with_what_to_do(
    make: Callable[[], bytes | str], name: str, advice: str, tmp_path: Path
) -> None:
    content = make()
    (tmp_path / "x.pth").write_bytes(content.encode() if isinstance(content, str) else content)
    kind = identify_file(tmp_path / "x.pth")
    assert kind.format == ""
    assert re.match(name, kind.name)
    assert advice in kind.advice
    assert "weights_only" not in kind.refuse("a file of weights")


def test_a_damaged_safetensors_file_is_refused(tmp_path: Path) -> None:
    whole = save_safetensors(STATE)
    for content in (whole[:40], whole[:-1], whole[:8] + b"{{" + whole[10:], whole + b"more"):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(
            TensorFileError,
            match=f"^is truncated or damaged: .* its {len(content)} bytes. Download",
        ):
            read_tensors(tmp_path / "x")


class Touch:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self._path,)


@pytest.mark.parametrize("new", [True, False])
def test_an_object_in_a_pickle_is_named_and_nothing_is_run(new: bool, tmp_path: Path) -> None:
    path, target = tmp_path / "x.pth", tmp_path / "ran"
    path.write_bytes(pickled({"a": Touch(target), **STATE}, _use_new_zipfile_serialization=new))
    with pytest.raises(TensorFileError, match=r"^holds Python objects besides tensors \([\w.]+\)"):
        read_tensors(path)
    for content in (pickle.dumps({"a": Touch(target)}, protocol=4), b"\x80\x02broken"):
        path.write_bytes(content)
        with pytest.raises(
            TensorFileError, match=r"^is damaged, truncated, or holds more than tensors"
        ):
            read_tensors(path)
    assert not target.exists()
