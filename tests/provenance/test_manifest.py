import errno
import hashlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from full_disk import full_disk
from realsr.core.errors import UserError
from realsr.provenance.manifest import (
    StageRules,
    is_foreign,
    name_inputs,
    open_stage,
    package_versions,
    read_manifest,
    refuse_foreign,
)
from realsr.provenance.sections import MANIFEST, STAGE_FILES


@pytest.fixture
def inputs(tmp_path):
    (tmp_path / "in").mkdir()
    for name in "abc":
        (tmp_path / "in" / name).write_text(f"input {name}")
    return name_inputs("source", sorted((tmp_path / "in").iterdir()))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out" / "pool"


def run(
    folder: Path, inputs, *, config=None, seed=0, stop_after=None, only=None, **options
) -> list[str]:
    """A stage that copies its inputs; returns which items it had to make."""
    made = []
    config = {"size": 3} if config is None else config
    with open_stage(folder, "copies", config=config, seed=seed, inputs=inputs, **options) as record:
        for name, path in inputs.items():
            if record.has_item(name):
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
    assert run(folder, inputs, config={"size": 3, "folder": Path("x")}, seed=5) == [
        "source/a",
        "source/b",
        "source/c",
    ]
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
    assert section["items"]["source/a"] == {
        "files": {"a.copy": {"size": 7, "sha256": digest}},
        "source": "a",
    }


def test_again_does_nothing_and_reads_no_input(folder, inputs, monkeypatch):
    run(folder, inputs)
    before = (folder / MANIFEST).stat()
    digest = hashlib.file_digest

    def refuse(file, *args):
        assert Path(file.name) not in inputs.values(), "a known file is read again"
        return digest(file, *args)

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
        ({"config": {"size": 4}}, "size: was 3, now 4"),
        ({"config": {"size": 3, "more": 1}}, "more: was unset, now 1"),
        ({"config": {}}, "size: was 3, now unset"),
        ({"seed": 1}, "seed: was 0, now 1"),
        ({"seed": None}, "seed: was 0, now None"),
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
    assert (
        run(folder, inputs, overwrite=True, **change) == []
    )  # overwrite is no order to do it twice


def test_a_missing_value_equals_none(folder, inputs):
    run(folder, inputs, config={"size": 3, "weights": None})
    assert run(folder, inputs, config={"size": 3, "folder": None}) == []


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
    assert "source/a: content changed" in message
    assert "source/b: missing now" in message
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
    assert (
        known["mtime_ns"] == inputs["source/a"].stat().st_mtime_ns
    )  # and is not read a third time


def test_an_unfinished_stage_takes_more_inputs_that_stand_for_themselves(folder, inputs):
    first = {name: inputs[name] for name in ("source/a", "source/b")}
    with pytest.raises(KeyboardInterrupt):
        run(folder, first, stop_after=1)
    with pytest.raises(UserError, match="source/c: new"):
        run(folder, inputs, rules=StageRules(allow_new_inputs=False))
    with pytest.raises(UserError, match="source/a: missing now"):
        run(folder, {"source/c": inputs["source/c"]})
    assert run(folder, inputs) == ["source/b", "source/c"]


def test_a_stage_that_made_nothing_differs_from_nothing(folder, inputs):
    with pytest.raises(KeyboardInterrupt):
        run(folder, inputs, stop_after=0)
    assert len(run(folder, inputs, config={"size": 9}, seed=9)) == 3


def test_reset(folder, inputs):
    with open_stage(folder, "copies", config={}, seed=0, inputs=inputs) as record:
        (folder / "a.copy").write_text("a")
        record.add("source/a", [folder / "a.copy"])
        record.save()
        record.reset()
    assert read_manifest(folder)["copies"]["items"] == {}
    assert len(run(folder, inputs, config={"size": 9})) == 3


def test_failures_are_listed_and_tried_again(folder, inputs):
    def attempt(broken: set[str]):
        with open_stage(folder, "copies", config={}, seed=0, inputs=inputs) as record:
            tried = [name for name in inputs if not record.has_item(name)]
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
    run(
        folder,
        inputs,
        seed=1,
        overwrite=True,
        rules=StageRules(owned_paths=["logs", "best", "never there"]),
    )
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["a.copy", "b.copy", "c.copy", "mine", MANIFEST]
    )


def test_leftovers_of_a_killed_run_are_removed(folder, inputs):
    (folder / "deep").mkdir(parents=True)
    (folder / ".manifest.json.realsr.tmp").write_text("half")
    (folder / "deep" / ".a.png.realsr.tmp").write_text("half")
    (folder / "deep" / ".kept.tmp").write_text("not ours")
    run(folder, inputs)
    assert [path.name for path in folder.rglob(".*")] == [".kept.tmp"]


def test_a_killed_run_leaves_a_manifest_that_knows_of_it(folder, inputs, monkeypatch):
    monkeypatch.setitem(STAGE_FILES, "copies", "*.copy")
    with open_stage(folder, "copies", config={}, seed=0, inputs=inputs):
        (folder / "a.copy").write_text("a")
        # were the process killed here, without any clean-up
        assert not is_foreign(folder, "copies")


def test_foreign_files_are_refused(folder):
    (folder / "HR").mkdir(parents=True)
    refuse_foreign(folder, "pairs")
    (folder / "HR/x.png").write_text("x")
    with pytest.raises(UserError, match=r"made elsewhere \(HR/\* without a manifest\)"):
        refuse_foreign(folder, "pairs")
    assert not is_foreign(folder, "kernels")


def test_a_write_that_fails_leaves_the_old_manifest(folder, inputs):
    run(folder, inputs)
    before = (folder / MANIFEST).read_bytes()

    (folder / "a.copy").unlink()
    with full_disk(errno.ENOSPC):
        stage = open_stage(folder, "copies", config={"size": 3}, seed=0, inputs=inputs)
        record = stage.__enter__()
        (folder / "a.copy").write_text("input a!")
        with pytest.raises(OSError, match="the disk says no"):
            record.add("source/a", [folder / "a.copy"])
        with pytest.raises(OSError, match="the disk says no"):
            stage.__exit__(None, None, None)
    assert (folder / MANIFEST).read_bytes() == before
    assert not list(folder.glob(".*"))
    assert run(folder, inputs) == ["source/a"]


@pytest.mark.parametrize(
    "content", [b"{", b"[1]", b'"text"', b"\xff\xfe", b'{"copies": 1}', b'{"copies": {"x": 1}}']
)
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
    with pytest.raises(UserError, match="prevents creating this folder"):
        run(tmp_path / "out" / below, inputs)
    assert (tmp_path / "out").read_text() == "a file"


@pytest.mark.parametrize(
    "name",
    [
        "../../kept",
        "deep/../../../kept",
        "link/kept",
        "file",
        "\0",
        "",
        ".",
        "x" * 300,
        "loop",
        "\ud800",
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("shard", [False, True])
def test_a_file_outside_of_the_folder_is_refused_and_nothing_is_deleted(
    folder, inputs, tmp_path, name, overwrite, shard
):
    run(folder, inputs)
    (tmp_path / "kept").write_text("precious")
    (folder / "link").symlink_to(tmp_path)
    (folder / "file").symlink_to(tmp_path / "kept")
    (folder / "loop").symlink_to(folder / "loop")
    manifest = read_manifest(folder)
    manifest["copies"]["items"]["evil"] = {"files": {name: {"size": 8, "sha256": "0" * 64}}}
    place = "manifest.copies.shard0of2.json" if shard else MANIFEST
    (folder / place).write_text(json.dumps(manifest))
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(UserError, match=f"{place}: its item evil cannot be used"):
        run(folder, inputs, config={"size": 4}, overwrite=overwrite)
    assert (tmp_path / "kept").read_text() == "precious"
    assert sorted(path.name for path in folder.iterdir()) == before


def test_an_absolute_path_is_refused(folder, inputs, tmp_path):
    run(folder, inputs)
    (tmp_path / "kept").write_text("precious")
    manifest = read_manifest(folder)
    manifest["copies"]["items"]["source/a"]["files"] = {
        str(tmp_path / "kept"): {"size": 8, "sha256": "0" * 64}
    }
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="outside"):
        run(folder, inputs, overwrite=True, config={"size": 4})
    assert (tmp_path / "kept").exists()


@pytest.mark.parametrize(
    "damage", ["empty", "zeros", "half", "zeros at the end", "zeros at the start"]
)
@pytest.mark.parametrize("size", [40, 200_000])
def test_a_file_that_a_power_cut_spoilt_is_made_again(folder, tmp_path, damage, size):
    (tmp_path / "in").write_bytes(os.urandom(size))
    inputs = {"a": tmp_path / "in"}
    run(folder, inputs)
    file = folder / "in.copy"
    whole, status = file.read_bytes(), file.stat()
    half = size // 2
    spoilt = {
        "empty": b"",
        "zeros": bytes(size),
        "half": whole[:half],
        "zeros at the end": whole[:half] + bytes(size - half),
        "zeros at the start": bytes(half) + whole[half:],
    }
    file.write_bytes(spoilt[damage])
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert run(folder, inputs) == ["a"]
    assert file.read_bytes() == whole


@pytest.mark.parametrize("content", [b"", bytes(300)])
def test_items_of_a_lost_manifest_are_made_again_and_not_taken_for_foreign(
    folder, inputs, content, caplog, monkeypatch
):
    monkeypatch.setitem(STAGE_FILES, "copies", "*.copy")
    run(folder, inputs)
    (folder / MANIFEST).write_bytes(content)
    assert not is_foreign(folder, "copies")
    assert run(folder, inputs) == ["source/a", "source/b", "source/c"]
    assert "as after a power cut" in caplog.text


def test_files_are_on_the_disk_before_the_manifest_names_them(folder, inputs, monkeypatch):
    synced, fsync = [], os.fsync

    def note(number):
        synced.append(str(Path(f"/proc/self/fd/{number}").readlink()))
        fsync(number)

    replace = Path.replace

    def check(self, target):
        if target.name == MANIFEST:
            named = json.loads(self.read_bytes())["copies"]["items"].values()
            assert {str(folder / file) for item in named for file in item["files"]} <= set(synced)
        return replace(self, target)

    if not Path("/proc/self/fd").exists():
        pytest.skip("the system does not tell the names of open files")
    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Path, "replace", check)
    run(folder, inputs)
    assert {str(folder), str(folder / ".manifest.json.realsr.tmp")} <= set(synced)


def test_stages_that_share_a_folder_lose_no_record(folder, inputs):
    with open_stage(folder, "one", config={}, seed=0, inputs=inputs) as first:
        with open_stage(folder, "two", config={}, seed=0, inputs=inputs) as second:
            for record in (first, second):
                (folder / record.stage).write_text(record.stage)
                record.add("x", [folder / record.stage])
            second.finish()
        first.finish()
    assert read_manifest(folder).keys() == {"one", "two"}
    assert all(section["complete"] for section in read_manifest(folder).values())
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "one", "two"]


def test_a_second_process_is_refused_or_waits(folder, inputs, caplog):
    caplog.set_level("INFO")
    with ThreadPoolExecutor() as threads:
        with open_stage(folder, "copies", config={"size": 3}, seed=0, inputs=inputs):
            with pytest.raises(
                UserError, match=rf"in use by process {os.getpid()} on .* since \d{{4}}-"
            ):
                run(folder, inputs, rules=StageRules(wait=False))
            other = threads.submit(run, folder, inputs)
            while "waiting for process" not in caplog.text:
                time.sleep(0.01)
            assert not (folder / "a.copy").exists()
        assert other.result() == ["source/a", "source/b", "source/c"]
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(
    "section",
    [
        {"items": []}, {"items": {"a": {"files": "x"}}}, {"items": {"a": {"files": {"a": {"size": "1"}}}}},
        {"items": {"a": {"files": {"a": {"size": 1}}}}}, {"items": {"a": None}}, {"inputs": {"a": {"size": 1}}},
        {"inputs": {"a": 5}}, {"complete": 1}, {"seed": "0"}, {"config": None}, {"notes": []},
    ],
)  # fmt: skip
def test_a_section_of_another_form_is_named(folder, inputs, section):
    run(folder, inputs)
    manifest = read_manifest(folder)
    manifest["copies"] |= section
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"manifest\.json: not a manifest of this program"):
        run(folder, inputs)


def test_deep_nesting_is_named(folder, inputs):
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text('{"copies": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(UserError, match="nested too deeply"):
        run(folder, inputs)


def test_an_input_that_cannot_be_read_is_left_to_the_stage(folder, inputs, tmp_path):
    run(folder, inputs)
    inputs["source/b"].unlink()
    inputs["source/b"].symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="source/b: missing now"):
        run(folder, inputs)


def test_a_value_that_names_a_file_is_compared_by_content(tmp_path: Path) -> None:
    first, second = tmp_path / "first.pth", tmp_path / "second.pth"
    first.write_bytes(b"weights")

    def make(path: Path) -> None:
        config, files = {"weights": path}, {"weights": path}
        with open_stage(
            tmp_path / "out", "stage", config=config, seed=0, inputs={}, files=files
        ) as record:
            (tmp_path / "out" / "item").write_bytes(b"x")
            record.add("item", [tmp_path / "out" / "item"])
            record.finish()

    make(first)
    make(first.rename(second))
    assert read_manifest(tmp_path / "out")["stage"]["config"]["weights"] == str(second)
    second.write_bytes(b"changed")
    with pytest.raises(UserError, match=r"weights: content of .*second\.pth changed"):
        make(second)
    first.write_bytes(b"others")
    with pytest.raises(UserError, match=r"weights: was .*second\.pth, now .*first\.pth"):
        make(first)
    second.unlink()
    make(second)
