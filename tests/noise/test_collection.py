import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from config_files import config_of
from realsr.core.errors import UserError
from realsr.imaging import read_uint8, write_uint8
from realsr.noise.noise_config import NoiseConfig
from realsr.noise.tiles import measure_tiles
from realsr.provenance.manifest import read_manifest
from stages import collect_noise

SMALL = {"size": 32, "stride": 32}


def flat_photo(height: int, width: int, level: float = 2.0, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, level, (height, width, 3))
    return (120 + noise).round().clip(0, 255).astype(np.uint8)


@pytest.fixture
def source(tmp_path) -> Callable[[dict[str, np.ndarray]], Path]:
    def write(photos: dict[str, np.ndarray]) -> Path:
        (tmp_path / "source").mkdir(exist_ok=True)
        for name, photo in photos.items():
            write_uint8(tmp_path / "source" / name, photo)
        return tmp_path / "source"

    return write


def collect(
    folder: Path, pool: str = "pool", overwrite: bool = False, workers: int = 0, **changes
) -> None:
    """Collect from `source` into a pool, both in the folder, by tiles of 32 pixels."""
    config = config_of(NoiseConfig, **SMALL, **changes)
    collect_noise(folder / "source", folder / pool, config, overwrite, workers)


def patches(pool: Path) -> list[str]:
    return sorted(path.name for path in (pool / "noise").glob("*"))


def test_patches_are_the_pixels_of_their_tiles(source, tmp_path):
    photo = np.random.default_rng(1).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    photo[32:64, 64:96] = flat_photo(32, 32)
    photo[64:96, :32] = flat_photo(32, 32, seed=1)
    source({"b.png": photo, "a.x.png": flat_photo(32, 64), "none.png": photo[:32]})
    pool = tmp_path / "pool"
    collect(tmp_path)
    assert patches(pool) == ["a.x_000.png", "a.x_001.png", "b_000.png", "b_001.png"]
    np.testing.assert_array_equal(read_uint8(pool / "noise" / "b_000.png"), photo[32:64, 64:96])
    np.testing.assert_array_equal(read_uint8(pool / "noise" / "b_001.png"), photo[64:96, :32])
    assert Image.open(pool / "noise" / "b_000.png").mode == "RGB"
    section = read_manifest(pool)["noise"]
    assert section["complete"]
    assert section["config"]["max_variance"] == 20
    assert section["items"]["none"]["files"] == {}
    assert [(tile["top"], tile["left"]) for tile in section["items"]["b"]["tiles"]] == [
        (32, 64),
        (64, 0),
    ]
    assert section["items"]["b"]["source"] == "b.png"


def test_again_reads_nothing(source, tmp_path, monkeypatch):
    source(
        {
            "a.png": flat_photo(64, 64),
            "none.png": np.eye(64, dtype=np.uint8)[..., None].repeat(3, 2) * 255,
        }
    )
    collect(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "pool").rglob("*")}

    def refuse(path, *_):
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr("realsr.noise.tiles.read_uint8_and_damage", refuse)
    monkeypatch.setattr("realsr.noise.collection.read_uint8", refuse)
    collect(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "pool").rglob("*")} == before


def test_another_threshold_needs_overwrite_and_leaves_nothing_of_the_old(source, tmp_path):
    noisy = flat_photo(64, 32, level=5.5, seed=1)
    source({"a.png": np.concatenate([flat_photo(64, 32), noisy], axis=1)})
    pool = tmp_path / "pool"
    collect(tmp_path, max_variance=100)
    assert len(patches(pool)) == 4
    with pytest.raises(UserError, match=r"max_variance: was 100.*, now 6.*(.|\n)*overwrite=true"):
        collect(tmp_path, max_variance=6)
    collect(tmp_path, overwrite=True, max_variance=6)
    assert len(patches(pool)) == 2


# One photo with fewer tiles than the message would aim for, one with more, of nearly equal variances.
@pytest.mark.parametrize(("shape", "tiles"), [((64, 96), 6), ((416, 416), 169)])
def test_where_nothing_is_found_the_message_promises_what_comes_true(
    source, tmp_path, shape, tiles
):
    photo = flat_photo(*shape, level=12)
    source({"a.png": photo, "b.png": np.zeros((32, 32, 3), np.uint8)})
    with pytest.raises(UserError) as caught:
        collect(tmp_path, max_variance=3, min_mean=50)
    message = str(caught.value)
    assert f"none of {tiles + 1} tiles of 32x32" in message
    assert "noise.max_variance=3 " in message
    assert "noise.min_mean=50" in message
    variances = measure_tiles(photo, config_of(NoiseConfig, **SMALL))["variance"]
    for name, q in (("lowest", 0), ("1 %", 1), ("5 %", 5), ("25 %", 25), ("median", 50)):
        assert f"{name} {np.percentile(variances, q):.1f}" in message
    promise = re.search(r"noise\.max_variance=([\d.]+) would yield up to (\d+) patches", message)
    # Its next run takes the threshold without overwrite=true: nothing was made.
    collect(tmp_path, max_variance=float(promise[1]), min_mean=50)
    assert len(patches(tmp_path / "pool")) == int(promise[2])
    assert min(tiles, 100) <= int(promise[2]) <= tiles


def test_where_no_tile_is_bright_enough_the_message_says_so(source, tmp_path):
    source({"a.png": flat_photo(64, 64) // 4})
    with pytest.raises(
        UserError, match=r"brightest has a mean of (29|30)\.\d.* Lower noise\.min_mean"
    ):
        collect(tmp_path, min_mean=50)


def interrupt_at_b(path: Path, damaged: str) -> tuple[np.ndarray, None]:
    if path.name == "b.png":
        raise KeyboardInterrupt
    return read_uint8(path), None


def test_after_an_interruption_the_message_still_counts_all_tiles(source, tmp_path, monkeypatch):
    source({"a.png": flat_photo(64, 64, level=12), "b.png": flat_photo(64, 64, level=12, seed=1)})

    with monkeypatch.context() as patch:
        patch.setattr("realsr.noise.tiles.read_uint8_and_damage", interrupt_at_b)
        with pytest.raises(KeyboardInterrupt):
            collect(tmp_path)
    with pytest.raises(UserError, match="none of 8 tiles"):
        collect(tmp_path)


def test_a_photo_smaller_than_a_tile_is_named(source, tmp_path):
    source({"good.png": flat_photo(64, 64), "small.png": flat_photo(64, 31)})
    with pytest.raises(
        UserError, match=r"small\.png.*31x64 pixels are too few for a noise tile of 32"
    ):
        collect(tmp_path)
    assert patches(tmp_path / "pool") == [f"good_00{i}.png" for i in range(4)]


def test_a_truncated_photo_does_not_stop_the_others(source, tmp_path):
    source({f"{name}.png": flat_photo(64, 64, seed=i) for i, name in enumerate("abc")})
    bad, pool = tmp_path / "source" / "b.png", tmp_path / "pool"
    whole = bad.read_bytes()
    bad.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"1 of 3(.|\n)*b\.png"):
        collect(tmp_path)
    assert {name[0] for name in patches(pool)} == {"a", "c"}
    before = (pool / "noise" / "a_000.png").stat().st_mtime_ns
    bad.write_bytes(whole)
    collect(tmp_path)
    assert {name[0] for name in patches(pool)} == {"a", "b", "c"}
    assert (pool / "noise" / "a_000.png").stat().st_mtime_ns == before
    assert read_manifest(pool)["noise"]["complete"]


def test_patches_made_elsewhere_are_not_mixed_with_ours(source, tmp_path):
    source({"a.png": flat_photo(64, 64)})
    (tmp_path / "pool" / "noise").mkdir(parents=True)
    write_uint8(tmp_path / "pool" / "noise" / "x_000.png", flat_photo(32, 32))
    with pytest.raises(UserError, match="made elsewhere"):
        collect(tmp_path)
    assert patches(tmp_path / "pool") == ["x_000.png"]


def striped(seed: int) -> np.ndarray:
    return (flat_photo(32, 32, seed=seed) + 4 * (np.arange(32) % 16 < 8)[:, None, None]).astype(
        np.uint8
    )


def test_tiles_without_whole_noise_are_dropped_unless_the_released_rule_is_asked_for(
    source, tmp_path
):
    good = flat_photo(32, 64)
    burnt = (flat_photo(32, 32, seed=1).astype(int) + 132).clip(0, 255).astype(np.uint8)
    again = flat_photo(32, 32, seed=2)
    first = np.concatenate(
        [good, burnt, np.full((32, 32, 3), 90, np.uint8), again, striped(3)], axis=1
    )
    other = np.concatenate([flat_photo(32, 128, seed=4), again, flat_photo(32, 32, seed=5)], axis=1)
    source({"a.png": first, "b.png": other})
    collect(tmp_path)
    items = read_manifest(tmp_path / "pool")["noise"]["items"]
    flags = {tile["left"]: tile["flag"] for tile in items["a"]["tiles"]}
    assert flags == {0: "", 32: "", 128: "", 160: "structured"}
    assert items["a"]["dropped"] == {"constant": 1, "clipped": 1, "structured": 0, "duplicate": 0}
    assert [tile["left"] for tile in items["b"]["tiles"]] == [0, 32, 64, 96, 160]
    assert items["b"]["dropped"]["duplicate"] == 1
    facts = {"top", "left", "variance", "mean", "clipped", "structure", "flag"}
    assert set(items["a"]["tiles"][0]) == facts
    assert patches(tmp_path / "pool") == [f"a_00{i}.png" for i in range(4)] + [
        f"b_00{i}.png" for i in range(5)
    ]

    collect(tmp_path, "no", drop_structured=True)
    assert [t["left"] for t in read_manifest(tmp_path / "no")["noise"]["items"]["a"]["tiles"]] == [
        0,
        32,
        128,
    ]

    # The published code drops nothing, and forgets the last row: this photo has one row, so its double is measured.
    source({"a.png": np.concatenate([first, first]), "b.png": np.concatenate([other, other])})
    collect(tmp_path, "released", released_rule=True, drop_structured=True)
    items = read_manifest(tmp_path / "released")["noise"]["items"]
    assert [tile["left"] for tile in items["a"]["tiles"]] == [0, 32, 64, 96, 128]
    assert [tile["left"] for tile in items["b"]["tiles"]] == [0, 32, 64, 96, 128]


def test_structured_patches_are_told_of(source, tmp_path, caplog):
    caplog.set_level("INFO")
    source({"a.png": np.concatenate([flat_photo(32, 64), striped(1), striped(2)], axis=1)})
    for _ in range(2):  # the repeated command tells of them too
        caplog.clear()
        collect(tmp_path)
        assert "4 patches from 1 of 1 photos" in caplog.text
        assert "2 of 4 patches look structured" in caplog.text
        assert "noise.drop_structured=true" in caplog.text
    noisy = flat_photo(32, 32, level=20)
    source({"a.png": np.concatenate([striped(1), striped(2), noisy], axis=1)})
    log = r"2 structured; set noise\.drop_structured=false to keep these(.|\n)* would accept 1 more, minus those"
    with pytest.raises(UserError, match=log):
        collect(tmp_path, "no", drop_structured=True)


def everything(pool: Path) -> dict[str, bytes]:
    return {
        path.relative_to(pool).as_posix(): path.read_bytes()
        for path in sorted(pool.rglob("*"))
        if path.is_file()
    }


def test_worker_processes_change_no_file(source, tmp_path):
    photos = {f"{name}.png": flat_photo(64, 64, seed=seed) for seed, name in enumerate("abc")}
    source(
        photos
        | {
            "d.png": photos["a.png"],
            "small.png": flat_photo(20, 20),
            "e.png": flat_photo(64, 32, 60),
        }
    )
    for workers in (0, 2):
        with pytest.raises(UserError, match=r"1 of 6(.|\n)*small\.png"):
            collect(tmp_path, str(workers), workers=workers)
    assert everything(tmp_path / "2") == everything(tmp_path / "0")
    assert len(patches(tmp_path / "2")) == 12


def test_an_interrupted_run_knows_the_tiles_it_has(source, tmp_path, monkeypatch):
    photo = flat_photo(64, 64)
    source({"a.png": photo, "b.png": flat_photo(64, 64, seed=1), "c.png": photo})
    collect(tmp_path, "whole")

    with monkeypatch.context() as patch:
        patch.setattr("realsr.noise.tiles.read_uint8_and_damage", interrupt_at_b)
        with pytest.raises(KeyboardInterrupt):
            collect(tmp_path)
    assert patches(tmp_path / "pool") == [f"a_00{i}.png" for i in range(4)]
    collect(tmp_path)
    assert everything(tmp_path / "pool") == everything(tmp_path / "whole")
    assert len(patches(tmp_path / "pool")) == 8


def test_patches_of_a_run_that_was_killed_before_it_recorded_them_do_not_stay(
    source, tmp_path, monkeypatch
):
    source(
        {"a.png": np.concatenate([flat_photo(32, 32), flat_photo(32, 64, level=4, seed=1)], axis=1)}
    )

    def kill(self, *_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("realsr.provenance.manifest.StageRecord.add", kill)
        with pytest.raises(KeyboardInterrupt):
            collect(tmp_path)
    assert len(patches(tmp_path / "pool")) == 3
    collect(tmp_path, max_variance=5)
    assert patches(tmp_path / "pool") == ["a_000.png"]
