import shutil
import sys
from pathlib import Path

import pytest
import torch

from realsr.core.errors import UserError
from realsr.evaluation.load_metrics import METRICS, load_metrics
from realsr.evaluation.metric import ImageMetric, SetMetric
from realsr.evaluation.metric_files import WEIGHT_FILES, MetricFiles, locate
from realsr.evaluation.metrics import psnr, ssim

pytestmark = pytest.mark.usefixtures("no_network", "no_initialisation", "one_thread")


def test_what_needs_no_file_is_what_it_was(empty_hub: Path, cpu: torch.device) -> None:
    names = ["ssim_y", "psnr", "ssim", "psnr_y"]
    metrics = load_metrics([*names, "psnr"], MetricFiles(), cpu)
    assert list(metrics) == names
    a, b = (torch.randint(0, 256, (3, 16, 18), generator=torch.Generator().manual_seed(i)) / 255 for i in (0, 1))
    expected = [ssim(a, b, luma=True), psnr(a, b), ssim(a, b), psnr(a, b, luma=True)]
    assert [metric.compute(a, b) for metric in metrics.values() if isinstance(metric, ImageMetric)] == expected
    assert all(metric.higher_is_better for metric in metrics.values() if isinstance(metric, ImageMetric))
    with pytest.raises(ValueError, match="psnr needs HR"):
        metrics["psnr"].compute(a, None)


def test_all_that_is_missing_is_told_at_once_and_nothing_is_downloaded(empty_hub: Path, cpu: torch.device) -> None:
    for library in ("torchmetrics", "torch_fidelity", "pyiqa"):
        pytest.importorskip(library, reason=f"{library} is not installed")
    with pytest.raises(UserError) as caught:
        load_metrics([*METRICS, "psnrr"], MetricFiles(brisque=Path("nowhere.pth")), cpu)
    lines = str(caught.value).splitlines()
    assert len(lines) == 8
    checkpoints = empty_hub / "checkpoints"
    assert lines[0].startswith(
        f"lpips_alex: torchvision's AlexNet weights are not here: put alexnet-owt-7be5be79.pth into {checkpoints}, "
        "or say metric_files.alexnet=FILE. It is at https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
    )
    assert lines[1].startswith("lpips_vgg, dists: torchvision's VGG16 weights are not here: put vgg16-397923af.pth")
    assert lines[3].startswith("fid, kid: the Inception weights of FID are not here: put weights-inception-2015")
    assert lines[4].startswith("niqe, pi: ")
    assert f"put niqe_modelparameters.mat into {empty_hub / 'pyiqa'}" in lines[4]
    assert lines[5].startswith("brisque: metric_files.brisque=nowhere.pth: there is no such file; expected BRISQUE's")
    assert lines[7].startswith("psnrr: there is no such metric; there are psnr, psnr_y, ssim")


def test_a_damaged_file_is_told_beside_what_is_missing(empty_hub: Path, cpu: torch.device, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"half a file")
    with pytest.raises(
        UserError, match=r"(?s)lpips_alex: .*broken\.pth: is a text .*file.*\nlpips_squeeze: torchvision"
    ):
        load_metrics(["lpips_alex", "lpips_squeeze"], MetricFiles(alexnet=broken), cpu)


@pytest.mark.parametrize(
    ("library", "metric", "said"),
    [
        ("torchmetrics", "dists", r"dists: torchmetrics not installed: pip install 'realsr\[metrics\]'"),
        ("torch_fidelity", "kid", r"kid: torch_fidelity not installed: pip install 'realsr\[metrics\]'"),
        ("pyiqa", "piqe", r"piqe: pyiqa not installed: pip install 'realsr\[iqa\]' && .*pyiqa==.*Noncommercial"),
    ],
)
def test_a_missing_library_is_told_with_what_installs_it(
    library: str, metric: str, said: str, empty_hub: Path, cpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", type(sys)("huggingface_hub"))
    sys.modules["huggingface_hub"].__spec__ = object()  # as if it were there
    with pytest.raises(UserError, match=said):
        load_metrics([metric], MetricFiles(), cpu)


def test_fid_and_kid_share_one_network(inception: Path, empty_hub: Path, cpu: torch.device) -> None:
    """Found under the name that pytorch-fid gives to the file, too."""
    cached = empty_hub / "checkpoints/pt_inception-2015-12-05-6726825d.pth"
    cached.parent.mkdir(parents=True)
    shutil.copy(inception, cached)
    metrics = load_metrics(["fid", "kid"], MetricFiles(), cpu)
    fid, kid = metrics.values()
    assert isinstance(fid, SetMetric)
    assert isinstance(kid, SetMetric)
    assert fid.features is kid.features


def test_a_given_file_is_taken_before_the_cached_one(full_hub: Path, tmp_path: Path) -> None:
    for key in vars(MetricFiles()):
        assert WEIGHT_FILES[key].url.startswith("https://")
        if key != "inception":
            assert locate(key, None) == full_hub / WEIGHT_FILES[key].cached[0]
        assert locate(key, tmp_path / "nowhere") is None
        (tmp_path / key).touch()
        assert locate(key, tmp_path / key) == tmp_path / key


def test_the_same_image_is_the_best_for_every_comparison(full_hub: Path, cpu: torch.device) -> None:
    # VGG16 has its turn beside the libraries' own calls, on smaller images.
    names = [name for name, recipe in METRICS.items() if not recipe.libraries and "vgg16" not in recipe.files]
    generator = torch.Generator().manual_seed(0)
    hr = torch.randint(0, 256, (3, 176, 176), generator=generator) / 255
    sr = (hr + 0.1 * torch.randn(hr.shape, generator=generator)).clamp(0, 1).mul(255).round() / 255
    for metric in load_metrics(names, MetricFiles(), cpu).values():
        assert isinstance(metric, ImageMetric)
        best, worse = metric.compute(hr, hr), metric.compute(sr, hr)
        assert best > worse if metric.higher_is_better else best < worse
