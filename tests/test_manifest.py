import hashlib
import json
import os
from pathlib import Path

import pytest

from realsr.errors import UserError
from realsr.manifest import (
    MANIFEST,
    is_foreign,
    name_inputs,
    open_stage,
    package_versions,
    read_manifest,
    refuse_foreign,
)


@pytest.fixture
def inputs(tmp_path):
    (tmp_path / "in").mkdir()
    for name in "abc":
        (tmp_path / "in" / name).write_text(f"input {name}")
    return name_inputs("source", sorted((tmp_path / "in").iterdir()))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out" / "pool"


def run(folder: Path, inputs, *, config=None, seed=0, stop_after=None, only=None, **options) -> list[str]:
    """A stage that copies its inputs; returns which items it had to make."""
    made = []
    config = {"size": 3} if config is None else config
    with open_stage(folder, "copies", config=config, seed=seed, inputs=inputs, **options) as record:
        for name, path in inputs.items():
            if record.is_done(name):
                continue
            if len(made) == stop_after:
                raise KeyboardInterrupt
            file = folder / f"{path.name}.copy"
            file.write_bytes(path.read_bytes())
            record.add(name, [file], source=path.name)
            made.append(name)
        record.finish()
    return made


def replace(path: Path, text: str) -> None:
    path.write_text(text)
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


def test_tells_where_everything_came_from(folder, inputs):
    assert run(folder, inputs, config={"size": 3, "folder": Path("x")}, seed=5) == ["source/a", "source/b", "source/c"]
    section = json.loads((folder / MANIFEST).read_text())["copies"]
    assert section == read_manifest(folder)["copies"]
    assert section["config"] == {"size": 3, "folder": "x"}
    assert section["seed"] == 5
    assert section["complete"] is True
    assert section["versions"] == package_versions()
    assert section["versions"].keys() >= {"python", "realsr", "torch", "numpy"}
    digest = hashlib.sha256(b"input a").hexdigest()
    assert section["inputs"]["source/a"] == {
        "size": 7,
        "sha256": digest,
        "mtime_ns": inputs["source/a"].stat().st_mtime_ns,
    }
    assert section["items"]["source/a"] == {"files": {"a.copy": {"size": 7, "sha256": digest}}, "source": "a"}


def test_again_does_nothing_and_reads_nothing(folder, inputs, monkeypatch):
    run(folder, inputs)
    before = (folder / MANIFEST).stat()

    def refuse(*args, **kwargs):
        raise AssertionError("a known file is read again")

    monkeypatch.setattr(hashlib, "file_digest", refuse)
    assert run(folder, inputs) == []
    after = (folder / MANIFEST).stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_goes_on_after_an_interruption(folder, inputs):
    with pytest.raises(KeyboardInterrupt):
        run(folder, inputs, stop_after=2)
    section = read_manifest(folder)["copies"]
    assert list(section["items"]) == ["source/a", "source/b"]
    assert section["complete"] is False
    assert run(folder, inputs) == ["source/c"]
    assert read_manifest(folder)["copies"]["complete"] is True


def test_makes_again_what_is_gone_or_cut_short(folder, inputs):
    run(folder, inputs)
    (folder / "a.copy").unlink()
    (folder / "b.copy").write_text("inp")
    assert run(folder, inputs) == ["source/a", "source/b"]
    assert (folder / "b.copy").read_text() == "input b"


def test_stages_of_one_folder_leave_each_other_alone(folder, inputs):
    run(folder, inputs)
    first = read_manifest(folder)["copies"]
    with open_stage(folder, "others", config={}, seed=None, inputs={}) as record:
        (folder / "x").write_text("x")
        record.add("x", [folder / "x"])
        record.finish()
    assert read_manifest(folder)["copies"] == first
    with open_stage(folder, "others", config={"new": 1}, seed=None, inputs={}, overwrite=True):
        pass
    assert read_manifest(folder)["copies"] == first
    assert (folder / "a.copy").exists()
    assert not (folder / "x").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"config": {"size": 4}}, "size: 3 there, 4 now"),
        ({"config": {"size": 3, "more": 1}}, "more: nothing there, 1 now"),
        ({"config": {}}, "size: 3 there, nothing now"),
        ({"seed": 1}, "seed: 0 there, 1 now"),
        ({"seed": None}, "seed: 0 there, None now"),
    ],
)
def test_other_config_is_told_and_overwritten_only_when_asked(folder, inputs, change, told):
    run(folder, inputs)
    before = (folder / MANIFEST).read_bytes()
    with pytest.raises(UserError) as caught:
        run(folder, inputs, **change)
    assert told in str(caught.value)
    assert "overwrite=true" in str(caught.value)
    assert str(folder) in str(caught.value)
    assert (folder / MANIFEST).read_bytes() == before
    assert (folder / "a.copy").exists()
    assert len(run(folder, inputs, overwrite=True, **change)) == 3
    assert run(folder, inputs, overwrite=True, **change) == []  # overwrite is no order to do it twice


def test_other_inputs_are_told(folder, inputs):
    run(folder, inputs)
    replace(inputs["source/a"], "INPUT a")  # of the same size
    del inputs["source/b"]
    extra = inputs["source/c"].with_name("d")
    extra.write_text("d")
    inputs["source/d"] = extra
    with pytest.raises(UserError) as caught:
        run(folder, inputs)
    message = str(caught.value)
    assert "source/a: has another content now" in message
    assert "source/b: was there, is gone now" in message
    assert "source/d: new" in message
    assert "source/c" not in message
    assert len(run(folder, inputs, overwrite=True)) == 3
    assert not (folder / "b.copy").exists()  # made anew, nothing of the old is left
    assert (folder / "a.copy").read_text() == "INPUT a"


def test_many_differences_are_counted(folder, inputs):
    run(folder, inputs, config={f"key{i:02d}": 0 for i in range(14)})
    with pytest.raises(UserError, match="and 4 more") as caught:
        run(folder, inputs, config={f"key{i:02d}": 1 for i in range(14)})
    assert "key09" in str(caught.value)
    assert "key10" not in str(caught.value)


def test_a_touched_input_is_no_difference(folder, inputs):
    run(folder, inputs)
    replace(inputs["source/a"], "input a")
    assert run(folder, inputs) == []
    known = read_manifest(folder)["copies"]["inputs"]["source/a"]
    assert known["mtime_ns"] == inputs["source/a"].stat().st_mtime_ns  # and is not read a third time


def test_an_unfinished_stage_takes_more_inputs_if_it_is_growing(folder, inputs):
    first = {name: inputs[name] for name in ("source/a", "source/b")}
    with pytest.raises(KeyboardInterrupt):
        run(folder, first, stop_after=1)
    with pytest.raises(UserError, match="source/c: new"):
        run(folder, inputs, growing=False)
    with pytest.raises(UserError, match="source/a: was there"):
        run(folder, {"source/c": inputs["source/c"]})
    assert run(folder, inputs) == ["source/b", "source/c"]


def test_a_stage_that_made_nothing_differs_from_nothing(folder, inputs):
    with pytest.raises(KeyboardInterrupt):
        run(folder, inputs, stop_after=0)
    assert len(run(folder, inputs, config={"size": 9}, seed=9)) == 3


def test_forget(folder, inputs):
    with open_stage(folder, "copies", config={}, seed=0, inputs=inputs) as record:
        (folder / "a.copy").write_text("a")
        record.add("source/a", [folder / "a.copy"])
        record.save()
        record.forget()
    assert read_manifest(folder)["copies"]["items"] == {}
    assert len(run(folder, inputs, config={"size": 9})) == 3


def test_failures_are_listed_and_tried_again(folder, inputs):
    def attempt(broken: set[str]):
        with open_stage(folder, "copies", config={}, seed=0, inputs=inputs) as record:
            tried = [name for name in inputs if not record.is_done(name)]
            for name in tried:
                if name in broken:
                    record.fail(name, name, inputs[name], ValueError("is broken"))
                    continue
                (folder / Path(name).name).write_text(name)
                record.add(name, [folder / Path(name).name])
            record.finish()
        return tried

    with pytest.raises(UserError) as caught:
        attempt({"source/a", "source/c"})
    assert "2 of 3" in str(caught.value)
    assert f"{inputs['source/a']}: is broken" in str(caught.value)
    assert f"{inputs['source/c']}: is broken" in str(caught.value)
    assert read_manifest(folder)["copies"]["complete"] is False
    replace(inputs["source/a"], "mended")
    inputs["source/c"].unlink()
    del inputs["source/c"]  # removed, as the message allows
    assert attempt(set()) == ["source/a"]
    assert read_manifest(folder)["copies"]["complete"] is True
    assert read_manifest(folder)["copies"]["inputs"].keys() == {"source/a", "source/b"}


def test_overwrite_removes_what_belongs_to_the_stage(folder, inputs):
    run(folder, inputs)
    (folder / "logs").mkdir()
    (folder / "logs" / "1.txt").write_text("x")
    (folder / "best").write_text("x")
    (folder / "mine").write_text("x")
    run(folder, inputs, seed=1, overwrite=True, belongings=["logs", "best", "never there"])
    assert sorted(path.name for path in folder.iterdir()) == sorted(["a.copy", "b.copy", "c.copy", "mine", MANIFEST])


def test_leftovers_of_a_killed_run_are_removed(folder, inputs):
    (folder / "deep").mkdir(parents=True)
    (folder / ".manifest.json.tmp").write_text("half")
    (folder / "deep" / ".a.png.tmp").write_text("half")
    (folder / "deep" / "kept.tmp").write_text("not ours")
    run(folder, inputs)
    assert not list(folder.rglob(".*"))
    assert (folder / "deep" / "kept.tmp").exists()


def test_a_killed_run_leaves_a_manifest_that_knows_of_it(folder, inputs):
    with open_stage(folder, "copies", config={}, seed=0, inputs=inputs):
        (folder / "a.copy").write_text("a")
        assert not is_foreign(folder, "copies", "*.copy")  # were the process killed here, without any clean-up


def test_foreign_files_are_refused(folder):
    folder.mkdir(parents=True)
    refuse_foreign(folder, "copies", "*.copy")
    (folder / "x.copy").write_text("x")
    with pytest.raises(UserError, match="made elsewhere"):
        refuse_foreign(folder, "copies", "*.copy")
    assert not is_foreign(folder, "copies", "*.png")


def test_a_write_that_fails_leaves_the_old_manifest(folder, inputs, monkeypatch):
    run(folder, inputs)
    before = (folder / MANIFEST).read_bytes()

    def full(self, data):
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    (folder / "a.copy").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        stage = open_stage(folder, "copies", config={"size": 3}, seed=0, inputs=inputs)
        record = stage.__enter__()
        (folder / "a.copy").write_text("input a!")
        with pytest.raises(OSError, match="No space"):
            record.add("source/a", [folder / "a.copy"])
        with pytest.raises(OSError, match="No space"):
            stage.__exit__(None, None, None)
    assert (folder / MANIFEST).read_bytes() == before
    assert not list(folder.glob(".*"))
    assert run(folder, inputs) == ["source/a"]


@pytest.mark.parametrize("content", [b"{", b"[1]", b'"text"', b"\xff\xfe", b'{"copies": 1}', b'{"copies": {"x": 1}}'])
def test_what_is_no_manifest_is_said_to_be_none(folder, inputs, content):
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(UserError, match=r"manifest\.json") as caught:
        run(folder, inputs)
    assert "remove it" in str(caught.value)
    assert (folder / MANIFEST).read_bytes() == content


@pytest.mark.parametrize("below", ["", "pool"])
def test_a_file_in_the_way_of_the_folder(tmp_path, inputs, below):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="in the way"):
        run(tmp_path / "out" / below, inputs)
    assert (tmp_path / "out").read_text() == "a file"
