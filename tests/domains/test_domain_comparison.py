"""Two sets of photos of a simulated camera, and of that camera without its noise or blur."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from realsr.data.degradations.noise import Noise
from realsr.domains.comparison import Domain, DomainComparison, compare_domains, measure_domain
from realsr.imaging import write_uint8
from realsr.reporting.domain_report import describe_domains, draw_domains, format_domains

Make = Callable[..., Domain]


def scene(name: str) -> np.ndarray:
    """Blocks of many sizes on smooth shading (192, 256, 3), 0..255."""
    rng = np.random.default_rng(list(name.encode()))
    layers = [
        ndimage.zoom(rng.normal(size=(192 // step, 256 // step, 3)), (step, step, 1), order=0)
        for step in (64, 16, 8)
    ]
    mask = ndimage.zoom(rng.random((3, 4)), (64, 64), order=0)[..., None] > 0.4  # else: flat
    return 120 + 25 * layers[0] + mask * (20 * layers[1] + 12 * layers[2])


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    def make(names: str, blur: float, noise: float, **keys: object) -> Domain:
        folder, paths = tmp_path_factory.mktemp("photos"), []
        for name in names:
            image = ndimage.gaussian_filter(scene(name), (blur, blur, 0))
            image += noise * np.random.default_rng(list(name.encode())).normal(size=image.shape)
            paths.append(folder / f"{name}.png")
            write_uint8(paths[-1], np.rint(image.clip(1, 254)).astype(np.uint8))
        return measure_domain(paths, 64, 0, 0, "refuse", keys.get("degradation"))

    return make


@pytest.fixture(scope="module")
def camera(make: Make) -> Domain:
    return make("abcdef", 1.2, 3)


@pytest.fixture(scope="module")
def clean(camera: Domain, make: Make) -> DomainComparison:
    return compare_domains(camera, make("uvwxyz", 0.5, 0), seed=0)


def test_other_scenes_of_the_same_camera_are_hard_to_tell(camera: Domain, make: Make) -> None:
    result = compare_domains(camera, make("uvwxyz", 1.2, 3), seed=0)
    assert result.accuracy.value < 0.65
    assert result.distance.value < 0.05
    assert {"noise", "edge_width", "fine_detail"}.isdisjoint(
        finding.quantity.name for finding in result.findings if finding.is_clear
    )


def test_sharp_images_without_noise_are_told_apart(clean: DomainComparison) -> None:
    assert clean.accuracy.value > 0.9
    assert clean.accuracy.low > clean.halves.value
    assert clean.distance.value > 0.3
    differences = {f.quantity.name: f for f in clean.findings if f.is_clear}
    assert differences["noise"].difference < 0
    assert differences["edge_width"].difference < 0
    assert "wider kernels" in differences["edge_width"].advice
    assert "Largest difference" in clean.summarise()
    assert len(clean.b.without_noise) >= 4


def test_less_noise_is_measured_and_named_with_its_key(camera: Domain, make: Make) -> None:
    result = compare_domains(camera, make("uvwxyz", 1.2, 1.2), seed=0)
    noise = next(finding for finding in result.findings if finding.quantity.name == "noise")
    assert noise.is_clear
    assert noise.a == pytest.approx(3, rel=0.1)
    assert noise.b == pytest.approx(1.2, rel=0.15)
    assert "online_degradation=noise" in noise.advice


def test_noise_of_the_online_degradation_is_part_of_b(camera: Domain, make: Make) -> None:
    rng = np.random.default_rng(0)
    patches = [np.rint(120 + 3 * rng.normal(size=(64, 64, 3))).astype(np.uint8) for _ in range(20)]
    noisy = make("uvwxyz", 1.2, 0, degradation=Noise("random", patches))
    result = compare_domains(camera, noisy, seed=0)
    noise = next(finding for finding in result.findings if finding.quantity.name == "noise")
    assert noise.b == pytest.approx(noise.a, rel=0.1)


def test_one_photo_has_no_interval_and_no_score(make: Make) -> None:
    result = compare_domains(make("a", 1.2, 3), make("xyz", 1.2, 3), seed=0)
    assert np.isnan(result.accuracy.value)
    assert "two photos of each are needed" in result.summarise()
    facts = describe_domains(result)
    assert facts["accuracy"]["value"] is None
    assert facts["a"]["statistics"]["noise_level"]["low"][0][0] is None
    assert draw_domains(result).shape[2] == 3


def test_sets_without_common_contrast_have_no_score(make: Make) -> None:
    sides = [make("abcd", 0, 0), make("abcd", 0, 0)]
    for domain, contrast in zip(sides, (0, 9), strict=True):
        for photo in domain.photos:
            photo.content[:, 1] = contrast + np.linspace(0, 1, len(photo.content))
    result = compare_domains(*sides, seed=0)
    assert np.isnan(result.accuracy.value)
    assert result.overlap == 0
    assert "patches of equal contrast are needed" in result.summarise()


def test_the_report_has_every_number(clean: DomainComparison) -> None:
    facts = json.loads(json.dumps(describe_domains(clean), allow_nan=False))
    assert facts["quantities"]["noise"]["clear"]
    level = np.array(facts["a"]["statistics"]["noise_level"]["mean"], float)
    assert level.shape == (3, 8)
    assert np.nanmedian(level) == pytest.approx(3, rel=0.1)
    table = format_domains(clean)
    assert "without measurable noise: " in table
    assert "classifier between two halves of a" in table


def test_the_result_does_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    paths = []
    for name in "ab":
        paths.append(tmp_path / f"{name}.png")
        write_uint8(paths[-1], scene(name).clip(0, 255).astype(np.uint8))
    first, second = (measure_domain(paths, 4, 0, workers, "refuse", None) for workers in (0, 2))
    for a, b in zip(first.photos, second.photos, strict=True):
        np.testing.assert_array_equal(a.features, b.features)
