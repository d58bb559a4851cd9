from pathlib import Path

import cv2
import numpy as np
import pytest

from config_files import config_of
from realsr.core.errors import UserError
from realsr.core.ranges import check_ranges
from realsr.imaging import read_uint8
from realsr.noise.noise_config import NoiseConfig
from realsr.noise.tiles import (
    DUPLICATE_CORRELATION,
    TILES,
    DuplicateFilter,
    make_signature,
    mask_clipped,
    mask_tiles,
    measure_structure,
    measure_tiles,
    remove_shading,
)

LIMIT = config_of(NoiseConfig).max_structure


def flat_photo(height: int, width: int, level: float = 2.0, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, level, (height, width, 3))
    return (120 + noise).round().clip(0, 255).astype(np.uint8)


def as_rows(tiles: np.ndarray) -> np.ndarray:
    return np.array(tiles.tolist()).reshape(-1, 6)[:, :4]


def select_tiles(tiles: np.ndarray, config: NoiseConfig) -> np.ndarray:
    return tiles[mask_tiles(tiles, config.max_variance, config.min_mean)]


@pytest.mark.parametrize("rule", ["released", "all_tiles"])
def test_synthetic_photo_matches_golden(golden, rule):
    arrays = golden("noise_patches.npz")
    size, variance, mean = arrays["synthetic_512_rule"].tolist()
    config = config_of(NoiseConfig, size, size, variance, mean, released_rule=rule == "released")
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
    config = config_of(NoiseConfig, size, size, variance, mean, released_rule=rule == "released")
    tiles = measure_tiles(read_uint8(shared(f"data/{photo}.JPG")), config)
    measured = as_rows(tiles)
    found = {(top, left) for top, left, *_ in as_rows(select_tiles(tiles, config)).tolist()}
    expected = arrays[f"{name}_{rule}"]
    assert expected.shape[0] >= 3
    # JPEG decoders differ in the last bit, so a tile at the threshold may fall on its other side.
    for place in found ^ {(top, left) for top, left in expected[:, :2].tolist()}:
        at = (measured[:, :2] == place).all(1)
        assert (
            abs(measured[at, 2] - variance).item() < 0.2 or abs(measured[at, 3] - mean).item() < 0.2
        )
    for top, left, *values in expected.tolist():
        at = (measured[:, :2] == (top, left)).all(1)
        np.testing.assert_allclose(measured[at, 2:][0], values, atol=0.2)


@pytest.mark.parametrize("size", [256, 64])
def test_the_last_exact_tile_is_taken_unless_the_released_rule_is_asked_for(size):
    photo = flat_photo(512, 512)
    for released, starts in (
        (False, range(0, 513 - size, size)),
        (True, range(0, 512 - size, size)),
    ):
        config = config_of(NoiseConfig, size=size, stride=size, released_rule=released)
        places = select_tiles(measure_tiles(photo, config), config)[["top", "left"]].tolist()
        assert places == [(top, left) for top in starts for left in starts]
        assert len(places) == (512 // size - released) ** 2


@pytest.mark.parametrize(
    ("height", "width", "size", "stride"),
    [(100, 131, 32, 32), (96, 64, 32, 20), (40, 33, 32, 3), (64, 99, 16, 40)],
)
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
            expected.append(
                [top, left, sum((value - mean) ** 2 for value in tile.ravel()) / size**2, mean]
            )
    config = config_of(NoiseConfig, size=size, stride=stride)
    tiles = measure_tiles(photo, config)
    np.testing.assert_allclose(
        as_rows(tiles), expected, atol=1e-2, rtol=1e-3
    )  # luma may round .5 to either side
    limits = config_of(NoiseConfig, size=size, stride=stride, max_variance=20.0, min_mean=119.0)
    assert as_rows(select_tiles(tiles, limits)).tolist() == [
        row for row in as_rows(tiles).tolist() if row[2] < 20 and row[3] > 119
    ]


def test_both_thresholds_are_exclusive():
    tiles = np.zeros(3, TILES)
    tiles["variance"], tiles["mean"] = (20.0, 19.99, 19.99), (60.0, 50.0, 50.01)
    assert mask_tiles(tiles, 20.0, 50.0).tolist() == [False, False, True]


@pytest.mark.parametrize(("size", "stride"), [(256, 256), (64, 48), (32, 16)])
def test_statistics_are_those_of_numpy_to_the_last_digits(size, stride):
    photo = np.random.default_rng(0).integers(0, 256, (600, 530, 3), dtype=np.uint8)
    photo[:300] = 255 - photo[:300] // 64
    gray = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    tiles = measure_tiles(photo, config_of(NoiseConfig, size, stride))
    assert len(tiles) == ((600 - size) // stride + 1) * ((530 - size) // stride + 1)
    for top, left, variance, mean, *_ in tiles.tolist():
        tile = gray[top : top + size, left : left + size]
        assert (variance, mean) == pytest.approx((tile.var(), tile.mean()), rel=1e-12)


def test_clipped_pixels_are_counted_once_whatever_channel():
    tile = np.full((16, 16, 3), 7, np.uint8)
    tile[0, 0], tile[0, 1, 1], tile[5, 5, 2], tile[6, 6] = 0, 255, 0, (254, 1, 254)
    assert mask_clipped(tile).mean() == 3 / 256


def test_shading_is_removed_and_noise_is_left():
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    shading = 120 + 20 * x - 9 * y + 7 * x * y + 5 * x**2 - 6 * y**2
    noise = np.random.default_rng(0).normal(0, 2, (256, 256, 1))
    tile = np.rint(shading[..., None] + noise).astype(np.uint8).repeat(3, 2)
    residual = remove_shading(tile)
    # The sky's gradient alone has a variance above 100; what is left is noise and rounding.
    assert residual.var() == pytest.approx(4 + 1 / 12, rel=0.03)
    assert np.corrcoef(residual.ravel(), noise.ravel())[0, 1] > 0.98
    assert measure_structure(residual) < LIMIT / 4


def sensor_noise(size: int, seed: int, level: float = 2.5) -> np.ndarray:
    """Noise as photos have it: demosaicked (smooth over some pixels) and saved as JPEG."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 1, (size, size, 3)), (0, 0), 0.8)
    tile = np.rint(120 + noise * level / noise.std()).astype(np.uint8)
    return cv2.imdecode(
        cv2.imencode(".jpg", tile, [cv2.IMWRITE_JPEG_QUALITY, 90])[1], cv2.IMREAD_COLOR
    )


@pytest.mark.parametrize("size", [32, 64, 256])
def test_sensor_noise_is_not_taken_for_structure(size):
    found = [measure_structure(remove_shading(sensor_noise(size, seed))) for seed in range(20)]
    assert np.mean(np.array(found) > LIMIT) <= 0.05


@pytest.mark.parametrize("kind", ["edge", "diagonal", "stripes", "stones"])
def test_content_as_faint_as_the_noise_is_structure(kind):
    y, x = np.mgrid[:256, :256]
    stones = cv2.GaussianBlur(np.random.default_rng(1).normal(0, 1, (256, 256)), (0, 0), 8)
    content = {
        "edge": np.where(x < 100, -1.0, 1.0),
        "diagonal": np.where(x + y < 200, -1.0, 1.0),
        "stripes": np.sin(y / 5),
        "stones": stones / stones.std(),
    }[kind]
    noise = sensor_noise(256, seed=0).astype(float)
    tile = np.rint(noise + 2 * content[..., None]).astype(np.uint8)
    assert measure_structure(remove_shading(tile)) > 1.5 * LIMIT
    assert cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY).var() < 20


def test_structure_is_an_autocorrelation_written_as_plain_loops():
    residual = np.random.default_rng(0).normal(0, 1, (40, 40)).cumsum(0)
    residual = (residual - residual.mean()).astype(np.float32)
    found = []
    for down, right in ((10, 0), (0, 10), (10, 10), (10, -10), (8, 0), (0, 8), (8, 8), (8, -8)):
        products = [
            float(residual[y, x]) * float(residual[y + down, x + right])
            for y in range(40)
            for x in range(40)
            if y + down < 40 and 0 <= x + right < 40
        ]
        found.append(abs(np.mean(products)) / np.square(residual, dtype=np.float64).mean())
    assert measure_structure(residual) == pytest.approx(max(found) - 4 / 40, rel=1e-4)
    assert measure_structure(np.zeros((32, 32), np.float32)) == 0


def test_stones_under_water_are_structure_and_a_chart_is_not(shared):
    """Tiles below the paper's variance of 20, looked at one by one."""

    def structures(photo: str) -> dict[tuple[int, int], float]:
        image = read_uint8(shared(f"data/{photo}.JPG"))
        config = config_of(NoiseConfig, min_mean=50)
        tiles = select_tiles(measure_tiles(image, config), config)
        cuts = {
            (t["top"], t["left"]): image[t["top"] : t["top"] + 256, t["left"] : t["left"] + 256]
            for t in tiles
        }
        return {place: measure_structure(remove_shading(tile)) for place, tile in cuts.items()}

    stones = structures("source_dji_fc300s/DJI_0030")
    assert len(stones) == 10
    assert min(stones.values()) > LIMIT
    chart = structures("source_iphonexr_noise/IMG_3610")
    dirt = {(0, 3584), (256, 3584)}  # on the chart's white frame
    assert {place for place, structure in chart.items() if structure > LIMIT} == dirt
    assert len(chart) == 43


def test_a_photo_saved_again_is_recognised_and_another_frame_is_not():
    scene = np.random.default_rng(9).normal(0, 1, (256, 256, 1))
    photo = np.rint(sensor_noise(256, seed=0) + scene).astype(np.uint8)
    other = np.rint(sensor_noise(256, seed=1) + scene).astype(np.uint8)
    again = cv2.imdecode(
        cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 92])[1], cv2.IMREAD_COLOR
    )
    first, second, third = (make_signature(remove_shading(tile)) for tile in (photo, again, other))
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-5)
    assert first @ second > DUPLICATE_CORRELATION > 2 * abs(first @ third)
    seen = DuplicateFilter()
    assert seen.add((0, 0), first)
    assert seen.add((0, 0), third)
    assert not seen.add((0, 0), second)
    assert not seen.add((0, 0), first)
    assert seen.add((0, 256), first)


def test_many_tiles_of_one_place_are_remembered():
    seen, rng = DuplicateFilter(), np.random.default_rng(0)
    signatures = [make_signature(rng.normal(0, 1, (32, 32)).astype(np.float32)) for _ in range(50)]
    assert all(seen.add((3, 4), signature) for signature in signatures)
    assert not any(seen.add((3, 4), signature) for signature in signatures)


@pytest.mark.parametrize("wrong", [{"size": 4}, {"stride": 0}])
def test_tiles_that_cannot_be_cut_are_refused(wrong):
    with pytest.raises(
        UserError, match=r"noise\.(size=4: expected 8|stride=0: expected 1) or more"
    ):
        check_ranges(config_of(NoiseConfig, **wrong), "noise")
