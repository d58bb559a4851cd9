import csv
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest

from config_files import config_of
from realsr.imaging import read_uint8, write_uint8
from realsr.noise.noise_config import NoiseConfig
from realsr.noise.survey import SURVEY_TILES
from realsr.reporting.drawing import Tile
from realsr.reporting.noise_survey import (
    COLOURS,
    choose_tiles,
    describe,
    draw_survey,
    report_survey,
    stretch,
    summarise,
)
from stages import survey_noise, survey_of

CONFIG = config_of(NoiseConfig, size=32, stride=32, min_mean=50)


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "source").mkdir()
    for name in "ab":
        tiles = [120 + rng.normal(0, level, (32, 32, 1)) for level in (1, 2, 3, 4, 6, 40)]
        tiles.append(
            120
            + 3 * np.sign(np.sin(np.arange(32) / 3))[:, None, None]
            + rng.normal(0, 1, (32, 32, 1))
        )
        photo = np.rint(np.concatenate(tiles, axis=1)).clip(0, 255).astype(np.uint8).repeat(3, 2)
        write_uint8(tmp_path / "source" / f"{name}.png", photo)
    return tmp_path / "source"


def count_pixels(picture: np.ndarray, reason: str) -> int:
    return int((picture == np.array(list(bytes.fromhex(COLOURS[reason][1:])))).all(2).sum())


def test_files_of_a_survey(source, tmp_path):
    survey = survey_noise(source, tmp_path, CONFIG)
    report_survey(survey, tmp_path / "pool/noise_survey")
    folder = tmp_path / "pool/noise_survey"
    assert sorted(path.name for path in folder.iterdir()) == [
        "summary.json",
        "survey.png",
        "tiles.csv",
    ]
    with (folder / "tiles.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 14
    for row, tile, kept in zip(rows, survey.tiles, survey.selection(), strict=True):
        assert row["photo"] == survey.photos[tile["photo"]]
        assert float(row["variance"]) == pytest.approx(tile["variance"], rel=1e-5)
        assert (row["structure"] == "") == (tile["variance"] >= 200)
        assert row["kept"] == str(bool(kept))
    assert [row["reject_reason"] for row in rows[:7]] == [""] * 5 + ["", "structured"]

    summary = json.loads((folder / "summary.json").read_text())
    assert summary == json.loads(json.dumps(summarise(survey)))
    assert (summary["tiles"], summary["photos"], summary["kept"]) == (14, 2, 10)
    at_20 = next(row for row in summary["yields"] if row["max_variance"] == 20)
    assert at_20 == {"max_variance": 20, "good": 8, "structured": 2, "clipped": 0, "constant": 0}
    assert summary["percentiles"]["variance"]["100"] == survey.tiles["variance"].max()

    picture = read_uint8(folder / "survey.png")
    frame = 262**2 - 256**2
    assert count_pixels(picture, "structured") > 2 * frame
    assert count_pixels(picture, "") > 8 * frame
    assert count_pixels(picture, "clipped") < 300  # its square in the legend


def test_the_figure_shows_the_flattest_tiles_if_all_are_too_varied(source, tmp_path):
    survey = survey_noise(source, tmp_path, replace(CONFIG, max_variance=0.01))
    report_survey(survey, tmp_path)
    frame = 262**2 - 256**2
    assert count_pixels(read_uint8(tmp_path / "survey.png"), "too varied") > 14 * frame


def test_the_text_says_what_to_do(source, tmp_path):
    survey = survey_noise(source, tmp_path, CONFIG)
    text = describe(survey, tmp_path)
    assert "2 photos, 14 tiles of 32x32" in text
    assert "10 pass noise.max_variance=20 noise.min_mean=50, 10 would be kept" in text
    assert "(noise.drop_structured=false)" in text
    assert [line.split() for line in text.splitlines() if line.split()[0] == "20"] == [
        ["20", "10", "8", "2", "0", "0"]
    ]
    assert f"next: look at {tmp_path / 'survey.png'}, then set noise.max_variance=" in text
    # A survey's thresholds may have been raised by noise=auto; beyond its limit no tile was judged.
    raised = replace(survey, config=replace(CONFIG, max_variance=30, auto=True))
    variances = [row["max_variance"] for row in summarise(raised)["yields"]]
    assert variances == [3, 7.5, 15, 30, 60, 120, 200]
    assert "next:" not in describe(raised, tmp_path)
    nothing = np.zeros(3, SURVEY_TILES)
    nothing["variance"], nothing["mean"], nothing["structure"] = 9, 120, 0.5
    text = describe(survey_of(nothing, CONFIG), tmp_path)
    assert (
        "no threshold up to noise.max_variance=200 yields more good tiles than structured ones. Set noise.size=16"
        in text
    )


def test_tiles_are_chosen_evenly_over_their_variances():
    tiles = np.zeros(5, SURVEY_TILES)
    tiles["variance"] = 16, 1, 9, 4, 25
    survey = survey_of(tiles, CONFIG)
    everything = np.ones(5, bool)
    assert choose_tiles(survey, everything, 9) == [1, 3, 2, 0, 4]
    assert choose_tiles(survey, everything, 3) == [1, 2, 4]
    assert choose_tiles(survey, ~everything, 3) == []
    assert choose_tiles(survey, np.arange(5) > 1, 9) == [3, 2, 4]


@pytest.mark.parametrize(
    ("size", "shown"), [(8, 256), (32, 256), (100, 200), (256, 256), (300, 150), (512, 256)]
)
def test_a_tile_is_shown_at_a_whole_number_of_its_size(size, shown):
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    picture = stretch(noise)
    assert picture.shape == (shown, shown, 3)
    factor = max(1, shown // size)
    assert np.array_equal(picture[::factor, ::factor].repeat(factor, 0).repeat(factor, 1), picture)
    assert np.abs(picture.std() - 35) < 2
    assert (stretch(np.full((size, size, 3), 255, np.uint8)) == 128).all()


@pytest.mark.parametrize("tiles", [0, 1, 9])
def test_the_picture_grows_with_its_sections(tiles):
    measured = np.zeros(tiles, SURVEY_TILES)
    measured["structure"] = np.nan
    measured["variance"] = 1e9  # beyond the axis
    survey = survey_of(measured, CONFIG)
    some = [
        Tile(np.zeros((256, 256, 3), np.uint8), [("label", "black")], COLOURS["clipped"])
    ] * tiles
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = draw_survey(survey, {"kept": some, "nearly kept": []})
        empty = draw_survey(survey, {"kept": [], "nearly kept": []})
    assert picture.dtype == np.uint8
    assert picture.shape[0] - empty.shape[0] == -(-tiles // 6) * (256 + 3 + 15 + 16)
