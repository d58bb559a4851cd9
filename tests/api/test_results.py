"""Results of realsr.api: what they accept, and how a notebook shows them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realsr import api
from realsr.imaging.kernel_shapes import save_kernel


def test_a_pool_of_a_path_as_text(tmp_path: Path) -> None:
    for folder in ("kernels", "noise"):
        (tmp_path / folder).mkdir()
    save_kernel(tmp_path / "kernels" / "a_kernel_x4.mat", np.full((3, 3), 1 / 9))
    api.write_image(tmp_path / "noise" / "a.png", np.full((4, 5, 3), 7, np.uint8))
    for pool in (api.Pool(tmp_path), api.Pool(str(tmp_path))):
        assert pool.kernels(4)["a_kernel_x4.mat"].shape == (3, 3)
        assert pool.noise()["a.png"].shape == (4, 5, 3)
        assert repr(pool) == f"Pool(folder={pool.folder!r})"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two photos with flat, noisy tiles beside texture, as keys of the stages."""
    folder, rng = tmp_path_factory.mktemp("results"), np.random.default_rng(0)
    for name in "ab":
        photo = rng.integers(0, 256, (256, 256, 3), np.uint8)
        photo[:128] = np.clip(rng.normal(100, 3, (128, 256, 3)), 0, 255)
        (folder / "photos").mkdir(exist_ok=True)
        api.write_image(folder / "photos" / f"{name}.png", photo)
    return {"track": "dped", "data": {"source": folder / "photos"}, "work_dir": folder / "work"}


def show(result: Any, *parts: str) -> None:
    """Assert that a result is shown in a few lines with these parts."""
    text = repr(result)
    assert len(text.splitlines()) <= 12
    assert len(text) < 1000
    assert str(result) == text
    for part in parts:
        assert part in text


def test_the_stages_show_counts_and_folders(keys: dict[str, Any]) -> None:
    photos, work = keys["data"]["source"], keys["work_dir"]
    [report] = api.check_data(**keys, loss={"pixel": {}}).values()
    show(report, "FolderReport(2 photos, 0 unreadable)")
    kernels = api.estimate_kernels(**keys, kernels="gaussian", workers=0)
    show(kernels, "KernelPool(", f"0 rejected, in {work / 'pool'}")
    survey = api.survey_noise(**keys, noise={"size": 64, "stride": 64}, workers=0)
    show(survey, f"Survey(2 photos of {photos}, 0 failed; 32 tiles, 16 to collect)")
    show(api.make_pairs(**keys, workers=0, compare=False), "count=2", str(work))


def test_a_comparison_shows_its_summary(keys: dict[str, Any], tmp_path: Path) -> None:
    photos = keys["data"]["source"]
    result = api.compare_domains(a=photos, b=photos, output=tmp_path, workers=0)
    show(result, f"a=DomainStatistics(2 photos of {photos})", result.summarise())


def test_an_evaluation_shows_its_table(keys: dict[str, Any]) -> None:
    folder = keys["data"]["source"]
    protocol = {"metrics": ["psnr", "ssim"]}
    report = api.evaluate(weights=["bicubic"], data={"hr": folder}, scale=2, protocol=protocol)
    score = f"{report.means['bicubic']['psnr'].mean:.2f}"
    show(report, "Report of 2 images", "psnr", "ssim", "bicubic", score)


def test_a_plan_and_a_model_are_short(keys: dict[str, Any]) -> None:
    generator = {"features": 4, "blocks": 1, "growth": 4}
    plan = api.plan(**keys, generator=generator, loss={"perceptual": {"weight": 0}})
    show(plan, "TrainingPlan(60000 steps, 16 crops of 128x128)", "A100 (bf16): ", " hours")
    model = api.load_model("bicubic", scale=2)
    show(model, "SRModel(scale=2, device=device(type='cpu')")
    assert "function" not in repr(model)
