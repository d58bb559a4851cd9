from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage, stats

from config_files import yaml_values
from realsr.core.errors import UserError
from realsr.imaging.kernel_shapes import compose_x4, load_kernel
from realsr.kernels.gaussian import draw_div2krk, gaussian_covariance, gaussian_kernel
from realsr.pools.contents import list_kernels
from realsr.provenance.manifest import read_manifest
from stages import estimate_kernels


def draw_kernel(rng, **changes):
    names = {
        "isotropic": "isotropic",
        "eigenvalues": "eigenvalues",
        "multiplicative_noise": "noise",
    }
    values = yaml_values("kernels/gaussian")
    return draw_div2krk(rng, **{names[key]: values[key] for key in names} | changes)


def moments(kernel):
    grid = np.mgrid[: kernel.shape[0], : kernel.shape[1]].reshape(2, -1)
    return grid @ kernel.ravel(), np.cov(grid, aweights=kernel.ravel(), bias=True)


def test_a_gaussian_is_the_density_of_its_covariance():
    covariance = np.array([[3.0, 1.2], [1.2, 1.5]])
    positions = np.stack(np.mgrid[:25, :25], axis=-1)
    density = stats.multivariate_normal([12.5, 11.0], covariance).pdf(positions)
    kernel = gaussian_kernel(covariance, 25, (12.5, 11.0))
    np.testing.assert_allclose(kernel, density / density.sum(), atol=1e-12)
    np.testing.assert_allclose(moments(kernel)[1], covariance, atol=1e-3)


@pytest.mark.parametrize("covariance", [[[3.0, 1.2], [1.2, 1.5]], [[3.0, 0.3], [0.3, 0.06]]])
def test_the_covariance_of_a_gaussian_is_exact_at_any_size(covariance):
    found = gaussian_covariance(gaussian_kernel(np.array(covariance), 9, 4.5))
    np.testing.assert_allclose(found, covariance, rtol=1e-9)


def test_a_gaussian_far_away_or_very_narrow_is_still_one():
    assert gaussian_kernel(np.eye(2) * 0.01, 5, 2.5)[2:4, 2:4] == pytest.approx(0.25)
    assert gaussian_kernel(np.eye(2) * 0.01, 5, 100.0)[4, 4] == pytest.approx(1)


@pytest.mark.parametrize("isotropic", [False, True])
@pytest.mark.parametrize(
    "settings", [{}, {"size": 13}, {"eigenvalues": (0.2, 12.0)}, {"noise": 0.0}, {"noise": 0.9}]
)
def test_drawn_kernels_sum_to_one_are_positive_and_aligned_at_both_scales(isotropic, settings):
    rng = np.random.default_rng(1)
    for _ in range(20):
        kernel = draw_kernel(rng, isotropic=isotropic, **settings)
        size = settings.get("size", 11)
        assert kernel.shape == (size, size)
        assert kernel.min() > 0
        assert kernel.sum() == pytest.approx(1)
        assert ndimage.center_of_mass(kernel) == pytest.approx([size // 2 + 0.5] * 2, abs=1e-9)
        whole = compose_x4(kernel, crop=False)
        assert whole.shape == (3 * size - 2,) * 2
        assert ndimage.center_of_mass(whole) == pytest.approx(
            [(3 * size - 2) // 2 + 1.5] * 2, abs=1e-9
        )


def test_eigenvalues_are_spread_evenly_between_the_limits_and_angles_over_all_directions():
    rng = np.random.default_rng(0)
    drawn = [moments(draw_kernel(rng, size=25, noise=0.0))[1] for _ in range(400)]
    values, vectors = np.linalg.eigh(np.array(drawn))
    # The larger of two uniform numbers has the distribution u^2, the smaller 1 - (1 - u)^2.
    low, high = ((values.T - 0.6) / 4.4).clip(0, 1)
    assert stats.kstest(high**2, "uniform").pvalue > 0.01
    assert stats.kstest(1 - (1 - low) ** 2, "uniform").pvalue > 0.01
    angles = np.arctan2(vectors[:, 1, 1], vectors[:, 0, 1]) % np.pi
    assert stats.kstest(angles / np.pi, "uniform").pvalue > 0.01


def test_noise_is_a_factor_between_its_limits():
    rough, smooth = (draw_kernel(np.random.default_rng(3), noise=noise) for noise in (0.25, 0.0))
    # The Gaussian has moved under the noise: the logarithm of their ratio is a plane, and the noise.
    plane = np.stack([np.ones(121), *np.mgrid[:11, :11].reshape(2, -1)], axis=1)
    ratio = np.log(rough / smooth).ravel()
    noise = ratio - plane @ np.linalg.lstsq(plane, ratio)[0]
    assert np.ptp(noise) == pytest.approx(np.log(1.25 / 0.75), rel=0.1)


def test_an_isotropic_kernel_is_round():
    for seed in range(5):
        kernel = draw_kernel(np.random.default_rng(seed), isotropic=True, size=25, noise=0.0)
        np.testing.assert_allclose(kernel, kernel.T, atol=1e-12)
        values = np.linalg.eigvalsh(moments(kernel)[1])
        assert values[0] == pytest.approx(values[1], rel=1e-6)
        assert 0.55 < values[0] < 5.05


def test_the_uncropped_x4_kernel_is_the_two_steps_of_x2_in_one():
    kernel = draw_kernel(np.random.default_rng(7))
    spread = np.zeros((21, 21))
    spread[::2, ::2] = kernel
    full = ndimage.convolve(np.pad(spread, 5), kernel, mode="constant")
    np.testing.assert_allclose(compose_x4(kernel, crop=False), full / full.sum(), atol=1e-12)
    # The kernel is already whole: cropping loses what a wide kernel has there.
    wide = gaussian_kernel(np.eye(2) * 5, 11, 5.5)
    whole = compose_x4(wide, crop=False)
    np.testing.assert_allclose(
        compose_x4(wide), whole[5:-5, 5:-5] / whole[5:-5, 5:-5].sum(), atol=1e-12
    )
    assert whole[5:-5, 5:-5].sum() < 0.95


def draw(pool: Path, changes: dict[str, Any], **rest: Any) -> None:
    estimate_kernels(None, pool, yaml_values("kernels/gaussian", count=6) | changes, **rest).check()


def names(pool: Path) -> list[str]:
    return sorted(path.name for path in (pool / "kernels").iterdir())


def times(pool: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (pool / "kernels").iterdir()}


def test_drawn_kernels_are_there_for_both_scales_each_by_its_number(tmp_path):
    draw(tmp_path / "few", {}, seed=1)
    draw(tmp_path / "more", {"count": 9}, seed=1)
    draw(tmp_path / "other", {}, seed=2)
    assert names(tmp_path / "few") == [
        f"gaussian_{n:04d}_kernel_x{s}.mat" for n in range(6) for s in (2, 4)
    ]
    for name in names(tmp_path / "few"):
        few, more, other = (
            (tmp_path / pool / "kernels" / name).read_bytes() for pool in ("few", "more", "other")
        )
        assert few == more
        assert few != other
    for x2, x4 in zip(*(list_kernels(tmp_path / "few", scale) for scale in (2, 4)), strict=True):
        assert load_kernel(x2).shape == (11, 11)
        assert ndimage.center_of_mass(load_kernel(x4)) == pytest.approx([16.5, 16.5])
        np.testing.assert_allclose(
            load_kernel(x4), compose_x4(load_kernel(x2), crop=False), atol=1e-15
        )


def test_drawing_goes_on_does_nothing_twice_and_tells_what_differs(tmp_path):
    draw(tmp_path, {})
    before = times(tmp_path)
    (tmp_path / "kernels/gaussian_0003_kernel_x4.mat").unlink()
    draw(tmp_path, {})
    after = times(tmp_path)
    assert {name for name in before if before[name] != after[name]} == {
        f"gaussian_0003_kernel_x{s}.mat" for s in (2, 4)
    }
    with pytest.raises(UserError, match="isotropic: was False, now True"):
        draw(tmp_path, {"isotropic": True})
    draw(tmp_path, {"isotropic": True, "count": 2}, overwrite=True)
    assert len(names(tmp_path)) == 4
    section = read_manifest(tmp_path)["kernels"]
    assert section["config"]["multiplicative_noise"] == 0.25
    assert section["complete"]


def test_settings_that_mean_nothing(tmp_path):
    with pytest.raises(
        UserError, match=r"kernels.eigenvalues=\[5\]: expected a list in brackets of 2"
    ):
        draw(tmp_path, {"eigenvalues": [5]})
    with pytest.raises(UserError, match=r"kernels.count=0: expected 1 or more"):
        draw(tmp_path, {"count": 0})
    with pytest.raises(UserError, match=r"eigenvalues=\[5.0,2.0\]: expected \[lowest,highest\]"):
        draw(tmp_path, {"eigenvalues": [5, 2]})
    with pytest.raises(
        UserError, match=r"scale=5: kernels.name=gaussian makes kernels for scales 1, 2, 3, 4 and 8"
    ):
        draw(tmp_path, {}, scale=5)
