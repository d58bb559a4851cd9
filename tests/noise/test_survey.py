import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from config_files import config_of
from realsr.core.errors import UserError
from realsr.imaging import write_uint8
from realsr.noise.noise_config import NoiseConfig
from realsr.noise.survey import SURVEY_TILES, Survey, read_tiles
from realsr.noise.tiles import measure_tiles
from realsr.provenance.manifest import read_manifest
from stages import choose_thresholds, collect_noise, survey_noise, survey_of

SIZE = 32


def tile(variance: float, mean: float = 120, content: float = 0, seed: int = 0) -> np.ndarray:
    """A gray tile of noise of a variance, on stripes of an amplitude."""
    noise = np.random.default_rng(seed).normal(0, variance**0.5, (SIZE, SIZE))
    stripes = content * np.where((np.arange(SIZE) + seed) % 16 < 8, -1, 1)[:, None]
    return np.rint(mean + noise + stripes).clip(0, 255).astype(np.uint8)[..., None].repeat(3, 2)


@pytest.fixture
def source(tmp_path) -> Callable[..., Path]:
    def write(**photos: list[np.ndarray]) -> Path:
        (tmp_path / "source").mkdir(exist_ok=True)
        for name, tiles in photos.items():
            write_uint8(tmp_path / "source" / f"{name}.png", np.concatenate(tiles, axis=1))
        return tmp_path / "source"

    return write


def config(**changes) -> NoiseConfig:
    return config_of(
        NoiseConfig,
        **{"size": SIZE, "stride": SIZE, "auto": True, "drop_structured": True, "min_patches": 5}
        | changes,
    )


def test_a_survey_tells_of_all_tiles_what_speaks_against_them(source, tmp_path):
    folder = source(
        a=[
            tile(4, seed=1),
            tile(4, content=3),
            np.full((32, 32, 3), 80, np.uint8),
            tile(40, seed=2),
        ],
        b=[tile(2, mean=2), tile(3000), tile(9, seed=3)],
    )
    survey = survey_noise(folder, tmp_path / "pool", config())
    assert not (tmp_path / "pool").exists()
    assert survey.photos == ["a.png", "b.png"]
    assert survey.tiles["photo"].tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert survey.judge().tolist() == ["", "structured", "constant", "", "clipped", "", ""]
    assert np.isnan(survey.tiles["structure"]).tolist() == [False] * 5 + [True, False]
    assert np.flatnonzero(survey.selection()).tolist() == [0, 6]
    assert survey.yields(50) == {"": 3, "structured": 1, "constant": 1, "clipped": 1}
    flagged = survey_noise(folder, tmp_path, config(drop_structured=False))
    assert np.flatnonzero(flagged.selection()).tolist() == [0, 1, 6]
    released = survey_noise(source(c=[tile(4)]), tmp_path, config(released_rule=True))
    assert len(released.tiles) == 0


def test_what_a_survey_keeps_is_what_is_collected(source, tmp_path):
    rng = np.random.default_rng(0)
    folder = source(
        **{n: [tile(rng.uniform(1, 25), rng.uniform(0, 250), rng.choice([0, 3]), s + 9 * i) for s in range(9)]
           for i, n in enumerate("abc")}
    )  # fmt: skip
    for drop in (True, False):
        chosen = config(drop_structured=drop, min_mean=30)
        survey = survey_noise(folder, tmp_path, chosen, workers=2)
        collect_noise(folder, tmp_path / str(drop), chosen)
        collected = read_manifest(tmp_path / str(drop))["noise"]["items"]
        kept = survey.tiles[survey.selection()]
        for index, name in enumerate("abc"):
            expected = kept[kept["photo"] == index]
            assert [t["left"] for t in collected[name]["tiles"]] == expected["left"].tolist()
            assert [t["structure"] for t in collected[name]["tiles"]] == pytest.approx(
                expected["structure"], abs=1e-4
            )
        assert 5 < len(kept) < 22


def make_survey(
    variances: list[float], structured: list[bool] | None = None, mean: float = 120, **changes
) -> Survey:
    tiles = np.zeros(len(variances), SURVEY_TILES)
    tiles["variance"], tiles["mean"] = variances, mean
    tiles["structure"] = np.array(structured if structured is not None else False) * 0.5
    return survey_of(tiles, config(**changes))


def test_suggested_thresholds_are_the_lowest_that_yield_enough():
    survey = make_survey([1.1, 1.3, 2.2, 3.1, 3.2, 7.0, 9.0])
    for required, expected, patches in (
        (1, 1.2, 1),
        (2, 1.5, 2),
        (3, 2.5, 3),
        (5, 4, 5),
        (6, 8, 6),
        (7, 10, 7),
    ):
        offer = survey.suggest(required)
        assert (offer.max_variance, offer.patches) == (expected, patches)
    assert survey.suggest(2, lowest=2.7).max_variance == 2.7
    assert survey.suggest(7, lowest=2.7).max_variance == 10
    assert survey.suggest(100).patches == 7  # too few: nine tenths of what there is


def test_thresholds_do_not_rise_into_content():
    flat, content = [5.0] * 10, [30.0] * 10
    survey = make_survey(flat + content + [31.0] * 3, [False] * 10 + [True] * 10 + [False] * 3)
    assert survey.suggest(13, lowest=20).patches == 10
    assert survey.suggest(13, lowest=20).max_variance == 20
    # Content below the lowest threshold, which is given, keeps no noisy camera from its noise.
    noisy = make_survey([10.0] * 5 + [90.0] * 20, [True] * 5 + [False] * 20)
    assert noisy.suggest(20, lowest=20).max_variance == 100


def test_the_mean_keeps_noise_off_zero():
    assert make_survey([15.9] * 3).suggest(3).min_mean == 14
    assert make_survey([15.9] * 3, min_mean=50).suggest(3).min_mean == 50
    assert make_survey([15.9] * 3, mean=13.9).suggest(3).patches == 0


def test_chosen_thresholds_are_recorded_and_kept(source, tmp_path):
    noisy = [tile(60, seed=seed) for seed in range(8)]
    folder, pool = source(a=noisy, b=[tile(5, content=3), tile(900)]), tmp_path / "pool"
    chosen, survey = choose_thresholds(folder, pool, config())
    assert survey.config == chosen
    variances = np.sort(survey.tiles["variance"][survey.tiles["photo"] == 0])
    assert variances[4] < chosen.max_variance <= 80
    collect_noise(folder, pool, chosen)
    section = read_manifest(pool)["noise"]
    assert section["config"]["max_variance"] == chosen.max_variance
    assert section["config"]["min_mean"] == chosen.min_mean == np.ceil(3 * chosen.max_variance**0.5)
    before = (pool / "manifest.json").read_bytes()

    assert choose_thresholds(folder, pool, config()) == (chosen, None)
    collect_noise(folder, pool, chosen)
    assert (pool / "manifest.json").read_bytes() == before
    with pytest.raises(UserError, match=r"min_patches: was 5, now 6"):
        choose_thresholds(folder, pool, config(min_patches=6))
    source(c=noisy)
    with pytest.raises(UserError, match=r"c\.png: new"):
        choose_thresholds(folder, pool, config())
    assert choose_thresholds(folder, pool, config(), overwrite=True)[1] is not None


def test_a_damaged_photo_does_not_keep_thresholds_from_being_chosen(source, tmp_path):
    folder = source(a=[tile(5, seed=seed) for seed in range(6)])
    (folder / "b.png").write_bytes(b"no picture")
    chosen, survey = choose_thresholds(folder, tmp_path / "pool", config())
    assert "not a supported image" in survey.failures["b.png"]
    for _ in range(2):
        assert choose_thresholds(folder, tmp_path / "pool", config()) == (chosen, None)
        with pytest.raises(UserError, match=r"b\.png"):
            collect_noise(folder, tmp_path / "pool", chosen)
    write_uint8(folder / "b.png", np.concatenate([tile(7, seed=seed) for seed in range(6, 9)]))
    again, none = choose_thresholds(folder, tmp_path / "pool", config())
    assert (again, none) == (chosen, None)
    collect_noise(folder, tmp_path / "pool", again)
    assert len(list((tmp_path / "pool/noise").iterdir())) == 9
    (folder / "a.png").write_bytes(b"")
    (folder / "b.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"no photo can be measured(.|\n)*a\.png(.|\n)*b\.png"):
        survey_noise(folder, tmp_path, config())


def test_fewer_tiles_than_required_are_a_warning(source, tmp_path, caplog):
    folder = source(a=[tile(5, seed=seed) for seed in range(6)])
    choose_thresholds(folder, tmp_path / "a", config(min_patches=6))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    choose_thresholds(folder, tmp_path / "b", config(min_patches=7))
    assert "only 6 good tiles instead of noise.min_patches=7" in caplog.text
    assert "set smaller tiles" not in caplog.text, "these are small"
    assert (
        "or let realsr.train use online_degradation=noise_model, which needs no flat tiles"
        in caplog.text
    )


def test_where_nothing_is_flat_it_says_so_and_leaves_nothing_decided(source, tmp_path):
    folder = source(
        a=[tile(5, content=3, seed=seed) for seed in range(3)]
        + [tile(5, mean=6)] * 2
        + [tile(4000)]
    )
    with pytest.raises(
        UserError,
        match=r"5 of 6 tiles.*below 200.*3 structured.*noise\.size=16.*=noise_model, which.*figure",
    ):
        choose_thresholds(folder, tmp_path / "pool", config())
    source(a=[tile(5, seed=seed) for seed in range(6)])
    assert choose_thresholds(folder, tmp_path / "pool", config())[0].max_variance == 20


def test_tiles_read_again_are_the_photos_pixels(source, tmp_path):
    folder = source(a=[tile(v, seed=v) for v in (16, 1, 9)], b=[tile(4, seed=4), tile(25, seed=25)])
    survey = survey_noise(folder, tmp_path, config())
    pixels = read_tiles(survey, [4, 1])
    np.testing.assert_array_equal(pixels[1], tile(1, seed=1))
    np.testing.assert_array_equal(pixels[4], tile(25, seed=25))
    variance = measure_tiles(pixels[4], config())["variance"].item()
    assert variance == survey.tiles["variance"][4]
