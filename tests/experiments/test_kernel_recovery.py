"""experiments/kernel_recovery: what a case is, that the study resumes, and what its table sums up."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("skimage")

STUDY = Path(__file__).parents[2] / "experiments" / "kernel_recovery"


@pytest.fixture(autouse=True)
def _beside_the_study(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDY))


@pytest.fixture
def ran(tmp_path, capsys):
    """Run the study on one photo with the spectral estimator; return what was printed and the folder."""
    import study

    def run(*more: str) -> str:
        study.main(
            ["--photos", "astronaut", "--estimators", "spectral", "--kernels", "2", "--scales", "2"]
            + [
                "--records",
                str(tmp_path / "records.jsonl"),
                "--json",
                str(tmp_path / "summary.json"),
                *more,
            ]
        )
        return capsys.readouterr().out

    return run, tmp_path


def test_the_sets_share_no_photo():
    from cases import SETS, load_hr

    photos = [load_hr(name) for name in SETS["tune"] + SETS["report"]]
    for index, photo in enumerate(photos):
        assert not any(np.array_equal(photo, other) for other in photos[:index])


def test_the_x4_truth_is_two_steps_of_its_root():
    import torch
    from cases import Case, at_scale, load_hr, true_root

    from realsr.imaging import apply_kernel, to_float

    case = Case("astronaut", 1, 4, 0.0)
    root = true_root(case)
    whole = at_scale(root, 4)
    assert root.shape == (11, 11)
    assert whole.shape == (31, 31)
    assert whole.sum() == pytest.approx(1, abs=1e-12)
    hr = to_float(load_hr("astronaut")[:160, :160]).double()
    twice = apply_kernel(apply_kernel(hr, root, 2), root, 2)
    once = apply_kernel(hr, whole, 4)
    torch.testing.assert_close(once[:, 8:-8, 8:-8], twice[:, 8:-8, 8:-8])


def test_lr_is_the_photo_through_the_kernel_and_noise_adds_its_level():
    from cases import Case, degrade_photo, load_hr, true_root

    clean, noisy = (degrade_photo(Case("astronaut", 0, 2, noise)) for noise in (0.0, 3.0))
    hr, kernel = load_hr("astronaut").astype(float), true_root(Case("astronaut", 0, 2, 0.0))
    for row, column in ((50, 60), (100, 131), (200, 77)):
        window = hr[2 * row - 5 : 2 * row + 6, 2 * column - 5 : 2 * column + 6]
        expected = (window * kernel[..., None]).sum((0, 1))
        assert np.abs(clean[row, column] - expected).max() < 0.501
    inside = (clean > 15) & (clean < 240)
    assert (noisy.astype(float) - clean)[inside].std() == pytest.approx(3.0, rel=0.02)


def test_a_row_for_each_case_and_nothing_twice(ran):
    run, folder = ran
    run()
    first = (folder / "records.jsonl").read_text()
    rows = [json.loads(line) for line in first.splitlines()]
    assert [(row["photo"], row["kernel"], row["scale"], row["noise"]) for row in rows] == [
        ("astronaut", kernel, 2, noise) for kernel in (0, 1) for noise in (0.0, 3.0)
    ]
    run()
    assert (folder / "records.jsonl").read_text() == first


def test_a_line_that_was_cut_short_is_computed_again(ran):
    run, folder = ran
    run()
    lines = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    (folder / "records.jsonl").write_text("".join(lines[:3]) + lines[3][:40])
    run()
    again = (folder / "records.jsonl").read_text().splitlines()
    estimates = [json.loads(line)["estimate"] for line in (lines[3], again[3])]
    assert len(again) == 4
    assert estimates[0] == estimates[1]


def test_the_table_has_the_means_of_the_cases(ran):
    run, folder = ran
    printed = run()
    summary = json.loads((folder / "summary.json").read_text())
    for noise in (0.0, 3.0):
        psnr = [case["psnr"]["spectral"][0] for case in summary["cases"] if case["noise"] == noise]
        assert len(psnr) == 2
        assert f"{np.mean(psnr):.1f} ± {np.std(psnr, ddof=1):.1f}" in printed
    for case in summary["cases"]:
        best = case["psnr"]["gaussian"][0]
        assert best > max(
            case["psnr"]["isotropic"][0], case["psnr"]["spectral"][0], case["psnr"]["bicubic"][0]
        )


def test_kernelgan_rows_carry_their_mean_kernel(tmp_path, capsys):
    import study

    study.main(
        [
            "--photos",
            "astronaut",
            "--estimators",
            "kernelgan",
            "--scales",
            "2",
            "--seeds",
            "2",
            "--iterations",
            "3",
        ]
        + ["--records", str(tmp_path / "r.jsonl"), "--json", str(tmp_path / "s.json")]
    )
    summary = json.loads((tmp_path / "s.json").read_text())
    assert [len(case["psnr"]["kernelgan"]) for case in summary["cases"]] == [2, 2]
    assert "KernelGAN's runs a case | 2 | 2 |" in capsys.readouterr().out


def test_the_steady_form_is_an_arm_and_its_spread_is_tabulated(tmp_path, capsys):
    import study
    from table import write_steadiness

    study.main(
        ["--photos", "astronaut", "--estimators", "kernelgan,kernelgan_steady", "--scales", "2"]
        + ["--seeds", "2", "--iterations", "3"]
        + ["--records", str(tmp_path / "r.jsonl"), "--json", str(tmp_path / "s.json")]
    )
    capsys.readouterr()
    rows = json.loads((tmp_path / "s.json").read_text())["cases"]
    assert {name for row in rows for name in row["seconds"]} == {"kernelgan", "kernelgan_steady"}
    psnr = rows[0]["psnr"]["kernelgan_steady"]
    assert len(psnr) == 2
    line = write_steadiness(rows).splitlines()[3].split(" | ")
    assert line[1:3] == ["1, 2", f"{np.mean(psnr):.1f}"]
    assert line[3].startswith(f"{np.std(psnr, ddof=1):.1f}, ")
    assert line[4] == f"{min(psnr):.1f}"


def test_the_best_gaussian_finds_a_gaussian():
    from baselines import best_gaussian

    from realsr.imaging.kernel_shapes import kernel_psnr
    from realsr.kernels.gaussian import gaussian_kernel

    true = gaussian_kernel(np.array([[3.0, 1.0], [1.0, 2.0]]), 31, 15)
    assert kernel_psnr(true, best_gaussian(true)) > 60


def test_cameras_take_photos_of_their_kernels_and_sets_are_scored(monkeypatch) -> None:
    import camera_sets

    rng = np.random.default_rng(0)
    scenes = [
        np.repeat(rng.integers(0, 256, (60, 60, 1)), 4, axis=0).repeat(4, axis=1).repeat(3, axis=2)
        for _ in range(4)
    ]
    scenes = [np.ascontiguousarray(scene).astype(np.uint8) for scene in scenes]
    monkeypatch.setattr(camera_sets, "SETS", (1, 4))
    plain, sharp = (
        camera_sets.take_photos(scenes, name, "a") for name in ("Gaussian", "sharpened")
    )
    assert all(photo.kernel.min() > -1e-3 for photo in plain)
    assert all(photo.kernel.min() < -1e-3 for photo in sharp)
    assert all(photo.kernel.sum() == pytest.approx(1) for photo in plain + sharp)
    scores = camera_sets.score(plain)
    assert {len(values) for values in scores.values()} == {4}
    assert set(scores) == {
        "spectral", "camera, sharpening=[0,0]: 1", "camera, sharpening=[0,0]: 4", "camera: 1", "camera: 4",
    }  # fmt: skip
