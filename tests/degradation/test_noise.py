import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from realsr.degradation.noise import NoiseConfig, Tile, collect_noise, measure_tiles, select_tiles
from realsr.errors import UserError
from realsr.imaging import read_uint8, write_uint8
from realsr.manifest import read_manifest

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


def patches(pool: Path) -> list[str]:
    return sorted(path.name for path in (pool / "noise").glob("*"))


def as_rows(tiles: list[Tile]) -> np.ndarray:
    return np.array([[tile.top, tile.left, tile.variance, tile.mean] for tile in tiles]).reshape(-1, 4)


@pytest.mark.parametrize("rule", ["released", "all_tiles"])
def test_synthetic_photo_matches_golden(golden, rule):
    arrays = golden("noise_patches.npz")
    size, variance, mean = arrays["synthetic_512_rule"].tolist()
    config = NoiseConfig(size, size, variance, mean, released_rule=rule == "released")
    tiles = select_tiles(measure_tiles(arrays["synthetic_512"], config), config)
    expected = arrays[f"synthetic_512_{rule}"]
    np.testing.assert_array_equal(as_rows(tiles)[:, :2], expected[:, :2])
    # OpenCV and the reference round a few of the 65,536 pixels' luma to different sides of .5.
    np.testing.assert_allclose(as_rows(tiles), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("rule", ["released", "all_tiles"])
@pytest.mark.parametrize("photo", ["source_dji_fc300s/DJI_0030", "source_dji_fc300s/DJI_0031"])
def test_photos_match_golden(golden, shared, photo, rule):
    check_photo(golden, shared, photo, rule)


@pytest.mark.parametrize("rule", ["released", "all_tiles"])
def test_phone_photo_matches_golden(golden, shared, rule):
    check_photo(golden, shared, "source_iphonexr_noise/IMG_3580", rule)


def check_photo(golden, shared, photo, rule):
    arrays, name = golden("noise_patches.npz"), Path(photo).name
    size, variance, mean = arrays[f"{name}_rule"].tolist()
    config = NoiseConfig(size, size, variance, mean, released_rule=rule == "released")
    measured = as_rows(measure_tiles(read_uint8(shared(f"data/{photo}.JPG")), config))
    found = {(top, left) for top, left, *_ in as_rows(select_tiles([Tile(*row) for row in measured], config)).tolist()}
    expected = arrays[f"{name}_{rule}"]
    assert expected.shape[0] >= 3
    # JPEG decoders differ in the last bit, so a tile at the threshold may fall on its other side.
    for place in found ^ {(top, left) for top, left in expected[:, :2].tolist()}:
        at = (measured[:, :2] == place).all(1)
        assert abs(measured[at, 2] - variance).item() < 0.2 or abs(measured[at, 3] - mean).item() < 0.2
    for top, left, *values in expected.tolist():
        at = (measured[:, :2] == (top, left)).all(1)
        np.testing.assert_allclose(measured[at, 2:][0], values, atol=0.2)


@pytest.mark.parametrize("size", [256, 64])
def test_the_last_exact_tile_is_taken_unless_the_released_rule_is_asked_for(size):
    photo = flat_photo(512, 512)
    for released, starts in ((False, range(0, 513 - size, size)), (True, range(0, 512 - size, size))):
        config = NoiseConfig(size=size, stride=size, released_rule=released)
        places = [(tile.top, tile.left) for tile in select_tiles(measure_tiles(photo, config), config)]
        assert places == [(top, left) for top in starts for left in starts]
        assert len(places) == (512 // size - released) ** 2


@pytest.mark.parametrize(("height", "width", "size", "stride"), [(100, 131, 32, 32), (96, 64, 32, 20), (40, 33, 32, 3)])
def test_tiles_written_as_plain_loops(height, width, size, stride):
    photo = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    photo[: height // 2] = flat_photo(height // 2, width)
    expected = []
    luma = np.rint(photo @ np.array([0.299, 0.587, 0.114]))
    for top in range(height):
        for left in range(width):
            if top % stride or left % stride or top + size > height or left + size > width:
                continue
            tile = luma[top : top + size, left : left + size]
            mean = sum(tile.ravel()) / size**2
            expected.append([top, left, sum((value - mean) ** 2 for value in tile.ravel()) / size**2, mean])
    config = NoiseConfig(size=size, stride=stride)
    tiles = measure_tiles(photo, config)
    np.testing.assert_allclose(as_rows(tiles), expected, atol=1e-2, rtol=1e-3)  # luma may round .5 to either side
    limits = NoiseConfig(size=size, stride=stride, max_variance=20.0, min_mean=119.0)
    assert select_tiles(tiles, limits) == [tile for tile in tiles if tile.variance < 20 and tile.mean > 119]


def test_both_thresholds_are_exclusive():
    tiles = [Tile(0, 0, 20.0, 60.0), Tile(0, 1, 19.99, 50.0), Tile(0, 2, 19.99, 50.01)]
    assert select_tiles(tiles, NoiseConfig(max_variance=20.0, min_mean=50.0)) == [tiles[2]]


def test_patches_are_the_pixels_of_their_tiles(source, tmp_path):
    photo = np.random.default_rng(1).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    photo[32:64, 64:96] = flat_photo(32, 32)
    photo[64:96, :32] = flat_photo(32, 32, seed=1)
    source({"b.png": photo, "a.x.png": flat_photo(32, 64), "none.png": photo[:32]})
    pool = tmp_path / "pool"
    collect_noise(tmp_path / "source", pool, NoiseConfig(**SMALL))
    assert patches(pool) == ["a.x_000.png", "a.x_001.png", "b_000.png", "b_001.png"]
    np.testing.assert_array_equal(read_uint8(pool / "noise" / "b_000.png"), photo[32:64, 64:96])
    np.testing.assert_array_equal(read_uint8(pool / "noise" / "b_001.png"), photo[64:96, :32])
    assert Image.open(pool / "noise" / "b_000.png").mode == "RGB"
    section = read_manifest(pool)["noise"]
    assert section["complete"]
    assert section["config"]["max_variance"] == 20
    assert section["items"]["none"]["files"] == {}
    assert [(tile["top"], tile["left"]) for tile in section["items"]["b"]["tiles"]] == [(32, 64), (64, 0)]
    assert section["items"]["b"]["source"] == "b.png"


def test_again_reads_nothing(source, tmp_path, monkeypatch):
    source({"a.png": flat_photo(64, 64), "none.png": np.eye(64, dtype=np.uint8)[..., None].repeat(3, 2) * 255})
    collect_noise(tmp_path / "source", tmp_path / "pool", NoiseConfig(**SMALL))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "pool").rglob("*")}

    def refuse(path):
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr("realsr.degradation.noise.read_uint8", refuse)
    collect_noise(tmp_path / "source", tmp_path / "pool", NoiseConfig(**SMALL))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "pool").rglob("*")} == before


def test_another_threshold_needs_overwrite_and_leaves_nothing_of_the_old(source, tmp_path):
    noisy = flat_photo(64, 32, level=5.5, seed=1)
    source({"a.png": np.concatenate([flat_photo(64, 32), noisy], axis=1)})
    pool = tmp_path / "pool"
    collect_noise(tmp_path / "source", pool, NoiseConfig(**SMALL, max_variance=100))
    assert len(patches(pool)) == 4
    with pytest.raises(UserError, match=r"max_variance: 100.* there, 6.* now(.|\n)*overwrite=true"):
        collect_noise(tmp_path / "source", pool, NoiseConfig(**SMALL, max_variance=6))
    collect_noise(tmp_path / "source", pool, NoiseConfig(**SMALL, max_variance=6), overwrite=True)
    assert len(patches(pool)) == 2


# One photo with fewer tiles than the message would aim for, one with more, of nearly equal variances.
@pytest.mark.parametrize(("shape", "tiles"), [((64, 96), 6), ((416, 416), 169)])
def test_where_nothing_is_found_the_message_promises_what_comes_true(source, tmp_path, shape, tiles):
    photo = flat_photo(*shape, level=12)
    source({"a.png": photo, "b.png": np.zeros((32, 32, 3), np.uint8)})
    pool, config = tmp_path / "pool", NoiseConfig(**SMALL, max_variance=3, min_mean=50)
    with pytest.raises(UserError) as caught:
        collect_noise(tmp_path / "source", pool, config)
    message = str(caught.value)
    assert f"none of {tiles + 1} tiles of 32x32" in message
    assert "noise.max_variance=3 " in message
    assert "noise.min_mean=50" in message
    variances = [tile.variance for tile in measure_tiles(photo, config)]
    for name, q in (("lowest", 0), ("1 %", 1), ("5 %", 5), ("25 %", 25), ("median", 50)):
        assert f"{name} {np.percentile(variances, q):.1f}" in message
    promise = re.search(r"noise\.max_variance=([\d.]+) would yield (\d+) patches", message)
    # Its next run takes the threshold without overwrite=true: nothing was made.
    collect_noise(tmp_path / "source", pool, NoiseConfig(**SMALL, max_variance=float(promise[1]), min_mean=50))
    assert len(patches(pool)) == int(promise[2])
    assert min(tiles, 100) <= int(promise[2]) <= tiles


def test_where_no_tile_is_bright_enough_the_message_says_so(source, tmp_path):
    source({"a.png": flat_photo(64, 64) // 4})
    config = NoiseConfig(**SMALL, min_mean=50)
    with pytest.raises(UserError, match=r"brightest has a mean of (29|30)\.\d.* Lower noise\.min_mean"):
        collect_noise(tmp_path / "source", tmp_path / "pool", config)


def test_after_an_interruption_the_message_still_counts_all_tiles(source, tmp_path, monkeypatch):
    source({"a.png": flat_photo(64, 64, level=12), "b.png": flat_photo(64, 64, level=12, seed=1)})

    def interrupt(path):
        if path.name == "b.png":
            raise KeyboardInterrupt
        return read_uint8(path)

    with monkeypatch.context() as patch:
        patch.setattr("realsr.degradation.noise.read_uint8", interrupt)
        with pytest.raises(KeyboardInterrupt):
            collect_noise(tmp_path / "source", tmp_path / "pool", NoiseConfig(**SMALL))
    with pytest.raises(UserError, match="none of 8 tiles"):
        collect_noise(tmp_path / "source", tmp_path / "pool", NoiseConfig(**SMALL))


def test_a_photo_smaller_than_a_tile_is_named(source, tmp_path):
    source({"good.png": flat_photo(64, 64), "small.png": flat_photo(64, 31)})
    with pytest.raises(UserError, match=r"small\.png.*31x64 pixels are too few for a noise tile of 32"):
        collect_noise(tmp_path / "source", tmp_path / "pool", NoiseConfig(**SMALL))
    assert patches(tmp_path / "pool") == [f"good_00{i}.png" for i in range(4)]


def test_a_truncated_photo_does_not_stop_the_others(source, tmp_path):
    source({f"{name}.png": flat_photo(64, 64, seed=i) for i, name in enumerate("abc")})
    bad, pool = tmp_path / "source" / "b.png", tmp_path / "pool"
    whole = bad.read_bytes()
    bad.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"1 of 3(.|\n)*b\.png"):
        collect_noise(tmp_path / "source", pool, NoiseConfig(**SMALL))
    assert {name[0] for name in patches(pool)} == {"a", "c"}
    before = (pool / "noise" / "a_000.png").stat().st_mtime_ns
    bad.write_bytes(whole)
    collect_noise(tmp_path / "source", pool, NoiseConfig(**SMALL))
    assert {name[0] for name in patches(pool)} == {"a", "b", "c"}
    assert (pool / "noise" / "a_000.png").stat().st_mtime_ns == before
    assert read_manifest(pool)["noise"]["complete"]


def test_patches_made_elsewhere_are_not_mixed_with_ours(source, tmp_path):
    source({"a.png": flat_photo(64, 64)})
    (tmp_path / "pool" / "noise").mkdir(parents=True)
    write_uint8(tmp_path / "pool" / "noise" / "x_000.png", flat_photo(32, 32))
    with pytest.raises(UserError, match="made elsewhere"):
        collect_noise(tmp_path / "source", tmp_path / "pool", NoiseConfig(**SMALL))
    assert patches(tmp_path / "pool") == ["x_000.png"]
