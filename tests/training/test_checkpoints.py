import logging
from pathlib import Path

import pytest
import torch

from realsr.training.checkpoints import list_checkpoints, load_newest, save_checkpoint


def test_the_newest_are_kept_and_the_newest_is_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    assert load_newest(folder) is None
    for step in (2, 10, 9, 100):
        save_checkpoint(folder, step, {"value": torch.full((2,), float(step))}, keep=3)
    assert [path.name for path in list_checkpoints(folder)] == [f"step_{s:08d}.pt" for s in (9, 10, 100)]
    newest = load_newest(folder)
    assert newest is not None
    assert newest["step"] == 100
    assert newest["value"].tolist() == [100, 100]


def test_a_failed_write_leaves_the_older_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {}, keep=2)

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, 3, {}, keep=2)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step_00000001.pt", "step_00000002.pt"]


@pytest.mark.parametrize("kept", [0, 10, -10])
def test_a_truncated_newest_falls_back_to_the_one_before(
    kept: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {"value": torch.rand(100)}, keep=2)
    newest = list_checkpoints(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:kept])
    with caplog.at_level(logging.WARNING):
        state = load_newest(tmp_path)
    assert state is not None
    assert state["step"] == 1
    assert f"{newest} cannot be read and is left aside" in caplog.text
