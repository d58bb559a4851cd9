import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from realsr.core.errors import UserError
from realsr.core.files import replace_file
from realsr.provenance.manifest import (
    Shard,
    choose_shard,
    is_foreign,
    name_inputs,
    open_stage,
    read_manifest,
    take_shard,
)
from realsr.provenance.sections import MANIFEST, STAGE_FILES, list_shard_manifests


@pytest.fixture
def inputs(tmp_path):
    (tmp_path / "in").mkdir()
    for name in "abcdefg":
        (tmp_path / "in" / name).write_text(f"input {name}")
    return name_inputs("source", sorted((tmp_path / "in").iterdir()))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out"


def run(folder: Path, inputs, shard=None, stop_after=None, config=None, **options) -> list[str]:
    """A stage that copies its inputs; returns which items it had to make."""
    made = []
    config = {"size": 3} if config is None else config
    with open_stage(
        folder, "copies", config=config, seed=0, inputs=inputs, shard=shard, **options
    ) as record:
        for name in take_shard(inputs, shard):
            if record.has_item(name):
                continue
            if len(made) == stop_after:
                raise KeyboardInterrupt
            (folder / name[-1]).write_bytes(inputs[name].read_bytes())
            record.add(name, [folder / name[-1]])
            made.append(name[-1])
        record.finish()
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("count", [1, 3, 8, 20])
def test_shards_share_all_items_out(count):
    items = list("abcdefgh")
    shards = [take_shard(items, Shard(index, count)) for index in range(count)]
    assert sorted(item for shard in shards for item in shard) == items
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_half_of_a_shard_is_answered_with_the_command():
    assert choose_shard(None, None) is None
    assert choose_shard(3, 8) == Shard(3, 8)
    for index, count in ((3, None), (None, 8)):
        with pytest.raises(UserError, match=r"-m 'shard=range\(8\)' shards=8"):
            choose_shard(index, count)
    for index, count in ((8, 8), (-1, 8), (0, 0)):
        with pytest.raises(UserError, match="from 0 to shards - 1"):
            choose_shard(index, count)


def test_merged_shards_are_a_whole_run(folder, inputs, tmp_path):
    run(tmp_path / "whole", inputs)
    for index in (2, 0, 1):
        before = contents(folder) if folder.exists() else {}
        made = run(folder, inputs, Shard(index, 3))
        assert made == list("abcdefg")[index::3]
        assert {name: contents(folder)[name] for name in before} == before, (
            "no other shard's file is touched"
        )
    assert len(list_shard_manifests(folder, "copies")) == 3
    assert not (folder / MANIFEST).exists()
    assert run(folder, inputs, Shard(1, 3)) == []
    assert run(folder, inputs) == []
    assert contents(folder).keys() == contents(tmp_path / "whole").keys()
    assert read_manifest(folder) == read_manifest(tmp_path / "whole")
    before = (folder / MANIFEST).stat().st_mtime_ns
    assert run(folder, inputs) == []
    assert (folder / MANIFEST).stat().st_mtime_ns == before


def test_a_killed_shard_goes_on_and_what_it_lacks_is_made_by_the_whole(folder, inputs):
    with pytest.raises(KeyboardInterrupt):
        run(folder, inputs, Shard(0, 2), stop_after=1)
    with pytest.raises(KeyboardInterrupt):
        run(folder, inputs, Shard(1, 2), stop_after=1)
    assert run(folder, inputs, Shard(0, 2)) == ["c", "e", "g"]
    assert run(folder, inputs) == ["d", "f"]
    assert read_manifest(folder)["copies"]["complete"]
    assert not list_shard_manifests(folder, "copies")


def test_what_others_have_done_is_not_done_again(folder, inputs):
    with pytest.raises(KeyboardInterrupt):
        run(folder, inputs, stop_after=3)
    assert run(folder, inputs, Shard(0, 2)) == ["e", "g"]
    assert run(folder, inputs, Shard(1, 2)) == ["d", "f"]
    # Other shards of the same photos: nothing is left for them.
    assert [run(folder, inputs, Shard(index, 3)) for index in range(3)] == [[], [], []]
    assert run(folder, inputs) == []


def test_photos_that_come_in_between_shift_shards_and_nothing_is_lost(folder, inputs):
    run(folder, inputs, Shard(0, 2))
    new = inputs["source/a"].with_name("aa")
    new.write_text("new")
    more = name_inputs("source", sorted(new.parent.iterdir()))
    assert run(folder, more, Shard(0, 2)) == ["b", "d", "f"]
    assert run(folder, more) == ["a"]  # aa: its copy is called by its last letter
    assert len(read_manifest(folder)["copies"]["items"]) == 8


def test_differences_between_shards_are_told_and_nothing_is_deleted(folder, inputs):
    run(folder, inputs, Shard(0, 2))
    before = contents(folder)
    for options in ({}, {"overwrite": True}):
        with pytest.raises(UserError, match=r"size: was 3, now 4(.|\n)*A shard deletes nothing"):
            run(folder, inputs, Shard(1, 2), config={"size": 4}, **options)
    with pytest.raises(UserError, match=r"size: was 3, now 4(.|\n)*overwrite=true"):
        run(folder, inputs, config={"size": 4})
    inputs["source/a"].write_text("other")
    os.utime(inputs["source/a"], ns=(0, 0))
    with pytest.raises(UserError, match="source/a: content changed"):
        run(folder, inputs, Shard(0, 2))
    with pytest.raises(UserError, match="source/a: missing now"):
        run(
            folder, {name: path for name, path in inputs.items() if name != "source/a"}, Shard(1, 2)
        )
    assert contents(folder) == before
    assert run(folder, inputs, overwrite=True) == list("abcdefg")
    assert not list_shard_manifests(folder, "copies")


def test_a_shard_leaves_the_files_alone_that_others_are_writing(folder, inputs):
    with open_stage(folder, "copies", config={"size": 3}, seed=0, inputs=inputs, shard=Shard(0, 2)):
        with replace_file(folder / "x") as file:
            file.write(b"half")
            run(folder, inputs, Shard(1, 2))
            with open_stage(folder, "another", config={}, seed=0, inputs={}):
                pass
        assert (folder / "x").read_bytes() == b"half"


def test_all_items_and_a_shard_wait_for_each_other(folder, inputs, caplog):
    caplog.set_level("INFO")
    for first, second in ((Shard(0, 2), None), (None, Shard(1, 2))):
        caplog.clear()
        with ThreadPoolExecutor() as threads:
            with open_stage(
                folder, "copies", config={"size": 3}, seed=0, inputs=inputs, shard=first
            ):
                other = threads.submit(run, folder, inputs, second)
                while "waiting for process" not in caplog.text:
                    time.sleep(0.01)
                assert not other.done()
            other.result()
    assert not list(folder.glob(".*"))


def test_what_shards_make_is_not_foreign(folder, inputs, monkeypatch):
    for stage in ("copies", "others"):
        monkeypatch.setitem(STAGE_FILES, stage, "a")
    run(folder, inputs, Shard(0, 2))
    assert not is_foreign(folder, "copies")
    assert is_foreign(folder, "others")


def test_shards_beyond_the_items_do_nothing(folder, inputs):
    assert run(folder, inputs, Shard(8, 9)) == []
    assert run(folder, inputs) == list("abcdefg")
    assert not list_shard_manifests(folder, "copies")


def test_a_broken_shard_manifest_is_named(folder, inputs):
    run(folder, inputs, Shard(0, 2))
    (path,) = list_shard_manifests(folder, "copies")
    path.write_text("{")
    with pytest.raises(UserError, match=path.name):
        run(folder, inputs)
    assert json.loads(json.dumps(path.name)) == "manifest.copies.shard0of2.json"
