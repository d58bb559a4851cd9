import math
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from metric_components import load
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from config_files import config_of
from realsr.core.errors import UserError
from realsr.data.validation_images import EvaluationImage
from realsr.evaluation.protocol import Protocol
from realsr.evaluation.scoring import (
    ImageReaders,
    MetricError,
    Model,
    bicubic_model,
    evaluate_models,
)
from realsr.imaging import ImageError, resize, to_float, to_uint8, write_uint8
from stages import match_images
from toy_metrics import ToyMetric, ToySetMetric

METRICS = load(["psnr", "ssim", "psnr_y", "ssim_y"])


@pytest.fixture
def images(tmp_path: Path) -> ImageReaders:
    for index in range(2):
        rng = np.random.default_rng(index)
        image = np.kron(rng.integers(0, 256, (6, 7, 3)), np.ones((6, 6, 1))) + rng.normal(
            0, 5, (36, 42, 3)
        )
        write_uint8(tmp_path / f"i{index}.png", image.clip(0, 255).astype(np.uint8))
    return match_images(tmp_path, None, config_of(Protocol), 2)


def random_image(
    name: str, lr: tuple[int, int] = (12, 14), scale: int = 2, hr: bool = True
) -> EvaluationImage:
    generator = torch.Generator().manual_seed(len(name))
    high = torch.rand(3, lr[0] * scale, lr[1] * scale, generator=generator) if hr else None
    return EvaluationImage(name, torch.rand(3, *lr, generator=generator), high)


def readers(*images: EvaluationImage) -> ImageReaders:
    def give(image: EvaluationImage) -> EvaluationImage:
        return image

    return {image.name: partial(give, image) for image in images}


def mean_metric(needs_hr: bool = True) -> ToyMetric:
    def compute(sr: Tensor, hr: Tensor | None = None) -> float:
        assert (hr is not None) == needs_hr
        return float(sr.mean())

    return ToyMetric(higher_is_better=False, digits=3, compute=compute, needs_hr=needs_hr)


def test_bicubic_s_numbers_are_scikit_image_s(images: ImageReaders) -> None:
    scores = evaluate_models({"bicubic": bicubic_model(2)}, images, METRICS, crop=3).scores[
        "bicubic"
    ]
    for image in (read() for read in images.values()):
        assert image.hr is not None
        sr, hr = (
            (x.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()[3:-3, 3:-3]
            for x in (resize(image.lr, factor=2.0), image.hr)
        )
        luma = [
            x.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255 + 16 for x in (sr, hr)
        ]
        found = scores[image.name]
        assert found["psnr"] == pytest.approx(
            peak_signal_noise_ratio(hr, sr, data_range=255), abs=1e-6
        )
        assert found["psnr_y"] == pytest.approx(
            peak_signal_noise_ratio(luma[1], luma[0], data_range=255), abs=1e-6
        )
        options = {
            "gaussian_weights": True,
            "sigma": 1.5,
            "use_sample_covariance": False,
            "data_range": 255,
        }
        options["win_size"] = 11
        # full: scikit-image's own mean is over another crop than the windows that lie inside
        _, full = structural_similarity(
            hr.astype(float), sr.astype(float), channel_axis=2, full=True, **options
        )
        assert found["ssim"] == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-6)
        _, full = structural_similarity(luma[1], luma[0], full=True, **options)
        assert found["ssim_y"] == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-6)


def test_all_models_see_all_images_once(images: ImageReaders) -> None:
    seen = []
    models: dict[str, Model] = {
        "bicubic": bicubic_model(2),
        "black": lambda lr: torch.zeros(3, 2 * lr.shape[1], 2 * lr.shape[2]),
    }
    results = evaluate_models(
        models,
        images,
        METRICS,
        0,
        lambda image, model, sr, scores: seen.append((image.name, model, scores["psnr"])),
    )
    assert [row[:2] for row in seen] == [
        ("i0", "bicubic"),
        ("i0", "black"),
        ("i1", "bicubic"),
        ("i1", "black"),
    ]
    assert seen[1][2] == results.scores["black"]["i0"]["psnr"]
    assert results.scores["bicubic"]["i0"]["psnr"] > results.scores["black"]["i0"]["psnr"]
    assert not results.failures


def test_metrics_get_what_a_file_would_hold_cropped() -> None:
    image = random_image("a")
    given = []

    def compute(sr: Tensor, hr: Tensor | None) -> float:
        given.append((sr, hr))
        return 0.0

    sr = 1.4 * torch.rand(3, 24, 28) - 0.2
    metric = ToyMetric(True, 2, compute)
    results = evaluate_models({"m": lambda lr: sr}, readers(image), {"m": metric}, crop=3)
    assert results.scores == {"m": {"a": {"m": 0.0}}}
    assert image.hr is not None
    for found, whole in zip(given[0], (sr, image.hr), strict=True):
        expected = (whole[:, 3:-3, 3:-3].clamp(0, 1) * 255).round() / 255
        assert torch.equal(found, expected)


def test_an_image_that_fails_is_left_out_for_all_models_and_named() -> None:
    def unreadable() -> EvaluationImage:
        raise ImageError("b.png is damaged")

    def second(lr: Tensor) -> Tensor:
        if lr.shape[1] == 13:
            raise torch.OutOfMemoryError("out of memory")
        sr = bicubic_model(2)(lr)
        return sr * math.nan if lr.shape[1] == 14 else sr[:, 1:] if lr.shape[1] == 15 else sr

    images = readers(
        random_image("a"), random_image("memory", (13, 13)), random_image("nan", (14, 13)),
        random_image("size", (15, 13)), random_image("tiny", (4, 9)),
    )  # fmt: skip
    results = evaluate_models(
        {"bicubic": bicubic_model(2), "second": second},
        {**images, "b": unreadable},
        METRICS,
        crop=2,
    )
    assert {model: list(rows) for model, rows in results.scores.items()} == {
        "bicubic": ["a"],
        "second": ["a"],
    }
    assert results.failures["b"] == "b.png is damaged"
    assert "out of memory" in results.failures["memory"]
    assert "not finite" in results.failures["nan"]
    assert results.failures["size"] == "the result is 26x29, but HR is 26x30"
    assert (
        results.failures["tiny"]
        == "SSIM needs at least 11x11 pixels, got 14x4 (of 18x8, after crop=2)"
    )
    assert list(results.failures) == ["memory", "nan", "size", "tiny", "b"]
    with pytest.raises(UserError, match=r"no image could be scored:\n  b: b.png is damaged"):
        evaluate_models({"bicubic": bicubic_model(2)}, {"b": unreadable}, METRICS, crop=2)
    with pytest.raises(UserError, match="crop=20 leaves nothing of 28x24 pixels"):
        evaluate_models({"bicubic": bicubic_model(2)}, readers(random_image("a")), METRICS, crop=20)


def fail(*images: Tensor) -> float:
    raise KeyError("sharpness")


@pytest.mark.parametrize(
    ("metric", "inputs"),
    [
        (ToyMetric(True, 3, fail), "images of 28x24"),
        (ToySetMetric(3, fail), "images of 28x24"),
        (ToySetMetric(3, lambda image: image.mean(), fail), "the features of 1 images"),
        (ToySetMetric(3, lambda image: image, fail), "the features of 1 images"),
    ],
)
def test_a_metric_of_ones_own_that_fails_is_named(
    metric: ToyMetric | ToySetMetric, inputs: str
) -> None:
    message = rf"metric\.own: {type(metric).__name__} fails on {inputs}: (Key|Runtime)Error: .*"
    with pytest.raises(MetricError, match=message):
        evaluate_models(
            {"bicubic": bicubic_model(2)}, readers(random_image("a")), {"own": metric}, crop=0
        )


def test_images_that_do_not_suit_a_metric_of_ones_own_name_it() -> None:
    metric = ToyMetric(True, 3, lambda sr, hr: sr)
    with pytest.raises(UserError, match=r"\n  a: metric\.own: only one element .* \(of 28x24"):
        evaluate_models(
            {"bicubic": bicubic_model(2)}, readers(random_image("a")), {"own": metric}, crop=0
        )


def test_photos_without_hr() -> None:
    metrics = {"mean": mean_metric(needs_hr=False)}
    image = random_image("photo", hr=False)
    results = evaluate_models({"bicubic": bicubic_model(2)}, readers(image), metrics, crop=0)
    assert results.scores["bicubic"]["photo"]["mean"] == pytest.approx(
        float(image.lr.mean()), abs=0.02
    )


def test_sets_are_compared_once_by_the_features_of_what_was_scored() -> None:
    """The distance of mean colours; an image that fails with one model is in no set."""

    def features(image: Tensor) -> Tensor:
        return image.mean(dim=(1, 2))[None]

    def distance(sr: Tensor, hr: Tensor) -> float:
        if len(sr) < 2:
            raise ValueError("two images are needed")
        assert sr.shape == hr.shape == (2, 3)
        return float((sr.mean(dim=0) - hr.mean(dim=0)).norm())

    metrics = {"mean": mean_metric(), "set": ToySetMetric(3, features, distance)}
    images = [random_image("a"), random_image("bb"), random_image("fails", (13, 13))]
    models: dict[str, Model] = {
        "half": lambda lr: torch.full((3, 24, 28), 0.5),
        "black": lambda lr: torch.zeros(3, 24, 28),
    }
    results = evaluate_models(models, readers(*images), metrics, crop=0)
    hr = torch.stack(
        [image.hr.mean(dim=(1, 2)) for image in images[:2] if image.hr is not None]
    ).mean(dim=0)
    assert results.sets["black"]["set"] == pytest.approx(float(hr.norm()), abs=1e-3)
    assert results.sets["half"]["set"] == pytest.approx(float((hr - 128 / 255).norm()), abs=1e-3)
    assert list(results.failures) == ["fails"]
    results = evaluate_models(models, readers(images[0]), metrics, crop=0)
    assert results.sets == {}
    assert results.failures == {"set": "two images are needed"}
    assert results.scores["black"]["a"] == {"mean": 0.0}


def test_metrics_of_sets_with_one_network_run_it_once_an_image() -> None:
    calls = list[Tensor]()

    def features(image: Tensor) -> Tensor:
        calls.append(image)
        return image.mean(dim=(1, 2))[None]

    def distance(sr: Tensor, hr: Tensor) -> float:
        return float((sr - hr).norm())

    metrics = {
        "a": ToySetMetric(3, features, distance),
        "b": ToySetMetric(3, features, lambda sr, hr: 1.0),
    }
    results = evaluate_models(
        {"m": bicubic_model(2)}, readers(random_image("a"), random_image("bb")), metrics, crop=0
    )
    assert results.sets["m"].keys() == {"a", "b"}
    assert len(calls) == 4, "HR and SR of two images"


def write(folder: Path, name: str, size: tuple[int, int]) -> np.ndarray:
    folder.mkdir(exist_ok=True)
    image = np.random.default_rng(len(name)).integers(0, 256, (*size, 3), dtype=np.uint8)
    write_uint8(folder / f"{name}.png", image)
    return image


def test_hr_alone_is_cropped_and_shrunk_to_8_bit(tmp_path: Path) -> None:
    original = write(tmp_path, "a", (13, 18))
    image = match_images(tmp_path, None, config_of(Protocol), 4)["a"]()
    hr = to_float(original)[:, :12, :16]
    assert image.hr is not None
    assert torch.equal(image.hr, hr)
    assert torch.equal(image.lr, to_float(to_uint8(resize(hr, factor=0.25))))


def test_vacc_resizes_the_original_twice(tmp_path: Path) -> None:
    original = write(tmp_path, "a", (50, 37))
    image = match_images(tmp_path, None, config_of(Protocol, hr_side=16, lr="area"), 4)["a"]()
    assert image.hr is not None
    for found, side in ((image.hr, 16), (image.lr, 4)):
        assert torch.equal(
            found, to_float(cv2.resize(original, (side, side), interpolation=cv2.INTER_AREA))
        )
    image = match_images(tmp_path, None, config_of(Protocol, lr="area"), 4)["a"]()
    assert (image.hr is not None, image.lr.shape) == (True, (3, 12, 9)), (
        "area alone keeps the shape"
    )


def test_lr_from_a_folder_and_photos_without_hr(tmp_path: Path) -> None:
    write(tmp_path / "hr", "0801", (8, 12))
    low = write(tmp_path / "lr", "0801x4", (2, 3))
    images = match_images(tmp_path / "hr", tmp_path / "lr", config_of(Protocol), 4)
    assert list(images) == ["0801"], "DIV2K's names"
    assert torch.equal(images["0801"]().lr, to_float(low))
    photos = match_images(None, tmp_path / "lr", config_of(Protocol), 4)
    assert list(photos) == ["0801x4"]
    assert photos["0801x4"]().hr is None


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    write(tmp_path / "hr", "a", (8, 12))
    write(tmp_path / "hr", "tiny", (1, 1))
    write(tmp_path / "lr", "a", (2, 4))
    write(tmp_path / "lr", "tiny", (1, 1))
    (tmp_path / "hr/broken.png").write_bytes(b"")
    write(tmp_path / "lr", "broken", (1, 1))
    images = match_images(tmp_path / "hr", tmp_path / "lr", config_of(Protocol), 4)
    with pytest.raises(
        UserError,
        match=r"lr/a\.png: 4x2 pixels, but HR is 12x8; at scale=4 HR must be 4 times",
    ):
        images["a"]()
    with pytest.raises(ValueError, match="cannot crop 1x1"):
        images["tiny"]()
    with pytest.raises(ImageError, match=r"broken\.png"):
        images["broken"]()
    with pytest.raises(UserError, match=r"data\.hr must be given"):
        match_images(None, None, config_of(Protocol), 4)
