"""Whatever is given in place of weights, the answer is one plain line that names the file."""

import argparse
import bz2
import gzip
import io
import json
import lzma
import pickle
import re
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save as save_safetensors
from torch import nn

from realsr.core.errors import UserError, WeightsError
from realsr.imaging.kernel_shapes import read_kernel
from realsr.inference.model import load_model
from realsr.networks import build_discriminator, build_generator
from realsr.training.loss_terms.perceptual import VGGFeatures
from realsr.weights import load_generator, load_generator_state

SIZE = {"name": "rrdb", "features": 4, "blocks": 1, "growth": 4}
# Names and texts of Python, PyTorch, safetensors and onnxruntime, which tell a user nothing; and bad advice.
FOREIGN = re.compile(
    r"weights_only|Error\b|Exception|Errno|Traceback|codec|unpickl|Pytorch[A-Z]|central directory|load key|EOF|0x|"
    r"header too|Metadata[A-Z]|list index|<class|ONNXRuntime|state_dict for|object has no|unexpected keyword"
)


def pickled(content: object, **options: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def zipped(**files: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as content:
        for name, data in files.items():
            content.writestr(name, data)
    return file.getvalue()


def tarred(mode: str, *names: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as content:  # type: ignore[call-overload]
        for name in names:
            content.addfile(tarfile.TarInfo(name))
    return file.getvalue()


def texts() -> dict[str, str]:
    return {
        "html": "<!DOCTYPE html><html><body>Sign in</body></html>",
        "html_bom": "\ufeff\n<html></html>",
        "pointer": "version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 6692\n",
        "json": '{"error":"Repository not found"}',
        "list": "[1, 2]",
        "xml": '<?xml version="1.0"?><Code>AccessDenied</Code>',
        "sentence": "Invalid username or password.",
        "letter": "e",
        "hello": "hello world",
        "yaml": "a: 1\n",
        "code": "import torch\n",
        "ncnn": "7767517\n1 1\nInput in0 0 1 in0\n",
        "pickle_0": pickle.dumps({"a": 1}, protocol=0).decode(),
    }


def binaries() -> dict[str, bytes]:
    images = {}
    for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp"):
        file = io.BytesIO()
        Image.new("RGB", (9, 7), (200, 100, 50)).save(file, kind)
        images[kind] = file.getvalue()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch prefers newer forms
        script = io.BytesIO()
        torch.jit.save(torch.jit.trace(nn.Conv2d(3, 3, 1), torch.zeros(1, 3, 4, 4)), script)
    noise = np.random.default_rng(0).bytes(5000)
    return images | {
        "empty": b"", "zeros": bytes(5000), "byte": b"\x80", "ff": b"\xff" * 700, "noise": noise,
        "zip": zipped(**{"DPED.pth": noise}), "office": zipped(**{"[Content_Types].xml": b"x"}), "no_files": zipped(),
        "tar": tarred("w", "DPED.pth"), "tar_gz": tarred("w:gz", "DPED.pth"), "gz": gzip.compress(noise),
        "old_torch": tarred("w", "sys_info", "pickle", "storages", "tensors"),
        "bz2": bz2.compress(noise), "xz": lzma.compress(noise), "7z": b"7z\xbc\xaf\x27\x1c\0\4" + noise,
        "rar": b"Rar!\x1a\7\1\0" + noise, "zst": b"\x28\xb5\x2f\xfd" + noise, "pdf": b"%PDF-1.7\n" + noise,
        "mp4": b"\0\0\0 ftypisom" + noise, "elf": b"\x7fELF" + noise, "exe": b"MZ\x90\0" + noise,
        "gguf": b"GGUF" + noise,
        "tflite": b"\x1c\0\0\0TFL3" + noise, "mac": b"\0\5\16\7" + noise, "hdf5": b"\x89HDF\r\n\x1a\n" + noise,
        "script": script.getvalue(),
    }  # fmt: skip


def pickles() -> dict[str, bytes]:
    network = build_generator(SIZE, 2)
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.rand(1, 3, 4, 4)).mean().backward()
    optimiser.step()
    state = dict(network.state_dict())
    contents: dict[str, object] = {
        "module": network, "sequential": nn.Sequential(nn.Conv2d(3, 3, 3)), "optimiser": optimiser.state_dict(),
        "optimiser_of": {"optimizer": optimiser.state_dict(), "epoch": 3}, "nothing": {}, "a_list": [1, 2],
        "a_tensor": torch.zeros(3), "a_number": 3, "a_text": "x",
        "settings": {"state": argparse.Namespace(a=1), **state},
        "numpy": {"weight": np.ones((3, 3))}, "linear": nn.Linear(3, 3).state_dict(),
        "lora": {"a.lora_A.weight": torch.zeros(4, 4), "a.lora_B.weight": torch.zeros(4, 4)},
        "discriminator": build_discriminator({"name": "patchgan", "features": 4, "layers": 3}).state_dict(),
        "lost": {name: value for name, value in state.items() if name != "conv_last.bias"},
        "other_shape": state | {"HRconv.weight": torch.zeros(3, 3, 4, 4)},
        "sparse": {"a": torch.zeros(3, 3).to_sparse()}, "nan": state | {"HRconv.bias": torch.full((4,), torch.nan)},
        "complex": {"a": torch.zeros(3, dtype=torch.complex64)}, "numbers": {1: torch.zeros(3)},
    }  # fmt: skip
    return {name: pickled(content) for name, content in contents.items()}


def damaged() -> dict[str, bytes]:
    state = build_generator(SIZE, 2).state_dict()
    forms = {
        "zip": pickled(state),
        "legacy": pickled(state, _use_new_zipfile_serialization=False),
        "safetensors": save_safetensors(state),
    }
    files = {}
    for name, content in forms.items():
        for share in (0.001, 0.05, 0.5, 0.999):
            files[f"{name}_{share}"] = content[: max(1, int(share * len(content)))]
        files[f"{name}_zeroed"] = bytes(512) + content[512:]
        files[f"{name}_late"] = content[100:]
    header = json.dumps({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 99]}}).encode()
    files["offsets"] = len(header).to_bytes(8, "little") + header + bytes(12)
    return files


def files() -> Iterator[tuple[str, bytes]]:
    yield from ((name, text.encode()) for name, text in texts().items())
    yield from {**binaries(), **pickles(), **damaged()}.items()


LOADERS: dict[str, Callable[[Path], object]] = {
    "model": lambda path: load_model(path, torch.device("cpu"), "fp32"),
    "init": lambda path: load_generator_state(build_generator(SIZE, 2), path),
    "export": load_generator,
    "VGG19": partial(VGGFeatures, "vgg19"),
    "kernel": read_kernel,
}


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".bin", ".param", ".onnx"])
def test_every_odd_file_is_answered_in_one_plain_line(suffix: str, tmp_path: Path) -> None:
    count = 0
    for name, content in files():
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(content)
        for loader, load in LOADERS.items():
            with pytest.raises((UserError, WeightsError)) as error:
                load(path)
            log = str(error.value)
            assert "\n" not in log, (loader, name)
            assert path.stem in log, (loader, name)
            assert len(log) < 700, (loader, name)
            assert not FOREIGN.search(log.replace(str(tmp_path), "")), (loader, name, log)
        count += 1
    assert count >= 60


def test_what_a_changed_file_is_answered_with(tmp_path: Path) -> None:
    """Bytes changed at random: it is read, or refused in one plain line."""
    state = build_generator(SIZE, 2).state_dict()
    rng, path = np.random.default_rng(0), tmp_path / "x.pth"
    for content in (
        pickled(state),
        pickled(state, _use_new_zipfile_serialization=False),
        save_safetensors(state),
    ):
        for _ in range(25):
            changed = np.frombuffer(content, np.uint8).copy()
            changed[rng.integers(0, min(len(changed), 3000), 4)] = rng.integers(0, 256, 4)
            path.write_bytes(changed.tobytes())
            log = ""
            try:
                load_generator(path)
            except UserError as error:
                log = str(error).replace(str(tmp_path), "")
            assert not FOREIGN.search(log), log
            assert "\n" not in log
