import shutil
import sys
from pathlib import Path

import pytest
import torch
from metric_components import NAMES, VALUES, load

from realsr.core.errors import UserError
from realsr.evaluation.metric import ImageMetric, SetMetric, WeightFile, load_metrics
from realsr.evaluation.metrics.fid import INCEPTION
from realsr.evaluation.metrics.lpips import ALEXNET, SQUEEZENET, VGG16
from realsr.evaluation.metrics.no_reference import BRISQUE_FILE, NIQE_FILE, NRQM_FILE
from realsr.evaluation.metrics.psnr import psnr
from realsr.evaluation.metrics.ssim import ssim

pytestmark = pytest.mark.usefixtures("no_network", "no_initialisation", "one_thread")


def test_what_needs_no_file_is_what_it_was(empty_hub: Path) -> None:
    names = ["ssim_y", "psnr", "ssim", "psnr_y"]
    metrics = load([*names, "psnr"])
    assert list(metrics) == names
    a, b = (
        torch.randint(0, 256, (3, 16, 18), generator=torch.Generator().manual_seed(i)) / 255
        for i in (0, 1)
    )
    expected = [ssim(a, b, luma=True), psnr(a, b), ssim(a, b), psnr(a, b, luma=True)]
    assert [
        metric.compute(a, b) for metric in metrics.values() if isinstance(metric, ImageMetric)
    ] == expected
    assert all(
        metric.higher_is_better for metric in metrics.values() if isinstance(metric, ImageMetric)
    )


def test_all_that_is_missing_is_told_at_once_and_nothing_is_downloaded(empty_hub: Path) -> None:
    for library in ("torchmetrics", "torch_fidelity", "pyiqa"):
        pytest.importorskip(library, reason=f"{library} is not installed")
    with pytest.raises(UserError) as caught:
        load([*NAMES, "psnrr"], brisque=Path("nowhere.pth"))
    lines = {
        line.partition(":")[0]: line.partition(": ")[2] for line in str(caught.value).splitlines()
    }
    assert len(lines) == 8
    checkpoints = empty_hub / "checkpoints"
    assert lines["lpips_alex"].startswith(
        "torchvision's AlexNet weights are missing: run python -m realsr.fetch what=[alexnet], put "
        "alexnet-owt-7be5be79.pth from https://download.pytorch.org/models/alexnet-owt-7be5be79.pth "
        f"into {checkpoints}, or set metric_files.alexnet=FILE"
    )
    assert lines["dists, lpips_vgg"].startswith(
        "torchvision's VGG16 weights are missing: run python -m realsr.fetch what=[vgg16]"
    )
    assert lines["fid, kid"].startswith(
        "the Inception weights of FID are missing: run python -m realsr.fetch what=[inception]"
    )
    assert "put niqe_modelparameters.mat from https://huggingface.co" in lines["niqe, pi"]
    assert f"into {empty_hub / 'pyiqa'}, or set metric_files.niqe=FILE" in lines["niqe, pi"]
    assert lines["brisque"].startswith(
        "metric_files.brisque=nowhere.pth: there is no such file; expected BRISQUE's"
    )
    assert lines["psnrr"].startswith("unknown metric; choose from brisque, dists, fid")


def test_optional_metrics_are_left_out_for_weights_and_libraries_alone(
    empty_hub: Path,
    tmp_path: Path,
    cpu: torch.device,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def load_optional(names: list[str], **files: Path) -> list[str]:
        return list(load_metrics(names, VALUES, files, cpu, optional=True))

    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    caplog.set_level("INFO")
    assert load_optional(["psnr", "lpips_alex", "dists"]) == ["psnr"]
    assert "left out: lpips_alex: torchvision's AlexNet weights are missing: run" in caplog.text
    assert "left out: dists: torchmetrics not installed: pip install" in caplog.text
    with pytest.raises(UserError, match="lpips_alex: torchvision's AlexNet weights are missing"):
        load_optional(["lpips_alex"])  # none remains
    with pytest.raises(UserError, match=r"metric_files\.alexnet=.*nowhere: there is no such file"):
        load_optional(["psnr", "lpips_alex"], alexnet=tmp_path / "nowhere")
    (tmp_path / "damaged.pth").write_bytes(b"half a file")
    with pytest.raises(UserError, match=r"damaged\.pth: is a text"):
        load_optional(["psnr", "lpips_alex"], alexnet=tmp_path / "damaged.pth")


def test_a_damaged_file_is_told_beside_what_is_missing(empty_hub: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"half a file")
    with pytest.raises(
        UserError,
        match=r"(?s)lpips_alex: .*broken\.pth: is a text .*file.*\nlpips_squeeze: torchvision",
    ):
        load(["lpips_alex", "lpips_squeeze"], alexnet=broken)


@pytest.mark.parametrize(
    ("library", "metric", "message"),
    [
        (
            "torchmetrics",
            "dists",
            r"dists: torchmetrics not installed: pip install 'realsr\[metrics\]'",
        ),
        (
            "torch_fidelity",
            "kid",
            r"kid: torch_fidelity not installed: pip install 'realsr\[metrics\]'",
        ),
        (
            "pyiqa",
            "piqe",
            r"piqe: pyiqa not installed: pip install 'realsr\[iqa\]' && .*pyiqa==.*Noncommercial",
        ),
    ],
)
def test_a_missing_library_is_told_with_what_installs_it(
    library: str, metric: str, message: str, empty_hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", type(sys)("huggingface_hub"))
    sys.modules["huggingface_hub"].__spec__ = object()  # as if it were there
    with pytest.raises(UserError, match=message):
        load([metric])


def test_fid_and_kid_share_one_network(inception: Path, empty_hub: Path) -> None:
    """Found under the name that pytorch-fid gives to the file, too."""
    cached = empty_hub / "checkpoints/pt_inception-2015-12-05-6726825d.pth"
    cached.parent.mkdir(parents=True)
    shutil.copy(inception, cached)
    fid, kid = load(["fid", "kid"]).values()
    assert isinstance(fid, SetMetric)
    assert isinstance(kid, SetMetric)
    assert fid.features is kid.features


@pytest.mark.parametrize(
    "file", [ALEXNET, VGG16, SQUEEZENET, NIQE_FILE, BRISQUE_FILE, NRQM_FILE, INCEPTION]
)
def test_a_given_file_is_taken_before_the_cached_one(
    file: WeightFile, full_hub: Path, tmp_path: Path
) -> None:
    assert file.url.startswith("https://")
    if file is not INCEPTION:
        assert file.locate() == full_hub / file.cache_names[0]
    assert file.locate(tmp_path / "nowhere") is None
    (tmp_path / file.key).touch()
    assert file.locate(tmp_path / file.key) == tmp_path / file.key


def test_values_of_another_kind_and_classes_that_are_no_metric_are_told(cpu: torch.device) -> None:
    values = VALUES | {
        "lpips": {"name": "lpips", "net": "resnet"},
        "bare": {"name": "ssim", "window": "gaussian"},
        "path": {"name": "pathlib.Path"},
    }
    with pytest.raises(UserError) as caught:
        load_metrics(["lpips", "bare", "path"], values, {}, cpu)
    lpips, bare, path = str(caught.value).splitlines()
    assert lpips == "lpips: metric.lpips.net=resnet: expected one of alex, vgg, squeeze"
    assert bare == "bare: metric.bare: ssim needs luma: set metric.bare.luma=…"
    assert path.startswith(
        "path: metric.path.name=pathlib.Path: not a metric, expected attributes digits, higher_is_better"
    )


def test_a_metric_of_one_s_own_is_a_class_and_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu: torch.device
) -> None:
    (tmp_path / "brightness_metric.py").write_text(
        "class Brightness:\n"
        "    higher_is_better, needs_hr, digits = True, False, 2\n\n"
        "    def __init__(self, gain: float) -> None:\n"
        "        self.gain = gain\n\n"
        "    def compute(self, sr):\n"
        "        return self.gain * float(sr.mean())\n"
    )
    monkeypatch.chdir(tmp_path)
    values = {"brightness": {"name": "brightness_metric.Brightness", "gain": 2}}
    metric = load_metrics(["brightness"], values, {}, cpu)["brightness"]
    assert isinstance(metric, ImageMetric)
    assert metric.compute(torch.full((3, 4, 4), 0.25)) == 0.5
