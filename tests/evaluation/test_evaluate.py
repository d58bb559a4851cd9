import json
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from realsr.data.validation import ValidationImage, read_folders
from realsr.errors import UserError
from realsr.evaluation.evaluate import (
    Scores,
    bicubic_model,
    evaluate_models,
    format_table,
    mean_scores,
    network_model,
    write_scores,
)
from realsr.imaging import resize, write_uint8
from realsr.networks import GeneratorConfig, build_generator


@pytest.fixture
def images(tmp_path: Path) -> list[ValidationImage]:
    for index in range(2):
        rng = np.random.default_rng(index)
        image = np.kron(rng.integers(0, 256, (6, 7, 3)), np.ones((6, 6, 1))) + rng.normal(0, 5, (36, 42, 3))
        write_uint8(tmp_path / f"i{index}.png", image.clip(0, 255).astype(np.uint8))
    return list(read_folders(tmp_path, None, 2))


def test_bicubic_s_numbers_are_scikit_image_s(images: list[ValidationImage]) -> None:
    scores = evaluate_models({"bicubic": bicubic_model(2)}, images, crop=3)["bicubic"]
    for image in images:
        sr, hr = (
            (x.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()[3:-3, 3:-3]
            for x in (resize(image.lr, factor=2.0), image.hr)
        )
        luma = [x.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255 + 16 for x in (sr, hr)]
        found = scores[image.name]
        assert found.psnr == pytest.approx(peak_signal_noise_ratio(hr, sr, data_range=255), abs=1e-6)
        assert found.psnr_y == pytest.approx(peak_signal_noise_ratio(luma[1], luma[0], data_range=255), abs=1e-6)
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
        options["win_size"] = 11
        # full: scikit-image's own mean is over another crop than the windows that lie inside
        _, full = structural_similarity(hr.astype(float), sr.astype(float), channel_axis=2, full=True, **options)
        assert found.ssim == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-6)
        _, full = structural_similarity(luma[1], luma[0], full=True, **options)
        assert found.ssim_y == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-6)


def test_all_models_see_all_images_once(images: list[ValidationImage]) -> None:
    seen = []
    models = {"bicubic": bicubic_model(2), "black": lambda lr: torch.zeros(3, 2 * lr.shape[1], 2 * lr.shape[2])}
    scores = evaluate_models(models, iter(images), 0, lambda image, model: seen.append((image.name, model)))
    assert seen == [("i0", "bicubic"), ("i0", "black"), ("i1", "bicubic"), ("i1", "black")]
    assert scores["bicubic"]["i0"].psnr > scores["black"]["i0"].psnr


def test_a_network_s_output_is_clamped_and_needs_no_gradient() -> None:
    generator = build_generator(GeneratorConfig(features=4, blocks=1, growth=4), 2).eval()
    torch.nn.init.constant_(generator.get_parameter("conv_last.bias"), 5.0)
    sr = network_model(generator)(torch.rand(3, 6, 7))
    assert sr.shape == (3, 12, 14)
    assert sr.max() == 1
    assert not sr.requires_grad


def test_the_table_and_the_file_hold_means_and_settings(tmp_path: Path) -> None:
    scores = {"bicubic": {"a": Scores(20, 0.5, 21, 0.6), "b": Scores(30, 0.7, 31, 0.8)}}
    assert mean_scores(scores["bicubic"]) == Scores(25, pytest.approx(0.6), 26, pytest.approx(0.7))
    head, row, note = format_table(scores, crop=4).splitlines()
    assert head.split() == ["PSNR", "dB", "SSIM", "PSNR-Y", "dB", "SSIM-Y"]
    assert row.split() == ["bicubic", "25.00", "0.6000", "26.00", "0.7000"]
    assert "2 images" in note
    assert "4 border pixels" in note
    write_scores(tmp_path / "new" / "metrics.json", scores, crop=4)
    content = json.loads((tmp_path / "new" / "metrics.json").read_text())
    assert content["crop"] == 4
    assert content["models"]["bicubic"]["mean"]["psnr"] == 25
    assert content["models"]["bicubic"]["images"]["b"] == {"psnr": 30, "ssim": 0.7, "psnr_y": 31, "ssim_y": 0.8}


def test_an_image_that_is_too_small_is_named() -> None:
    image = ValidationImage("tiny", torch.rand(3, 6, 6), torch.rand(3, 12, 12))
    with pytest.raises(UserError, match=r"tiny: cannot be scored \(SSIM needs at least 11x11"):
        evaluate_models({"bicubic": bicubic_model(2)}, [image], crop=2)
