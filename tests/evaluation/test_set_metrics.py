"""FID and KID against torch-fidelity's own call on folders of the same images."""

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from metric_components import load
from torch import Tensor

from realsr.core.errors import WeightsError
from realsr.evaluation.metric import SetMetric
from realsr.evaluation.metrics.fid import FID, load_inception
from realsr.imaging import write_uint8

torch_fidelity = pytest.importorskip("torch_fidelity", reason="torch-fidelity is not installed")
pytestmark = pytest.mark.usefixtures("no_network", "no_initialisation", "one_thread")


def photos(noise: float, count: int) -> list[Tensor]:
    """Crops of a photo of one size (the library wants that), in 8 bit, with noise."""
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    generator = torch.Generator().manual_seed(count)
    photo = torch.from_numpy(data.coffee()).permute(2, 0, 1) / 255
    crops = [photo[:, 60 * i : 60 * i + 50, 90 * i : 90 * i + 70] for i in range(count)]
    noisy = [crop + noise * torch.randn(crop.shape, generator=generator) for crop in crops]
    return [image.clamp(0, 1).mul(255).round() / 255 for image in noisy]


def write(folder: Path, images: Sequence[Tensor]) -> str:
    folder.mkdir()
    for index, image in enumerate(images):
        write_uint8(
            folder / f"{index}.png", np.rint(image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        )
    return str(folder)


def library_s_numbers(
    sr: list[Tensor], hr: list[Tensor], inception: Path, folder: Path, **asked: object
):
    return torch_fidelity.calculate_metrics(
        input1=write(folder / "sr", sr),
        input2=write(folder / "hr", hr),
        feature_extractor_weights_path=str(inception),
        cuda=False,
        cache=False,
        save_cpu_ram=True,  # no worker processes
        verbose=False,
        **asked,
    )


def test_kid_is_the_library_s_number(inception: Path, tmp_path: Path) -> None:
    sr, hr = photos(0.1, 4), photos(0, 5)
    metric = load(["kid"], inception=inception)["kid"]
    assert isinstance(metric, SetMetric)
    features = [torch.cat([metric.features(image) for image in images]) for images in (sr, hr)]
    assert features[0].shape == (4, 2048)
    expected = library_s_numbers(sr, hr, inception, tmp_path, kid=True, kid_subset_size=4)
    found = metric.distance(*features)
    assert found > 1e-5
    assert found == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-3)


@pytest.mark.slow  # the eigenvalues of 2048x2048, twice
def test_fid_is_the_library_s_number(inception: Path, tmp_path: Path) -> None:
    sr, hr = photos(0.1, 3), photos(0, 3)
    metrics = load(["fid", "kid"], inception=inception)
    metric = metrics["fid"]
    assert isinstance(metric, SetMetric)
    assert (
        metric.features is metrics["kid"].features
    )  # a network of its own for each would be a waste
    features = [torch.cat([metric.features(image) for image in images]) for images in (sr, hr)]
    expected = library_s_numbers(sr, hr, inception, tmp_path, fid=True)
    found = metric.distance(*features)
    assert found > 0.01
    assert found == pytest.approx(expected["frechet_inception_distance"], rel=1e-3)


def features_of(mean: float, count: int) -> Tensor:
    return mean + torch.randn(count, 6, generator=torch.Generator().manual_seed(count))


@pytest.fixture
def kid(inception: Path) -> Callable[[Tensor, Tensor], float]:
    return load(["kid"], inception=inception)["kid"].distance


def test_known_distances(kid: Callable[[Tensor, Tensor], float]) -> None:
    """Sets that differ by a shift alone: FID is its squared length. Others: Heusel's formula."""
    a = features_of(0, 40)
    shift = torch.tensor([1.0, 0, 2, 0, 0, 0])
    assert FID.distance(a, a) == pytest.approx(0, abs=1e-6)
    assert FID.distance(a, a + shift) == pytest.approx(5, rel=1e-5)
    b = (
        features_of(1, 30).double()
        @ torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).double()
    )
    covariances = [np.cov(x.numpy(), rowvar=False) for x in (a, b)]
    expected = (a.mean(0) - b.mean(0)).square().sum() + sum(np.trace(c) for c in covariances)
    expected -= 2 * np.trace(scipy.linalg.sqrtm(covariances[0] @ covariances[1])).real
    assert FID.distance(a.double(), b) == pytest.approx(float(expected), rel=1e-6)
    assert abs(kid(a[:20], a[20:])) < 0.5 < kid(a, a + 2 * shift)
    assert kid(a, features_of(1, 30)) == kid(a, features_of(1, 30))


def test_kid_of_few_images_takes_them_all_and_is_the_unbiased_estimate(
    kid: Callable[[Tensor, Tensor], float],
) -> None:
    a, b = features_of(0, 7).double(), features_of(1, 7).double()

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    own = sum((kernel(x, x).sum() - kernel(x, x).trace()) / (7 * 6) for x in (a, b))
    assert kid(a, b) == pytest.approx(float(own - 2 * kernel(a, b).mean()), rel=1e-9)


def test_one_image_is_no_set(kid: Callable[[Tensor, Tensor], float]) -> None:
    for name, metric in (("FID", FID.distance), ("KID", kid)):
        with pytest.raises(
            ValueError, match=f"{name} compares sets of at least 2 images, got 1 and 5"
        ):
            metric(torch.zeros(1, 6), torch.zeros(5, 6))


def test_wrong_files_are_errors_that_name_them(cpu: torch.device, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"conv.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(
        WeightsError,
        match=r"other\.pth: .* FID's Inception network.*\(the file has conv\.weight\)",
    ):
        load_inception(path, cpu)
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match=r"other\.pth: 0 is a int; expected a tensor"):
        load_inception(path, cpu)


class Code:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.target,)


def test_a_pickle_with_code_is_refused_and_not_run(cpu: torch.device, tmp_path: Path) -> None:
    path, target = tmp_path / "inception.pth", tmp_path / "ran"
    torch.save({"fc.weight": Code(target)}, path)
    with pytest.raises(WeightsError, match=r"inception\.pth: holds Python objects .*refused"):
        load_inception(path, cpu)
    path.write_bytes(pickle.dumps(Code(target), protocol=2))
    with pytest.raises(WeightsError, match=r"inception\.pth: holds Python objects .*refused"):
        load_inception(path, cpu)
    assert not target.exists()
