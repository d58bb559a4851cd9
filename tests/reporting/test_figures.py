from pathlib import Path

import pytest
import torch
from PIL import Image

import realsr.reporting.figures as figures_module
from realsr.core.errors import UserError
from realsr.data.validation_images import EvaluationImage
from realsr.evaluation.scoring import bicubic_model
from realsr.reporting.figures import Figures, Window, parse_figures
from toy_metrics import ToyMetric

METRICS = {
    name: ToyMetric(higher_is_better=True, digits=digits)
    for name, digits in (("psnr", 2), ("ssim", 4), ("psnr_y", 2))
}
SCORES = {"psnr": 27.168, "ssim": 0.5, "psnr_y": 1.0}


def test_what_is_asked_for() -> None:
    images = ["a", "0801", "b:1"]
    assert parse_figures(["a", "0801:1,2,30,40", "b:1"], images) == {
        "a": None,
        "0801": Window(1, 2, 30, 40),
        "b:1": None,
    }
    assert parse_figures(["a:1:2:30:40"], images) == {"a": Window(1, 2, 30, 40)}
    assert parse_figures(["all"], images) == dict.fromkeys(images)
    assert parse_figures(["a:1,2,3,4", "all"], images)["a"] == Window(1, 2, 3, 4)
    for wrong in ("c", "a:1,2,3", "a:1,2,0,4", "c:1,2,3,4"):
        with pytest.raises(
            UserError, match=f"figures: {wrong}: expected NAME or .*the images are 0801, a, b:1"
        ):
            parse_figures([wrong], images)


def test_a_figure_is_written_after_the_last_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    real = figures_module.draw_crops
    monkeypatch.setattr(
        figures_module, "draw_crops", lambda *given: (drawn.append(given), real(*given))[1]
    )
    image = EvaluationImage("a", torch.rand(3, 20, 30), torch.rand(3, 40, 60))
    figures = Figures(
        tmp_path / "figures",
        {"a": Window(9, 4, 8, 8)},
        {"bicubic": "bicubic", "runs/x": "x"},
        METRICS,
        2,
    )
    sr = bicubic_model(2)(image.lr)
    figures.add(image, "bicubic", sr, SCORES)
    assert not drawn
    figures.add(image, "runs/x", 0 * sr, SCORES)
    ((name, photo, window, details, notes),) = drawn
    assert (name, window) == ("a", Window(8, 4, 10, 8)), "as wide as LR's pixels need"
    assert photo is image.hr
    assert list(details) == ["LR", "bicubic", "x", "HR"]
    assert torch.equal(details["LR"], image.lr[:, 2:6, 4:9])
    assert torch.equal(details["bicubic"], sr[:, 4:12, 8:18])
    assert notes == {"LR": "psnr / ssim", "bicubic": "27.17 dB / 0.5000", "x": "27.17 dB / 0.5000"}
    with Image.open(tmp_path / "figures/a.png") as picture:
        assert picture.format == "PNG"
    assert not figures.failures


def test_photos_without_hr_are_shown_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    real = figures_module.draw_crops
    monkeypatch.setattr(
        figures_module, "draw_crops", lambda *given: (drawn.append(given), real(*given))[1]
    )
    image = EvaluationImage("a", torch.rand(3, 20, 30), None)
    figures = Figures(tmp_path, {"a": None}, {"x": "x"}, {}, 4)
    figures.add(image, "x", torch.rand(3, 80, 120), {})
    ((_, photo, window, details, _),) = drawn
    assert photo is image.lr
    assert (window.width, window.height) == (8, 8), "of LR"
    assert list(details) == ["LR", "x"]


def test_a_window_outside_is_told_and_others_are_not_touched(tmp_path: Path) -> None:
    image = EvaluationImage("a", torch.rand(3, 20, 30), None)
    figures = Figures(tmp_path, {"a": Window(100, 60, 21, 10)}, {"x": "x"}, METRICS, 4)
    figures.add(EvaluationImage("b", image.lr, None), "x", torch.rand(3, 80, 120), SCORES)
    figures.add(image, "x", torch.rand(3, 80, 120), SCORES)
    assert figures.failures == {
        "figure of a": "100,60,21,10 reaches beyond the image of 120x80 pixels"
    }
    assert not list(tmp_path.iterdir())
