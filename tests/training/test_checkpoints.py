import errno
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from full_disk import full_disk
from realsr.training.checkpoints import CheckpointWriter, find_newest, list_checkpoints


def save(folder: Path, step: int, keep: int = 2, best: bool = False, value: float = 0.0) -> None:
    with CheckpointWriter(folder, keep) as writer:
        writer.save({"step": step, "value": torch.full((10000,), value)}, best)


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def test_the_newest_are_kept_and_the_newest_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    assert find_newest(folder) is None
    for step in (2, 10, 9, 100):
        save(folder, step, keep=3, value=step)
    assert [path.name for path in list_checkpoints(folder)] == [
        f"step_{s:08d}.pt" for s in (9, 10, 100)
    ]
    newest = find_newest(folder)
    assert newest is not None
    state = load(newest)
    assert state["step"] == 100
    assert (state["value"] == 100).all()


def test_the_best_is_kept_beside_them(tmp_path: Path) -> None:
    save(tmp_path, 3, best=True, value=3)
    for step in (4, 5, 6):
        save(tmp_path, step, keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "step_00000006.pt"]
    assert load(tmp_path / "best.pt")["step"] == 3


def test_a_failed_write_leaves_the_older_ones(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, step)

    with full_disk(errno.ENOSPC), pytest.raises(OSError, match="the disk says no"):
        save(tmp_path, 3)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "step_00000001.pt",
        "step_00000002.pt",
    ]


@pytest.mark.parametrize("kept", [0, 10, 1000, 20000, 39000, -1000, -10])
def test_a_truncated_newest_is_told_and_the_one_before_is_found(
    kept: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    newest = list_checkpoints(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:kept])
    with caplog.at_level(logging.WARNING):
        assert find_newest(tmp_path) == tmp_path / "step_00000001.pt"
    assert f"{newest} cannot be read" in caplog.text
    assert "renamed to step_00000002.damaged" in caplog.text
    save(tmp_path, 3)
    names = [path.name for path in sorted(tmp_path.iterdir())]
    assert names == ["step_00000001.pt", "step_00000002.damaged", "step_00000003.pt"], (
        "it is none of those to keep"
    )


def test_where_no_other_is_whole_the_best_is_found(tmp_path: Path) -> None:
    save(tmp_path, 1, best=True)
    save(tmp_path, 2)
    list_checkpoints(tmp_path)[0].write_bytes(b"")
    assert find_newest(tmp_path) == tmp_path / "best.pt"


def test_a_disk_that_cannot_be_read_is_no_damaged_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)

    def fail(path: Path) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(OSError, match="Input/output"):
        find_newest(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001.pt"]


def test_a_write_that_fails_is_raised_at_the_next_save_or_at_the_end(tmp_path: Path) -> None:
    for saves in (1, 2):
        writer = CheckpointWriter(tmp_path / "gone" / "checkpoints", 2)
        writer.save({"step": 1})
        with pytest.raises(FileNotFoundError, match="gone/checkpoints"):
            writer.save({"step": 2}) if saves == 2 else writer.__exit__(None, None, None)
        writer.__exit__(None, None, None)


def test_a_state_is_that_of_the_moment_it_was_saved(tmp_path: Path) -> None:
    value = torch.zeros(1000)
    with CheckpointWriter(tmp_path / "checkpoints", 2) as writer:
        writer.save({"step": 1, "value": value})
        value += 1
    assert not load(tmp_path / "checkpoints" / "step_00000001.pt")["value"].any()
