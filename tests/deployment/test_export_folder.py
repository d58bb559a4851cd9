from pathlib import Path

import pytest

from realsr.core.errors import UserError
from realsr.deployment.export_folder import check_output, list_exported, staging_folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_export_s_files_are_told_from_others(tmp_path: Path) -> None:
    pairs = [
        "ncnn.bin",
        "ncnn.param",
        "onnx_fp32.onnx",
        "onnx_int8_minmax.onnx",
        "openvino.bin",
        "openvino.xml",
    ]
    exported = ["model.safetensors", *pairs, "sensitivity.png", "table.json", "table.md"]
    for name in (
        *exported,
        "onnx_fp32.txt",
        "mine.onnx",
        "my_table.json",
        "README.md",
        "onnx_int8.md",
    ):
        (tmp_path / name).touch()
    assert [path.name for path in list_exported(tmp_path)] == exported
    assert list_exported(tmp_path / "nowhere") == []
    with pytest.raises(UserError, match=r"README.md: would be replaced by the model card"):
        check_output([], tmp_path, overwrite=True)
    (tmp_path / "README.md").write_text("---\nlibrary_name: realsr\n---\n")
    assert list_exported(tmp_path)[0].name == "README.md"
    check_output([], tmp_path, overwrite=True)


def test_what_is_not_moved_is_lost_and_what_a_killed_one_left_too(tmp_path: Path) -> None:
    output = tmp_path / "new" / "out"
    with staging_folder(output) as folder:
        (folder / "killed").touch()
        folder.rename(tmp_path / "left")
        folder.mkdir()
    assert names(output) == []
    (tmp_path / "left").rename(folder)
    with staging_folder(output) as folder:
        assert names(folder) == []
        (folder / "lost").touch()
        (folder / "kept").touch()
        (folder / "kept").replace(output / "kept")
    assert names(output) == ["kept"]


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_leaves_what_was_there(failure: BaseException, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()

    def fail(output: Path) -> None:
        with staging_folder(output) as folder:
            (folder / "half").touch()
            raise failure

    for name in ("new", "empty", "full"):
        with pytest.raises(type(failure)):
            fail(tmp_path / name)
    assert names(tmp_path) == ["empty", "full"]
    assert names(tmp_path / "empty") == []
    assert names(tmp_path / "full") == ["mine"]


def test_a_folder_is_exported_into_by_one_process(tmp_path: Path) -> None:
    with staging_folder(tmp_path / "out") as folder:
        (folder / "x.onnx").touch()
        with (
            pytest.raises(UserError, match="out: export: in use by process"),
            staging_folder(tmp_path / "out"),
        ):
            pass
        assert (folder / "x.onnx").exists()
    assert list((tmp_path / "out").iterdir()) == []
