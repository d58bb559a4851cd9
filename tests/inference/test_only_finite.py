"""No result holds NaN or infinity: half precision is computed again in float32, and what is not finite there fails."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from small_rrdb import make_rrdb
from torch import Tensor

from realsr.core.errors import UserError
from realsr.data.validation_images import EvaluationImage
from realsr.evaluation.metrics.psnr import PSNR
from realsr.evaluation.scoring import evaluate_models
from realsr.imaging import write_uint8
from realsr.inference.model import load_model, only_finite
from realsr.inference.tiling import Tiles, as_function
from stages import upscale_photos

CPU = torch.device("cpu")


def save(path: Path, factor: float) -> Path:
    """An RRDB whose next to last layer gives values about `factor` wide; where float32 holds them, its results are
    those of factor=1."""
    network = make_rrdb()
    with torch.no_grad():
        network.HRconv.weight.mul_(factor)
        network.HRconv.bias.mul_(factor)
        network.conv_last.weight.div_(factor)
    torch.save(network.state_dict(), path)
    return path


def test_half_precision_that_overflows_becomes_float32_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, one_thread: None
) -> None:
    caplog.set_level(logging.WARNING)
    x = torch.rand(1, 3, 12, 14)
    exact = load_model(save(tmp_path / "x.pth", 1), CPU, "fp32").run(x)
    path = save(tmp_path / "wide.pth", 1e6)
    model = load_model(path, CPU, "fp16")
    caplog.clear()
    for _ in range(3):
        assert torch.allclose(model.run(x), exact, atol=1e-4)
    [message] = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"{path}: half precision overflows")
    assert "float32" in message


def test_a_model_stays_in_float32_after_its_first_overflow() -> None:
    calls = list[str]()

    def half(x: Tensor) -> Tensor:
        calls.append("half")
        return x if x.mean() < 1 else x / 0

    def exact(x: Tensor) -> Tensor:
        calls.append("exact")
        return x

    run = only_finite(half, "x.pth", lambda: exact)
    for value in (0.5, 2.0, 0.5):
        assert torch.equal(run(torch.full((1, 3, 2, 2), value)), torch.full((1, 3, 2, 2), value))
    assert calls == ["half", "half", "exact", "exact"]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_float32_cannot_hold_is_an_error(bad: float) -> None:
    def run(x: Tensor) -> Tensor:
        return x.index_fill(3, torch.tensor([1]), bad)

    with pytest.raises(UserError, match=r"x\.pth: the network returns values that are not finite"):
        only_finite(run, "x.pth", lambda: run)(torch.rand(1, 3, 2, 2))


def test_nothing_is_written_of_a_photo_whose_result_is_not_finite(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, one_thread: None
) -> None:
    path, network = tmp_path / "x.pth", make_rrdb()
    torch.nn.init.constant_(network.conv_last.weight, 3e38)
    torch.nn.init.constant_(network.HRconv.bias, 100.0)
    torch.save(network.state_dict(), path)
    write_uint8(tmp_path / "photo.png", np.full((20, 20, 3), 200, np.uint8))
    model = load_model(path, CPU, "fp32")
    plan = {tmp_path / "photo.png": tmp_path / "out/photo.png"}
    with pytest.raises(
        UserError, match=r"1 of 1 photos could not be upscaled, see above: .*photo\.png"
    ):
        upscale_photos(plan, model, lambda height, width: Tiles(400, 96))
    assert (
        f"{tmp_path / 'photo.png'}: {path}: the network returns values that are not finite"
        in caplog.text
    )
    assert not list((tmp_path / "out").iterdir())
    image = EvaluationImage("a", torch.rand(3, 20, 20), torch.rand(3, 80, 80))
    with pytest.raises(
        UserError, match=r"a: .*x\.pth: the network returns values that are not finite"
    ):
        evaluate_models(
            {"x": as_function(model, 400)}, {"a": lambda: image}, {"psnr": PSNR(luma=False)}, 0
        )


def test_infinity_that_spandrel_would_clamp_to_white_is_an_error(
    tmp_path: Path, one_thread: None
) -> None:
    pytest.importorskip("spandrel")
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    network = SRVGGNetCompact(num_feat=4, num_conv=1, upscale=2)
    torch.nn.init.constant_(network.body[-1].bias, 3e38)
    torch.nn.init.constant_(network.body[-1].weight, 3e38)
    torch.nn.init.constant_(network.body[0].weight, 1.0)
    torch.save(network.state_dict(), tmp_path / "compact.pth")
    model = load_model(tmp_path / "compact.pth", CPU, "fp32")
    with pytest.raises(
        UserError, match=r"compact\.pth: the network returns values that are not finite"
    ):
        model.run(torch.ones(1, 3, 8, 8))
