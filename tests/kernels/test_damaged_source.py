"""Stages with a damaged photo among others: refused by name, or used with one line and a note in the manifest."""

import logging
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from config_files import config_of, yaml_values
from realsr.core.errors import UserError
from realsr.noise.noise_config import NoiseConfig
from realsr.noise.survey import read_tiles
from realsr.pairs.pairs_config import PairsConfig
from realsr.provenance.manifest import read_manifest
from stages import (
    choose_thresholds,
    collect_noise,
    estimate_kernels,
    make_pairs,
    rebuild_pair,
    survey_noise,
)

NOISE = config_of(NoiseConfig, size=32, stride=32, max_variance=400)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three JPEGs of noise on gray; 300 bytes in the middle of b.jpg are zero."""
    (tmp_path / "photos").mkdir()
    for seed, name in enumerate("abc"):
        pixels = (
            np.random.default_rng(seed).normal(128, 6, (96, 128, 3)).clip(0, 255).astype(np.uint8)
        )
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{name}.jpg", quality=95)
    bad = tmp_path / "photos" / "b.jpg"
    data = bytearray(bad.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 300] = bytes(300)
    bad.write_bytes(data)
    return tmp_path / "photos"


STAGES = {
    "pairs": lambda source, out, **rest: make_pairs(
        source, None, None, out, config_of(PairsConfig), 2, **rest
    ),
    "noise": lambda source, out, **rest: collect_noise(source, out, NOISE, **rest),
    "kernels": lambda source, out, **rest: estimate_kernels(
        source, out, yaml_values("kernels/spectral", gates=None), **rest
    ).check(),
    "kernels by training": lambda source, out, workers, **rest: estimate_kernels(
        source, out, yaml_values("kernels/kernelgan", iterations=2, gates=None), **rest
    ).check(),
}


def lines(caplog: pytest.LogCaptureFixture, path: Path) -> list[str]:
    return [
        r.getMessage()
        for r in caplog.records
        if r.levelno >= logging.WARNING and str(path) in r.getMessage()
    ]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_refuses_or_accepts_and_tells_it_once(
    source, tmp_path, caplog, capfd, stage, workers
):
    run = partial(STAGES[stage], source, tmp_path / "out", workers=workers)
    section = stage.partition(" ")[0]
    with pytest.raises(
        UserError, match=r"1 of 3 (.|\n)*b\.jpg: damaged \(its compressed data are corrupt"
    ):
        run()
    assert sorted(read_manifest(tmp_path / "out")[section]["items"]) == ["a", "c"]
    caplog.clear()
    run(damaged="accept")  # nothing else is made again: the key is no part of the record
    (line,) = lines(caplog, source / "b.jpg")
    assert "damaged (its compressed data are corrupt" in line
    assert "damaged (" not in capfd.readouterr().err, "a worker has told it too"
    items = read_manifest(tmp_path / "out")[section]["items"]
    told = {name: item.get("damaged") for name, item in items.items()}
    assert told["b"].startswith("its compressed data are corrupt")
    assert (told["a"], told["c"]) == (None, None)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_survey_tells_it_once(source, tmp_path, caplog, workers):
    survey = survey_noise(source, tmp_path / "pool", NOISE, workers)
    assert survey.failures.keys() == {"b.jpg"}
    survey = survey_noise(source, tmp_path / "pool", NOISE, workers, damaged="accept")
    assert not survey.failures
    (index,) = np.flatnonzero(survey.tiles["photo"] == 1)[:1]
    assert read_tiles(survey, [index])[index].shape == (32, 32, 3)
    assert len(lines(caplog, source / "b.jpg")) == 1
    with pytest.raises(UserError, match="no thresholds suit"):
        choose_thresholds(
            source,
            tmp_path / "pool",
            config_of(NoiseConfig, size=32, stride=32, max_variance=1e-4),
            damaged="accept",
        )


def test_a_pair_of_a_damaged_photo_is_made_again_where_it_is_accepted(source, tmp_path):
    make_pairs(source, None, None, tmp_path / "pairs", config_of(PairsConfig), 2, damaged="accept")
    hr = tmp_path / "pairs/HR/b.png"
    before = hr.read_bytes()
    hr.unlink()
    rebuild = partial(rebuild_pair, "b", source, None, tmp_path, tmp_path / "pairs")
    with pytest.raises(Exception, match=r"b\.jpg: damaged"):
        rebuild()
    rebuild(damaged="accept")
    assert hr.read_bytes() == before
