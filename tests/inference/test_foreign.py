import sys
from pathlib import Path

import pytest
import torch
from small_rrdb import make_rrdb
from torch import nn

from realsr.errors import UserError
from realsr.inference.model import load_model

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("one_thread")


def make_compact(channels: int = 3, scale: int = 2) -> nn.Module:
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    return SRVGGNetCompact(num_in_ch=channels, num_out_ch=channels, num_feat=8, num_conv=2, upscale=scale)


def make_swinir() -> nn.Module:
    from spandrel.architectures.SwinIR.__arch.SwinIR import SwinIR

    return SwinIR(
        img_size=16, depths=[2], num_heads=[2], embed_dim=12, window_size=8, mlp_ratio=2,
        upscale=2, upsampler="pixelshuffle", img_range=1.0, resi_connection="1conv",
    )  # fmt: skip


@pytest.mark.parametrize("make", [make_compact, make_swinir])
@torch.no_grad()
def test_it_is_spandrels_own_call(make, tmp_path: Path) -> None:
    spandrel = pytest.importorskip("spandrel", reason="the extra `spandrel` is not installed")
    torch.manual_seed(0)
    network = make().eval()
    torch.save({"params": network.state_dict()}, tmp_path / "x.pth")
    descriptor = spandrel.ModelLoader().load_from_state_dict(network.state_dict())
    model = load_model(tmp_path / "x.pth", CPU, "fp32")
    assert model.scale == 2
    for shape in ((2, 3, 9, 13), (1, 3, 8, 8), (1, 3, 1, 1)):  # SwinIR takes multiples of 8
        x = torch.rand(shape)
        expected = descriptor(x)
        assert model.run(x).shape == (shape[0], 3, 2 * shape[2], 2 * shape[3])
        assert torch.allclose(model.run(x), expected, atol=1e-6)
    half = load_model(tmp_path / "x.pth", CPU, "bf16").run(x)
    assert half.dtype == torch.float32
    assert torch.allclose(half, expected, atol=0.05)


def test_a_network_for_something_else_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("spandrel", reason="the extra `spandrel` is not installed")
    torch.save(make_compact(scale=1).state_dict(), tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"x\.pth: a network for Restoration .*expected one for super-resolution"):
        load_model(tmp_path / "x.pth", CPU)
    torch.save(make_compact(channels=1).state_dict(), tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"x\.pth: a network \(.*\) of 1 channels in and 1 out"):
        load_model(tmp_path / "x.pth", CPU)


def test_what_nobody_knows_is_told_by_its_first_names(tmp_path: Path) -> None:
    pytest.importorskip("spandrel", reason="the extra `spandrel` is not installed")
    torch.save(nn.Linear(3, 3).state_dict(), tmp_path / "x.pth")
    said = r"x\.pth: not an RRDB generator \(its tensors begin with weight, bias\)\. spandrel does not know it either"
    with pytest.raises(UserError, match=said):
        load_model(tmp_path / "x.pth", CPU)


def test_without_spandrel_it_is_said_how_to_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    torch.save(nn.Linear(3, 3).state_dict(), tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"x\.pth: not an RRDB .*pip install 'realsr\[spandrel\]'"):
        load_model(tmp_path / "x.pth", CPU)


@pytest.mark.parametrize("lost", ["RRDB_trunk.1.RDB2.conv3.weight", "conv_last.bias"])
def test_a_damaged_rrdb_is_told_as_one(lost: str, tmp_path: Path) -> None:
    state = make_rrdb().state_dict()
    del state[lost]
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(UserError, match=rf"x\.pth: not the RRDB .* \(missing: {lost}\).* spandrel .* cannot load it"):
        load_model(tmp_path / "x.pth", CPU)
