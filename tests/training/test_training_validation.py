import pytest
import torch
from torch import nn

from realsr.data.validation_images import ValidationImage
from realsr.evaluation.metrics.psnr import psnr
from realsr.evaluation.metrics.ssim import ssim
from realsr.imaging import resize
from realsr.training.validation import describe, make_strip, validate


class Nearest(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))
        self.was_training: list[bool] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.was_training.append(self.training)
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3) + 0.5 + self.bias


def images(count: int) -> list[ValidationImage]:
    chance = torch.Generator().manual_seed(0)
    return [
        ValidationImage(
            f"i{n}", torch.rand(3, 9, 10, generator=chance), torch.rand(3, 18, 20, generator=chance)
        )
        for n in range(count)
    ]


def test_scores_are_means_of_the_clamped_output_without_the_border() -> None:
    net = Nearest().train()
    means, strips = validate(net, shown := images(6), scale=2)
    srs = [(i.lr.repeat_interleave(2, 1).repeat_interleave(2, 2) + 0.5).clamp(0, 1) for i in shown]
    scores = [
        (psnr(sr, i.hr, crop=2), ssim(sr, i.hr, crop=2)) for sr, i in zip(srs, shown, strict=True)
    ]
    assert means.keys() == {"psnr", "ssim"}
    assert means["psnr"] == pytest.approx(sum(s[0] for s in scores) / 6)
    assert means["ssim"] == pytest.approx(sum(s[1] for s in scores) / 6)
    assert len(strips) == 4
    assert net.training
    assert net.was_training == [False] * 6
    assert describe(means) == f"PSNR {means['psnr']:.2f} dB, SSIM {means['ssim']:.4f}"


def test_lpips_is_of_whole_images_and_the_mode_stays() -> None:
    net = Nearest().eval()
    shown = images(3)
    seen = []

    def distance(sr: torch.Tensor, hr: torch.Tensor) -> float:
        seen.append((sr, hr))
        return float(len(seen))

    means, strips = validate(net, shown, scale=2, lpips=distance)
    assert means["lpips"] == 2
    assert describe(means).endswith(", LPIPS 2.0000")
    assert len(strips) == 3
    assert not net.training
    for (sr, hr), image in zip(seen, shown, strict=True):
        assert torch.equal(hr, image.hr)
        assert torch.equal(
            sr, (image.lr.repeat_interleave(2, 1).repeat_interleave(2, 2) + 0.5).clamp(0, 1)
        )


def test_a_strip_is_lr_bicubic_sr_hr() -> None:
    (image,) = images(1)
    sr = torch.rand(3, 18, 20)
    nearest, bicubic, shown, hr = make_strip(image, sr, 2).split(20, dim=2)
    assert torch.equal(nearest[:, ::2, ::2], image.lr)
    assert torch.equal(nearest[:, 1::2, 1::2], image.lr)
    assert torch.equal(bicubic, resize(image.lr, factor=2.0).clamp(0, 1))
    assert torch.equal(shown, sr)
    assert torch.equal(hr, image.hr)
