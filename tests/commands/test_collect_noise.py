"""`realsr.survey_noise`, and what `realsr.collect_noise` does beyond collecting: noise=auto."""

import json
from pathlib import Path

from PIL import Image
from small_work import TINY, Command, files

ARGUMENTS = ("+track=dped", "data.source=photos", "work_dir=out", *TINY)


def noise_of(pool: Path) -> dict:
    return json.loads((pool / "manifest.json").read_text())["noise"]


def test_a_survey_collects_nothing_and_minds_no_pool(
    command: Command, source: Path, tmp_path: Path
) -> None:
    pool = tmp_path / "out/pool"
    outcome = command("survey_noise", *ARGUMENTS)
    assert outcome.code == 0, outcome.log
    assert "3 photos, 108 tiles of 16x16" in outcome.log
    assert "next: " in outcome.log
    survey = {"noise_survey/survey.png", "noise_survey/summary.json", "noise_survey/tiles.csv"}
    assert set(files(pool)) == survey
    assert command("collect_noise", *ARGUMENTS).code == 0
    before = files(pool)
    patches = sum(name.startswith("noise/") for name in before)
    kept = json.loads((pool / "noise_survey/summary.json").read_text())["kept"]
    assert patches == kept > 10

    outcome = command("survey_noise", *ARGUMENTS, "noise.max_variance=3")
    assert outcome.code == 0, "other thresholds are only looked at"
    after = files(pool)
    assert {name: time for name, time in after.items() if name not in survey} == {
        name: time for name, time in before.items() if name not in survey
    }

    (source / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    outcome = command("survey_noise", *ARGUMENTS)
    assert outcome.code == 1
    assert "1 of 3 failed" in outcome.log
    assert "b.png" in outcome.log
    assert "2 photos, 72 tiles" in outcome.log


def test_auto_chooses_records_and_repeats_nothing(
    command: Command, source: Path, tmp_path: Path
) -> None:
    pool = tmp_path / "out/pool"
    arguments = (*ARGUMENTS, "noise=auto", "noise.max_variance=1", "noise.min_patches=20")
    outcome = command("collect_noise", *arguments)
    assert outcome.code == 0, outcome.log
    config = noise_of(pool)["config"]
    assert 1 < config["max_variance"] <= 10
    assert (
        f"selected noise.max_variance={config['max_variance']:g} noise.min_mean=50" in outcome.log
    )
    assert config["drop_structured"]
    assert len(list((pool / "noise").iterdir())) >= 20
    assert (pool / "noise_survey/survey.png").is_file()
    before = files(pool)
    outcome = command("collect_noise", *arguments)
    assert outcome.code == 0
    assert f"selected noise.max_variance={config['max_variance']:g}" in outcome.log
    assert files(pool) == before

    thresholds = [
        f"noise.{key}={config[key]}" for key in ("max_variance", "min_mean", "drop_structured")
    ]
    assert command("collect_noise", *ARGUMENTS, *thresholds).code == 0, (
        "said by hand they are the same"
    )
    assert files(pool) == before


def test_thresholds_are_kept_over_an_interruption(
    command: Command, source: Path, tmp_path: Path, monkeypatch
) -> None:
    arguments = (*ARGUMENTS, "noise=auto", "noise.max_variance=1", "noise.min_patches=20")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("realsr.noise.collection.examine_photo", interrupt)
        assert command("collect_noise", *arguments).code == 130
    with monkeypatch.context() as patch:
        patch.setattr("realsr.noise.survey.survey_noise", interrupt)
        assert command("collect_noise", *arguments).code == 0
    assert noise_of(tmp_path / "out/pool")["complete"]


def test_training_takes_auto_too(command: Command, source: Path, tmp_path: Path) -> None:
    assert command("train", *ARGUMENTS, "noise=auto", "noise.min_patches=20").code == 0
    assert noise_of(tmp_path / "out/pool")["complete"]


def test_auto_that_finds_nothing_still_shows_what_there_is(
    command: Command, source: Path, tmp_path: Path
) -> None:
    outcome = command("collect_noise", *ARGUMENTS, "noise=auto", "noise.max_variance=0.001")
    assert outcome.code == 1
    assert "no thresholds suit these photos" in outcome.log
    assert "or online_degradation=noise_model, which needs no flat tiles" in outcome.log
    assert (tmp_path / "out/pool/noise_survey/survey.png").is_file()
    assert not (tmp_path / "out/pool/noise").exists()


def test_the_online_degradation_decides_what_is_collected(
    command: Command, source: Path, tmp_path: Path
) -> None:
    pool, model = tmp_path / "out/pool", "online_degradation=noise_model"
    outcome = command("collect_noise", *ARGUMENTS, model)
    assert outcome.code == 0, outcome.log
    assert set(files(pool)) == {"manifest.json", "noise_model.json"}
    before = files(pool)
    outcome = command("train", *ARGUMENTS, model, "pool=noise_only", "init=null")
    assert outcome.code == 0, outcome.log
    assert files(pool) == before, "no patches are needed"
    manifest = json.loads((tmp_path / "out/runs/default/manifest.json").read_text())["training"]
    assert "noise/noise_model.json" in manifest["inputs"]
    assert manifest["config"]["pool.noise"] is True

    jpeg = ("online_degradation=noise_jpeg", "online_degradation.jpeg=source")
    outcome = command("collect_noise", *ARGUMENTS, *jpeg)
    assert outcome.code == 1
    assert "none of 3 photos is a colour JPEG" in outcome.log
    for path in source.glob("*.png"):
        Image.open(path).save(path.with_suffix(".jpg"), quality=97)
        path.unlink()
    arguments = (*ARGUMENTS, *jpeg, "pool=bicubic", "work_dir=jpeg")
    outcome = command("train", *arguments)
    assert outcome.code == 0, outcome.log
    assert set(files(tmp_path / "jpeg/pool")) == {"manifest.json", "jpeg_tables.json"}
    manifest = json.loads((tmp_path / "jpeg/runs/default/manifest.json").read_text())["training"]
    assert "noise/jpeg_tables.json" in manifest["inputs"]
    assert manifest["config"]["pool.noise"] is False
