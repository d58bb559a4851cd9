import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_work import TINY, Command, files, python_environment

from config_files import takes
from realsr.provenance.manifest import read_manifest

ARGUMENTS = ("+track=dped", "data.source=photos", *TINY, "kernels.batch=1")


def test_shards_of_one_command_then_merged_are_a_single_run(
    command: Command, source: Path, tmp_path: Path
) -> None:
    outcome = command(
        "estimate_kernels", "-m", "shard=range(4)", "shards=4", *ARGUMENTS, "work_dir=parts"
    )
    assert outcome.code == 0, outcome.log
    names = {f"kernels/{name}_kernel_x{scale}.mat" for name in "abc" for scale in (2, 4)}
    assert not (tmp_path / "multirun.yaml").exists()
    shards = {f"manifest.kernels.shard{index}of4.json" for index in range(4)}
    assert files(tmp_path / "parts/pool").keys() == names | shards
    assert command("estimate_kernels", *ARGUMENTS, "work_dir=parts").code == 0
    assert command("estimate_kernels", *ARGUMENTS, "work_dir=whole").code == 0
    parts, whole = (tmp_path / folder / "pool" for folder in ("parts", "whole"))
    assert read_manifest(parts) == read_manifest(whole)
    assert files(parts).keys() == names | {"kernels.png", "manifest.json"}
    for name in files(parts):
        if name != "manifest.json":
            assert (parts / name).read_bytes() == (whole / name).read_bytes(), name


def test_train_takes_in_what_shards_have_made(
    command: Command, source: Path, tmp_path: Path
) -> None:
    for index in (0, 1):
        assert (
            command(
                "estimate_kernels", f"shard={index}", "shards=3", *ARGUMENTS, "work_dir=out"
            ).code
            == 0
        )
    before = files(tmp_path / "out/pool/kernels")
    assert len(before) == 4
    assert command("train", *ARGUMENTS, "work_dir=out").code == 0
    after = files(tmp_path / "out/pool/kernels")
    assert len(after) == 6
    assert {name: after[name] for name in before} == before
    assert json.loads((tmp_path / "out/pool/manifest.json").read_text())["kernels"]["complete"]


def test_a_shard_that_fails_does_not_stop_the_others(
    command: Command, source: Path, tmp_path: Path
) -> None:
    (source / "a.png").write_bytes(b"no photo")
    outcome = command(
        "estimate_kernels", "-m", "shard=range(3)", "shards=3", *ARGUMENTS, "work_dir=out"
    )
    assert outcome.code == 1
    assert "a.png" in outcome.log
    assert "shard=0" in outcome.log
    assert "Traceback" not in outcome.log
    assert {name[0] for name in files(tmp_path / "out/pool/kernels")} == {"b", "c"}


def test_half_of_a_shard(command: Command, source: Path, tmp_path: Path) -> None:
    outcome = command("estimate_kernels", "shard=3", *ARGUMENTS, "work_dir=out")
    assert outcome.code == 1
    assert "-m 'shard=range(8)' shards=8" in outcome.log
    assert not (tmp_path / "out").exists()


def test_all_gates_or_one_are_turned_off(command: Command, source: Path, tmp_path: Path) -> None:
    arguments = [argument for argument in ARGUMENTS if "gates" not in argument]
    outcome = command("estimate_kernels", *arguments, "work_dir=out", "kernels.gates.min_sum=50")
    assert outcome.code == 1
    assert "none of 3 photos has a usable kernel" in outcome.log
    assert "is below min_sum 50" in outcome.log
    assert len(files(tmp_path / "out/pool/rejected")) == 6
    off = [
        f"kernels.gates.{gate}=null"
        for gate in ("min_sum", "max_negative", "max_centre_offset", "max_border")
    ]
    off += [f"kernels.gates.{gate}=null" for gate in ("max_spread_long", "max_entropy")]
    assert command("estimate_kernels", *arguments, "work_dir=out", *off).code == 0
    outcome = command("estimate_kernels", *arguments, "work_dir=out", "kernels.gates=null")
    assert outcome.code == 0
    assert "kernels of 3 photos in " in outcome.log
    assert len(files(tmp_path / "out/pool/kernels")) == 6


@pytest.mark.slow
def test_shards_side_by_side_with_joblib(command: Command, source: Path, tmp_path: Path) -> None:
    pytest.importorskip(
        "hydra_plugins.hydra_joblib_launcher", reason="the extra joblib is not installed"
    )
    arguments = [
        "-m",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "shard=range(3)",
        "shards=3",
    ]
    own = [argument for argument in ARGUMENTS if takes("estimate_kernels", argument)]
    outcome = subprocess.run(
        [sys.executable, "-m", "realsr.estimate_kernels", *arguments, *own, "work_dir=parts"],
        cwd=tmp_path, env=python_environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    assert "kernels of shard 2 of 3" in outcome.stderr, "its process says how it goes"
    for work_dir in ("parts", "whole"):
        assert command("estimate_kernels", *ARGUMENTS, f"work_dir={work_dir}").code == 0
    parts, whole = (tmp_path / folder / "pool" for folder in ("parts", "whole"))
    assert read_manifest(parts) == read_manifest(whole)
