from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import realsr.reporting.figures as figures_module
from realsr.core.errors import UserError
from realsr.data.validation_images import EvaluationImage
from realsr.evaluation.scoring import bicubic_model
from realsr.imaging import read_uint8
from realsr.reporting.drawing import colour_values
from realsr.reporting.figures import (
    Figures,
    Window,
    choose_window,
    draw_crops,
    parse_figures,
    write_comparison,
)
from toy_metrics import ToyMetric

BOX = (224, 49, 49)
METRICS = {
    name: ToyMetric(higher_is_better=True, digits=digits)
    for name, digits in (("psnr", 2), ("ssim", 4), ("psnr_y", 2))
}
SCORES = {"psnr": 27.168, "ssim": 0.5, "psnr_y": 1.0}


def test_the_window_is_where_images_differ_most() -> None:
    one = torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(0))
    other = one.clone()
    other[:, 2, 3] += 0.5  # a single point, and then a larger place
    other[:, 21:27, 34:40] += 0.3
    window = choose_window([one, other, one], size=8, grid=2)
    assert (window.width, window.height) == (8, 8)
    assert window.left <= 34
    assert window.top <= 21
    assert window.left + 8 >= 40
    assert window.top + 8 >= 27
    assert window.left % 2 == window.top % 2 == 0


@pytest.mark.parametrize("size", [(4, 4), (4, 400), (400, 4), (12, 8)])
def test_the_window_fits_into_any_image(size: tuple[int, int]) -> None:
    images = [torch.zeros(3, *size), torch.rand(3, *size)]
    window = choose_window(images, size=64, grid=4)
    assert window.cut(images[0]).shape[1:] == (window.height, window.width)
    assert (window.height, window.width) == (min(64, size[0]), min(64, size[1]))


def test_windows_in_hr_and_lr() -> None:
    window = Window(5, 8, 6, 4).align(4)
    assert window == Window(4, 8, 8, 4)
    assert window.shrink(4) == Window(1, 2, 2, 1)
    assert Window(4, 8, 8, 4).align(4) == window


def find(picture: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero((picture == np.array(colour)).all(axis=2))
    return int(rows.min()), int(columns.min()), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def test_details_are_repeated_pixels_of_one_size_and_the_box_is_around_the_place() -> None:
    paper = (90, 120, 60)
    photo = torch.tensor(paper).reshape(3, 1, 1).expand(3, 100, 200) / 255
    window = Window(40, 20, 32, 16)
    colours = {"LR": (10, 200, 30), "model": (200, 10, 200), "HR": (20, 30, 240)}
    details = {
        title: torch.tensor(colour)
        .reshape(3, 1, 1)
        .expand(3, *((4, 8) if title == "LR" else (16, 32)))
        / 255
        for title, colour in colours.items()
    }
    picture = draw_crops("photo", photo, window, details, {"model": "27.17 dB"})
    places = {title: find(picture, colour) for title, colour in colours.items()}
    assert {place[2:] for place in places.values()} == {(128, 256)}, "eight times"
    assert places["LR"][0] == places["model"][0], "side by side"
    assert places["HR"][0] > places["LR"][0], "and below"
    box = find(picture, BOX)
    grid = picture[:, places["LR"][1] :]
    assert box[1] + box[3] < places["LR"][1], "the photo is left of the details"
    shown = find(picture, paper)
    factor = shown[3] / 200
    assert box[3] / box[2] == pytest.approx(2, abs=0.3)
    assert (box[1] + box[3] / 2 - shown[1]) / factor == pytest.approx(56, abs=4)
    assert (box[0] + box[2] / 2 - shown[0]) / factor == pytest.approx(28, abs=4)
    assert grid.shape[1] < 600


@pytest.mark.parametrize("size", [(4, 20000), (20000, 4), (8, 8), (3000, 4000)])
@pytest.mark.parametrize("count", [1, 5, 11])
def test_any_shape_gives_a_picture_of_moderate_size(size: tuple[int, int], count: int) -> None:
    photo = torch.zeros(1, 1, 1).expand(3, *size)
    window = Window(0, 0, min(size[1], 2000), min(size[0], 2000))
    details = {
        f"a model with quite a long name number {n}": window.cut(photo) for n in range(count)
    }
    picture = draw_crops("name", photo, window, details, {})
    assert picture.dtype == np.uint8
    assert max(picture.shape) < 5000


def test_details_of_a_photo_without_hr_are_repeated_a_whole_number_of_times() -> None:
    pixels = torch.randint(0, 256, (3, 40, 40), generator=torch.Generator().manual_seed(0))
    details = {"LR": torch.zeros(3, 10, 10), "model": pixels / 255}
    picture = draw_crops("photo", torch.ones(3, 50, 50), Window(3, 4, 10, 10), details, {})
    row, column, height, width = find(picture, (0, 0, 0))
    assert (height, width) == (240, 240)
    shown = picture[row : row + 240, column + 256 : column + 496]
    assert np.array_equal(shown[3::6, 3::6], pixels.permute(1, 2, 0))


def test_a_comparison_shows_images_and_kernels_and_leaves_nothing_half_written(
    tmp_path: Path,
) -> None:
    red, green = torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)
    red[0], green[1] = 1, 1
    kernels = {"true": np.eye(3) / 3, "estimated\n30 dB": np.eye(5) / 10}
    write_comparison(
        tmp_path / "comparison.png", [("photo", {"LR": red, "HR": green}, {})], kernels
    )
    picture = read_uint8(tmp_path / "comparison.png")
    assert (
        (picture == (255, 0, 0)).all(axis=2).sum()
        == (picture == (0, 255, 0)).all(axis=2).sum()
        == 256**2
    )
    brightest = colour_values(np.ones((1, 1)))[0, 0]
    assert (picture == brightest).all(axis=2).sum() == 3 * 51**2, (
        "the kernels have one scale and one brightness"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["comparison.png"]


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
