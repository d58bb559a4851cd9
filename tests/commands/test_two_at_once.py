"""The same work started twice: one process does it, and nothing is lost."""

from pathlib import Path

from small_work import TINY, Command, files

from realsr.provenance.manifest import lock_stage


def test_a_run_is_trained_by_one_process(command: Command, source: Path, tmp_path: Path) -> None:
    arguments = ("+track=dped", "data.source=photos", "work_dir=out", "kernels=spectral", *TINY)
    arguments = tuple(a for a in arguments if not a.startswith("kernels.iterations"))
    run = tmp_path / "out/runs/default"
    run.mkdir(parents=True)
    with lock_stage(run, "training", wait=False):
        outcome = command("train", *arguments)
    assert outcome.code == 1
    assert f"{run.relative_to(tmp_path)}: training: in use by process" in outcome.log
    assert files(tmp_path / "out") == {}, "it is refused before any work"
