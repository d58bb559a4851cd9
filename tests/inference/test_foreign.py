import re
import sys
from pathlib import Path

import pytest
import torch
from small_rrdb import make_rrdb
from torch import nn

from realsr.core.errors import UserError
from realsr.inference.model import load_model
from realsr.networks import build_discriminator
from realsr.weights import load_generator, load_generator_state
from realsr.weights.layouts import to_first_layout

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("one_thread")


def make_compact(channels: int = 3, scale: int = 2) -> nn.Module:
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    return SRVGGNetCompact(
        num_in_ch=channels, num_out_ch=channels, num_feat=8, num_conv=2, upscale=scale
    )


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
    torch.save(make_compact(channels=1).state_dict(), tmp_path / "x.pth")
    with pytest.raises(
        UserError, match=r"x\.pth: a network for SR \(.*\) with 1 input and 1 output channels"
    ):
        load_model(tmp_path / "x.pth", CPU)


def test_what_nobody_knows_is_told_by_its_first_names(tmp_path: Path) -> None:
    pytest.importorskip("spandrel", reason="the extra `spandrel` is not installed")
    torch.save(nn.Linear(3, 3).state_dict(), tmp_path / "x.pth")
    log = (
        r"x\.pth: not an RRDB generator \(first tensors: weight, bias\)\. "
        "spandrel does not recognise it either"
    )
    with pytest.raises(UserError, match=log):
        load_model(tmp_path / "x.pth", CPU)


def test_without_spandrel_it_is_said_how_to_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    torch.save(nn.Linear(3, 3).state_dict(), tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"x\.pth: not an RRDB .*pip install 'realsr\[spandrel\]'"):
        load_model(tmp_path / "x.pth", CPU)


@pytest.mark.parametrize("lost", ["RRDB_trunk.1.RDB2.conv3.weight", "conv_last.bias"])
def test_a_damaged_rrdb_is_told_as_one(lost: str, tmp_path: Path) -> None:
    state = make_rrdb().state_dict()
    del state[lost]
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(
        UserError,
        match=rf"x\.pth: not the RRDB .* \(missing: {lost}\).* spandrel .* cannot load it",
    ):
        load_model(tmp_path / "x.pth", CPU)


def esrgan(scale: int, plus: bool = False) -> dict[str, torch.Tensor]:
    """An ESRGAN in the first layout, of any scale, as ESRGAN+ with a 1x1 convolution in each dense block."""
    state = to_first_layout(make_rrdb(2, growth=32).state_dict())
    ends = {number: state[f"model.{number}.weight"] for number in (3, 5, 7)}
    for number in ends:
        del state[f"model.{number}.weight"]
    bias = {number: state.pop(f"model.{number}.bias") for number in (3, 5, 7)}
    stages = {1: 0, 2: 1, 4: 2, 8: 3}[scale]
    names = {3: [3 * k for k in range(1, stages + 1)], 5: [3 * stages + 2], 7: [3 * stages + 4]}
    for number, places in names.items():
        for place in places:
            state |= {f"model.{place}.weight": ends[number], f"model.{place}.bias": bias[number]}
    if plus:
        torch.manual_seed(1)
        for block, dense in ((block, dense) for block in range(2) for dense in (1, 2, 3)):
            state[f"model.1.sub.{block}.RDB{dense}.conv1x1.weight"] = 0.1 * torch.randn(32, 6, 1, 1)
    return state


def unshuffled() -> dict[str, torch.Tensor]:
    """BasicSR's RRDB for x2, which begins with pixel-unshuffle."""
    names = {
        "RRDB_trunk": "body",
        "RDB": "rdb",
        "trunk_conv": "conv_body",
        "upconv": "conv_up",
        "HRconv": "conv_hr",
    }
    state = make_rrdb(4, growth=32).state_dict()
    state = {
        re.sub("|".join(names), lambda part: names[part[0]], name): value
        for name, value in state.items()
    }
    return state | {
        "conv_first.weight": torch.randn(6, 12, 3, 3, generator=torch.Generator().manual_seed(0))
        / 10
    }


@pytest.mark.parametrize(
    "wrap", [lambda state: {"params_ema": state}, lambda state: averaged(state)]
)
@pytest.mark.parametrize(
    ("state", "scale"),
    [(esrgan(4, plus=True), 4), (esrgan(2, plus=True), 2), (unshuffled(), 2)],
    ids=["plus x4", "plus x2", "unshuffle"],
)
@torch.no_grad()
def test_variants_of_esrgan_are_other_authors_networks(
    wrap, state: dict, scale: int, tmp_path: Path
) -> None:
    spandrel = pytest.importorskip("spandrel", reason="the extra `spandrel` is not installed")
    torch.save(wrap(state), tmp_path / "x.pth")
    model = load_model(tmp_path / "x.pth", CPU, "fp32")
    assert model.scale == scale
    x = torch.rand(1, 3, 8, 6)
    expected = spandrel.ModelLoader().load_from_state_dict(dict(state))(x)
    assert torch.allclose(model.run(x), expected, atol=1e-6)
    for load in (load_generator, lambda path: load_generator_state(make_rrdb(growth=32), path)):
        with pytest.raises(
            UserError,
            match=r"x\.pth: (cannot build a generator from it: not the RRDB|weights of another)",
        ):
            load(tmp_path / "x.pth")


def averaged(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As `torch.optim.swa_utils.AveragedModel` of a compiled network saves it."""
    return {"n_averaged": torch.tensor(4)} | {
        f"module._orig_mod.{name}": value for name, value in state.items()
    }


@pytest.mark.parametrize("extra", ["RRDB_trunk.0.RDB1.conv1x1.weight", "attention.weight"])
def test_an_rrdb_with_a_layer_that_spandrel_leaves_out_is_refused(
    extra: str, tmp_path: Path
) -> None:
    pytest.importorskip("spandrel", reason="the extra `spandrel` is not installed")
    torch.save(
        make_rrdb(growth=32).state_dict() | {extra: torch.ones(32, 6, 1, 1)}, tmp_path / "x.pth"
    )
    with pytest.raises(
        UserError, match=rf"x\.pth: not the RRDB .*not expected: {extra}\).* ignores some of its"
    ):
        load_model(tmp_path / "x.pth", CPU)


@torch.no_grad()
def test_a_network_of_scale_1_restores(tmp_path: Path) -> None:
    spandrel = pytest.importorskip("spandrel", reason="the extra `spandrel` is not installed")
    state = make_compact(scale=1).state_dict()
    torch.save(state, tmp_path / "x.pth")
    model = load_model(tmp_path / "x.pth", CPU, "fp32")
    x = torch.rand(1, 3, 9, 13)
    expected = spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(state))(x)
    assert model.scale == 1
    assert torch.allclose(model.run(x), expected, atol=1e-6)


@pytest.mark.parametrize("scale", [1, 8])
@torch.no_grad()
def test_esrgan_of_scale_1_and_8_is_spandrel_s_without_its_clamp(
    scale: int, tmp_path: Path
) -> None:
    spandrel = pytest.importorskip("spandrel", reason="the extra `spandrel` is not installed")
    state = esrgan(scale)
    torch.save(state, tmp_path / "x.pth")
    model = load_model(tmp_path / "x.pth", CPU, "fp32")
    x = torch.rand(1, 3, 9, 13)
    expected = spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(state)).model(x)
    assert model.scale == scale
    assert torch.allclose(model.run(x), expected, atol=2e-6)


def test_a_network_for_faces_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("spandrel", reason="the extra `spandrel` is not installed")
    monkeypatch.setattr("spandrel.ImageModelDescriptor.purpose", "FaceSR")
    torch.save(make_compact().state_dict(), tmp_path / "x.pth")
    with pytest.raises(
        UserError,
        match=r"x\.pth: a network for FaceSR .*; expected a network for super-resolution or",
    ):
        load_model(tmp_path / "x.pth", CPU)


@pytest.mark.parametrize(
    "wrap", [averaged, lambda state: {"state_dict": {f"model.{k}": v for k, v in state.items()}}]
)
@torch.no_grad()
def test_prefixes_and_counters_of_any_network_are_left_out(wrap, tmp_path: Path) -> None:
    pytest.importorskip("spandrel", reason="the extra `spandrel` is not installed")
    network = make_compact().eval()
    torch.save(wrap(network.state_dict()), tmp_path / "x.pth")
    x = torch.rand(1, 3, 8, 6)
    assert torch.allclose(
        load_model(tmp_path / "x.pth", CPU, "fp32").run(x), network(x).clamp(0, 1), atol=1e-6
    )


def test_a_discriminator_is_told_as_one(tmp_path: Path) -> None:
    pytest.importorskip("spandrel", reason="the extra `spandrel` is not installed")
    network = build_discriminator({"name": "patchgan", "features": 4, "layers": 3})
    torch.save(network.state_dict(), tmp_path / "netD.pth")
    for load in (
        lambda path: load_model(path, CPU),
        lambda path: load_generator_state(make_rrdb(), path),
    ):
        with pytest.raises(
            UserError, match=r"netD\.pth: .* It looks like a discriminator.*netG, not netD"
        ):
            load(tmp_path / "netD.pth")
