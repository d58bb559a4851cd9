import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_generator import UNSEEN, enlarge, random_lr, tiny_generator
from torch import Tensor, nn

from realsr.core.errors import UserError
from realsr.deployment import measure
from realsr.deployment.measure import open_file
from realsr.deployment.network_files import write_ncnn
from realsr.weights import load_generator

pytest.importorskip("ncnn", reason="ncnn is not installed (extra ncnn)")
pnnx = pytest.importorskip("pnnx", reason="pnnx is not installed (extra ncnn)")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=[2, 4])
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, nn.Module]:
    """A file, and the network whose convolutions have weights rounded to fp16, as the file holds them."""
    path = tmp_path_factory.mktemp("a folder") / "ncnn.param"
    network = tiny_generator(request.param).network
    write_ncnn(network, path)
    rounded = copy.deepcopy(network)
    for conv in (module for module in rounded.modules() if isinstance(module, nn.Conv2d)):
        half = conv.weight.half().float()
        conv.weight.data = half * (half.abs() >= 2**-14)  # pnnx leaves out fp16's subnormal numbers
    return path, rounded


@pytest.mark.parametrize("size", UNSEEN)
def test_ncnn_computes_the_network(size: tuple[int, int], made: tuple[Path, nn.Module]) -> None:
    path, rounded = made
    lr = random_lr(size)
    result = open_file(path, 1)(lr)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, enlarge(rounded, lr), atol=1e-5)


def test_our_reader_takes_the_file(made: tuple[Path, nn.Module]) -> None:
    path, rounded = made
    network, scale = load_generator(path)
    assert scale == rounded.scale
    read, wanted = network.state_dict(), rounded.state_dict()
    assert read.keys() == wanted.keys()
    assert all(torch.equal(read[name], value) for name, value in wanted.items())


def test_only_two_files_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    write_ncnn(tiny_generator().network, Path("out/x.param"))
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert found == ["out", "out/x.bin", "out/x.param"]


def test_another_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 27, 5, padding=2), nn.PReLU(27), nn.PixelShuffle(3)).eval()
    write_ncnn(network, tmp_path / "x.param")
    lr = random_lr((9, 11))
    np.testing.assert_allclose(
        open_file(tmp_path / "x.param", 1)(lr), enlarge(network, lr), atol=1e-3
    )


class Refusing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("not today")


class Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft2(x).real


def test_what_cannot_be_expressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.param"
    with pytest.raises(UserError, match=r"torch cannot trace the generator for pnnx \(not today\)"):
        write_ncnn(Refusing(), path)
    write_ncnn(Unknown(), path)  # pnnx passes on what it has no layer for
    with pytest.raises(UserError, match="has layers unknown to ncnn"):
        open_file(path, 1)
    program = tmp_path / "pnnx"
    program.write_text("#!/bin/sh\necho ready >&2\necho 'no such layer' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(pnnx, "EXEC_PATH", str(program))
    with pytest.raises(
        UserError, match=r"pnnx cannot express the generator \(exit code 3: no such layer\)"
    ):
        write_ncnn(tiny_generator().network, tmp_path / "y.param")
    monkeypatch.setattr(pnnx, "EXEC_PATH", str(tmp_path / "absent"))
    with pytest.raises(UserError, match="pnnx cannot be run"):
        write_ncnn(tiny_generator().network, tmp_path / "y.param")
    assert not (tmp_path / "y.param").exists()


@pytest.mark.parametrize("part", [".param", ".bin"])
@pytest.mark.parametrize("content", [b"", b"rubbish", None])
def test_damaged_files(
    content: bytes | None, part: str, made: tuple[Path, nn.Module], tmp_path: Path
) -> None:
    for suffix in (".param", ".bin"):
        (tmp_path / f"x{suffix}").write_bytes(made[0].with_suffix(suffix).read_bytes())
    broken = tmp_path / f"x{part}"
    broken.unlink() if content is None else broken.write_bytes(content)
    with pytest.raises(
        UserError, match=r"x.param: damaged, has layers unknown to ncnn, or the .bin"
    ):
        open_file(tmp_path / "x.param", 1)


def test_a_param_is_measured_as_what_it_is_called(
    made: tuple[Path, nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be a source of weights, whose cost in PyTorch is wanted, as well as an exported file."""
    opened = []
    for name in ("open_file", "_open_weights"):
        monkeypatch.setattr(
            measure, name, lambda *_, name=name: opened.append(name) or (lambda lr: lr)
        )
    for kind in ("file", "weights", "custom"):
        assert measure.main(str(made[0]), 16, 1, kind).seconds >= 0
    assert opened == ["open_file", "_open_weights", "_open_weights"]
