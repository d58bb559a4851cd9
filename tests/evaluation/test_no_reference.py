"""NIQE, BRISQUE, PIQE, NRQM and PI against pyiqa's own calls with the same random parameters."""

from collections.abc import Callable
from pathlib import Path

import pytest
import scipy.io
import torch
from metric_components import load
from torch import Tensor

from realsr.core.errors import WeightsError
from realsr.evaluation.metric import ImageMetric
from realsr.evaluation.metrics import no_reference
from realsr.evaluation.metrics.no_reference import (
    BRISQUE_FILE,
    NIQE_FILE,
    NRQM_FILE,
    Quality,
    load_brisque,
    load_niqe,
    load_nrqm,
    load_piqe,
)

pyiqa = pytest.importorskip("pyiqa", reason="pyiqa is not installed")
pytestmark = pytest.mark.usefixtures("no_network", "one_thread")

NAMES = ["niqe", "brisque", "piqe", "nrqm", "pi"]


def photo(height: int, width: int, top: int = 0, left: int = 0) -> Tensor:
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    crop = data.astronaut()[top : top + height, left : left + width]
    return torch.from_numpy(crop).permute(2, 0, 1) / 255


def gray_photo(height: int, width: int) -> Tensor:
    """Three equal channels: gray needs no rounding there."""
    levels = photo(height, width).mul(255).mean(0).round() / 255
    return levels.expand(3, -1, -1)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_the_library_s_number(
    name: str, full_hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where it looks before it downloads; it takes that from torch hub once, when it is imported.
    monkeypatch.setattr("pyiqa.utils.download_util.DEFAULT_CACHE_DIR", str(full_hub / "pyiqa"))
    options = (
        {"crop_border": 0} if name == "pi" else {}
    )  # what protocols leave out is left out before
    library = pyiqa.create_metric(name, device=torch.device("cpu"), **options)
    # PIQE's own call is MATLAB's for whole blocks of gray only, see below.
    image = gray_photo(112, 208) if name == "piqe" else photo(100, 192)
    metric = load([name])[name]
    assert isinstance(metric, ImageMetric)
    assert not metric.needs_hr
    assert metric.higher_is_better != library.lower_better
    assert metric.compute(image) == pytest.approx(float(library(image[None])), rel=1e-4)


def test_pi_is_that_of_the_challenge_and_of_y(
    cpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NTIRE 2020's own numbers of Impressionism and of bicubic."""
    colors = []

    def part(value: float) -> Callable[..., Quality]:
        def load(parameters: Path, device: torch.device, color: str) -> Quality:
            colors.append(color)
            return lambda image: value

        return load

    for niqe, nrqm, expected in ((5.00, 6.50, 4.25), (7.97, 3.16, 7.40)):
        monkeypatch.setattr(no_reference, "load_niqe", part(niqe))
        monkeypatch.setattr(no_reference, "load_nrqm", part(nrqm))
        assert no_reference.load_pi(Path(), Path(), cpu)(torch.zeros(3, 8, 8)) == pytest.approx(
            expected, abs=0.006
        )
    assert colors == 4 * ["ycbcr"]


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(64, 96, 39.8927), (65, 97, 33.2237), (300, 451, 35.1061)]
)
def test_piqe_of_any_size_is_that_of_a_port_of_matlab_s(
    height: int, width: int, expected: float
) -> None:
    """The numbers are pypiqe 1.2's, a line-by-line port."""
    assert load_piqe(torch.device("cpu"))(photo(height, width)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "smallest", "below", "message"),
    [
        ("niqe", (96, 192), (96, 191), "room for two blocks of 96x96 pixels, got 191x96"),
        ("brisque", (16, 16), (16, 15), "at least 16x16 pixels, got 15x16"),
        ("piqe", (16, 16), (16, 15), "at least 16x16 pixels, got 15x16"),
        ("nrqm", (100, 100), (100, 99), "at least 100x100 pixels, got 99x100"),
        ("pi", (100, 192), (100, 191), "room for two blocks"),
    ],
)
def test_each_tells_its_smallest_image_and_can_do_it(
    name: str, smallest: tuple[int, int], below: tuple[int, int], message: str, full_hub: Path
) -> None:
    metric = load([name])[name]
    assert isinstance(metric, ImageMetric)
    assert abs(metric.compute(photo(*smallest, 100, 200))) < 1e6
    with pytest.raises(ValueError, match=message):
        metric.compute(photo(*below, 100, 200))


@pytest.mark.parametrize(
    ("name", "level", "expected"),
    [
        ("niqe", 0.5, None),
        ("brisque", 0.5, None),
        ("piqe", 0.0, None),
        ("piqe", 0.5, 100),
        ("nrqm", 0.5, None),
    ],
)
@pytest.mark.filterwarnings("ignore:cov")
def test_a_flat_image_is_an_error_or_a_number_and_never_nan(
    name: str, level: float, expected: float | None, full_hub: Path
) -> None:
    metric = load([name])[name]
    assert isinstance(metric, ImageMetric)
    image = torch.full((3, 100, 192), level)
    if expected is None:
        with pytest.raises(ValueError, match=r"is the image flat\?"):
            metric.compute(image)
    else:
        assert metric.compute(image) == expected


def test_files_of_something_else_are_errors_that_name_them(
    hub: Path, cpu: torch.device, tmp_path: Path
) -> None:
    niqe, nrqm = hub / "pyiqa/niqe_modelparameters.mat", hub / "pyiqa/NRQM_model.mat"
    with pytest.raises(
        WeightsError, match=r"NRQM_model\.mat: not the model of natural images .*the file has \w+"
    ):
        load_niqe(nrqm, cpu)
    with pytest.raises(
        WeightsError, match=r"niqe_modelparameters\.mat: not NRQM's regression forests"
    ):
        load_nrqm(niqe, cpu)
    other = tmp_path / "other.mat"
    other.write_bytes(b"half a file")
    with pytest.raises(
        WeightsError, match=r"other\.mat: not a readable \.mat file: it is a text .*Expected: the"
    ):
        load_niqe(other, cpu)
    scipy.io.savemat(other, {"mu_prisparam": [[1, 2]], "cov_prisparam": [[1, 2], [3, 4]]})
    with pytest.raises(WeightsError, match=r"are \(2,\) and \(2, 2\), expected \(36,\)"):
        load_niqe(other, cpu)
    for content in (
        {"a": torch.zeros(2)},
        (torch.zeros(5), torch.zeros(5, 30)),
        (torch.zeros(4), torch.zeros(5, 36)),
    ):
        torch.save(content, tmp_path / "svm.pth")
        with pytest.raises(
            WeightsError, match=r"svm\.pth: expected BRISQUE's support vectors, a pair"
        ):
            load_brisque(tmp_path / "svm.pth", cpu)


class Code:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.target,)


def test_a_pickle_with_code_is_refused_and_not_run(cpu: torch.device, tmp_path: Path) -> None:
    path, target = tmp_path / "svm.pth", tmp_path / "ran"
    torch.save((torch.zeros(5), Code(target)), path)
    with pytest.raises(WeightsError, match=r"svm\.pth: holds Python objects .*refused"):
        load_brisque(path, cpu)
    assert not target.exists()


def test_the_files_are_those_that_the_library_would_download() -> None:
    from pyiqa.archs import brisque_arch, niqe_arch, nrqm_arch

    for file, library in (
        (NIQE_FILE, niqe_arch),
        (BRISQUE_FILE, brisque_arch),
        (NRQM_FILE, nrqm_arch),
    ):
        assert file.url == library.default_model_urls["url"]
