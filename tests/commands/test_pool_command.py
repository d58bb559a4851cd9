import json
from pathlib import Path

from scipy import io as matlab
from small_work import MODELS, TINY, Command, files

from realsr.simulation.camera_model import anisotropic_kernel


def test_a_sweep_over_pools_makes_everything_once(
    command: Command, source: Path, tmp_path: Path
) -> None:
    # The example of docs/train/configuration.md, made small.
    arguments = ("+track=dped", f"data.source={source}", "work_dir=OUT", "+layout=by_pool", *TINY)
    pools = "noise_only,kernels_only,kernels_and_noise,gaussian"
    outcome = command(
        "train", "-m", *arguments, f"pool={pools}", "pool.estimator.count=3", "trainer.max_steps=1"
    )
    assert outcome.code == 0, outcome.log
    out = tmp_path / "OUT"
    assert {path.name for path in (out / "runs").iterdir()} == set(pools.split(","))
    for run in (out / "runs").iterdir():
        assert set(json.loads((run / "metrics.json").read_text())["models"]) == MODELS
    assert {path.name for path in (out / "pairs").iterdir()} == {"bicubic", "estimated", "gaussian"}
    assert {path.name for path in (out / "pools").iterdir()} == {"estimated", "gaussian"}
    assert len(list((out / "pools/estimated/kernels").iterdir())) == 6
    assert len(list((out / "pools/gaussian/kernels").iterdir())) == 6
    assert list((out / "pools").rglob("noise")) == [out / "pools/estimated/noise"], (
        "one set of patches for all"
    )
    inputs = {
        run.name: {
            name.partition("/")[0]
            for name in json.loads((run / "manifest.json").read_text())["training"]["inputs"]
        }
        for run in (out / "runs").iterdir()
    }
    assert {name for name, kinds in inputs.items() if "noise" in kinds} == set(pools.split(",")) - {
        "kernels_only"
    }
    made = files(out)
    outcome = command(
        "train", "-m", *arguments, f"pool={pools}", "pool.estimator.count=3", "trainer.max_steps=1"
    )
    assert outcome.code == 0, outcome.log
    assert files(out) == made

    outcome = command(
        "train",
        *arguments,
        "pool=gaussian",
        "pool.estimator.isotropic=true",
        "pool.estimator.count=3",
    )
    assert outcome.code == 1
    assert "isotropic: was False, now True" in outcome.log


def test_kernels_of_a_mat_folder_make_pairs(command: Command, source: Path, tmp_path: Path) -> None:
    (tmp_path / "mats").mkdir()
    matlab.savemat(tmp_path / "mats/mine.mat", {"k": anisotropic_kernel(15, (2, 1), 40, 4)})
    arguments = ("+track=df2k", "pairs.hr=[source]", f"data.source={source}", "work_dir=OUT", *TINY)
    outcome = command(
        "train", *arguments, "pool=from_mat", "pool.estimator.folder=mats", "pool.noise=false"
    )
    assert outcome.code == 0, outcome.log
    pairs = json.loads((tmp_path / "OUT/pairs/manifest.json").read_text())["pairs"]["items"]
    assert {item["kernel"] for item in pairs.values()} == {"mine_000_kernel_x4.mat"}
    assert not (tmp_path / "OUT/pool/noise").exists()
