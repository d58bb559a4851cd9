import json
from pathlib import Path

from PIL import Image
from scipy import io as matlab
from small_work import MODELS, TINY, Command, files

from realsr.simulation.camera import anisotropic_kernel


def test_a_sweep_over_pools_makes_everything_once(
    command: Command, source: Path, tmp_path: Path
) -> None:
    # The example of docs/train/configuration.md, made small.
    arguments = ("+track=dped", f"data.source={source}", "work_dir=OUT", "+layout=by_pool", *TINY)
    pools = "noise_only,kernels_only,kernels_and_noise,gaussian"
    ended = command(
        "train", "-m", *arguments, f"pool={pools}", "pool.estimator.count=3", "trainer.max_steps=1"
    )
    assert ended.code == 0, ended.said
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
    ended = command(
        "train", "-m", *arguments, f"pool={pools}", "pool.estimator.count=3", "trainer.max_steps=1"
    )
    assert ended.code == 0, ended.said
    assert files(out) == made

    ended = command(
        "train",
        *arguments,
        "pool=gaussian",
        "pool.estimator.isotropic=true",
        "pool.estimator.count=3",
    )
    assert ended.code == 1
    assert "isotropic: was False, now True" in ended.said


def test_kernels_of_a_mat_folder_make_pairs(command: Command, source: Path, tmp_path: Path) -> None:
    (tmp_path / "mats").mkdir()
    matlab.savemat(tmp_path / "mats/mine.mat", {"k": anisotropic_kernel(15, (2, 1), 40, 4)})
    arguments = ("+track=df2k", "pairs.hr=[source]", f"data.source={source}", "work_dir=OUT", *TINY)
    ended = command(
        "train", *arguments, "pool=from_mat", "pool.estimator.folder=mats", "pool.noise=false"
    )
    assert ended.code == 0, ended.said
    pairs = json.loads((tmp_path / "OUT/pairs/manifest.json").read_text())["pairs"]["items"]
    assert {item["kernel"] for item in pairs.values()} == {"mine_000_kernel_x4.mat"}
    assert not (tmp_path / "OUT/pool/noise").exists()


def test_the_report_says_and_draws_what_pools_hold(
    command: Command, source: Path, tmp_path: Path
) -> None:
    arguments = ("+track=dped", f"data.source={source}", *TINY, "pool.estimator.count=4")
    assert command("estimate_kernels", *arguments, "pool=gaussian", "pool_dir=A").code == 0
    assert command("collect_noise", *arguments, "pool_dir=A").code == 0
    assert (
        command("estimate_kernels", *arguments, "pool=gaussian_isotropic", "pool_dir=B").code == 0
    )

    ended = command("pool", "pool_dir=A")
    assert ended.code == 0, ended.said
    assert "kernels for scale 2: 4" in ended.said
    assert "gaussian_0003" in ended.said
    assert "correlation with G" in ended.said
    facts = json.loads((tmp_path / "A/pool.json").read_text())
    assert len(facts["kernels"]["x4"]["kernels"]) == 4
    assert facts["noise"]["patches"] == len(list((tmp_path / "A/noise").iterdir()))
    with Image.open(tmp_path / "A/pool.png") as picture:
        assert picture.width > 1000

    before = files(tmp_path)
    ended = command("pool", "pool_dir=A", "compare=B", "output=new/report")
    assert ended.code == 0, ended.said
    assert "B - A" in ended.said
    assert "noise patches: in A only" in ended.said
    made = {name for name in files(tmp_path) if name not in before}
    assert made == {"new/report/pool_comparison.png", "new/report/pool_comparison.json"}
    assert set(json.loads((tmp_path / "new/report/pool_comparison.json").read_text())) == {
        "A",
        "B",
        "B_minus_A",
    }

    (tmp_path / "B/kernels/gaussian_0002_kernel_x4.mat").write_bytes(b"torn")
    ended = command("pool", "pool_dir=B")
    assert ended.code == 1
    assert "skipped because unreadable" in ended.said
    assert "gaussian_0002_kernel_x4.mat: not a readable .mat file" in ended.said
    facts = json.loads((tmp_path / "B/pool.json").read_text())
    assert len(facts["kernels"]["x4"]["kernels"]) == 3

    assert "pool_dir must be given" in command("pool").said
    ended = command("pool", "pool_dir=nowhere")
    assert ended.code == 1
    assert "nowhere: has neither kernels" in ended.said
