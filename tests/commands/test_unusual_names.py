"""Every stage takes photos and folders whose names are any bytes that a file system holds."""

import csv
import json
import os
from pathlib import Path

import pytest
from small_work import TINY, Command, write_photos

from realsr.core.file_names import printable
from realsr.provenance.manifest import read_manifest

NAMES = ["latin\udce9", "写真 é😀", "a\nb\x1b[31m", "100% {x} $y 'q' \"d\" b\\s|t"]
FOLDER = "ph\udce9 写真"
POOL = ("noise.size=16", "noise.stride=16", "noise.max_variance=25")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    made = write_photos(tmp_path / "made", "abcd")
    folder = tmp_path / FOLDER
    try:
        folder.mkdir()
        for path, name in zip(sorted(made.iterdir()), NAMES, strict=True):
            path.rename(folder / f"{name}.png")
    except OSError as error:
        pytest.skip(f"this file system does not hold such names ({error})")
    return folder


def stems(folder: Path) -> set[str]:
    return {path.stem for path in folder.iterdir() if path.is_file()}


def test_photos_of_any_name_go_from_photos_to_pairs(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    arguments = ("+track=dped", f"data.source='{FOLDER}'", f"work_dir='o {FOLDER}'")
    out = tmp_path / f"o {FOLDER}"
    for stage in (
        ("check_data",),
        ("survey_noise", *POOL),
        ("collect_noise", *POOL),
        ("estimate_kernels", "kernels.iterations=2", "kernels.gates=null"),
        ("make_pairs",),
    ):
        outcome = command(stage[0], *arguments, *stage[1:])
        assert outcome.code == 0, outcome.log
    assert command("report", f"pool_dir='o {FOLDER}/pool'", f"compare='o {FOLDER}/pool'").code == 0
    for kind in ("HR", "LR"):
        assert stems(out / "pairs" / kind) == set(NAMES)
    assert read_manifest(out / "pairs")["pairs"]["items"].keys() == set(NAMES)
    assert {f"{name}_kernel_x2.mat" for name in NAMES} <= {
        path.name for path in (out / "pool/kernels").iterdir()
    }
    with (out / "pool/noise_survey/tiles.csv").open(encoding="utf-8", newline="") as file:
        assert {row["photo"] for row in csv.DictReader(file)} == {
            printable(f"{name}.png") for name in NAMES
        }

    lr = out / "pairs" / "LR" / f"{NAMES[0]}.png"
    before = lr.read_bytes()
    lr.unlink()
    assert command("rebuild_pair", *arguments, f"pair='{NAMES[0]}'").code == 0
    assert lr.read_bytes() == before


def test_pairs_of_any_name_are_trained_on_and_evaluated(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    arguments = (
        "+track=dped",
        f"data.source='{FOLDER}'",
        f"data.validation='{FOLDER}'",
        f"work_dir='o {FOLDER}'",
        *TINY,
    )
    run = tmp_path / f"o {FOLDER}" / "runs" / "default"
    outcome = command("train", *arguments, "trainer.validate_every=1", "trainer.validation_crop=64")
    assert outcome.code == 0, outcome.log
    assert {path.name for path in (run / "samples").iterdir()} == set(NAMES)
    more = ("trainer.max_steps=16", "trainer.validation_crop=64", "trainer.profile=true")
    outcome = command("train", *arguments, *more)
    assert outcome.code == 0, outcome.log
    assert (run / "profile" / "trace.json").stat().st_size > 0

    figures = ("figures=[all]", "save_images=true", f"output='e {FOLDER}'")
    names = f"weights=[bicubic,'o {FOLDER}/runs/default']"
    outcome = command("evaluate", names, f"data.hr='{FOLDER}'", *figures)
    assert outcome.code == 0, outcome.log
    out = tmp_path / f"e {FOLDER}"
    assert stems(out / "figures") == set(NAMES)
    content = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert content["models"]["bicubic"]["images"].keys() == set(NAMES), "JSON keeps the names"
    table = (out / "table.md").read_text(encoding="utf-8")
    for name in NAMES[:3]:
        assert f"| {printable(name)} | bicubic |" in table
    assert "\x1b" not in table
    with (out / "scores.csv").open(encoding="utf-8", newline="") as file:
        assert {row["image"] for row in csv.DictReader(file)} == {printable(name) for name in NAMES}

    weights = f"weights='o {FOLDER}/runs/default'"
    assert command("upscale", weights, f"input='{FOLDER}'", f"output='u {FOLDER}'").code == 0
    assert stems(tmp_path / f"u {FOLDER}") == set(NAMES)
    outcome = command("export", weights, f"output='x {FOLDER}.safetensors'")
    assert outcome.code == 0, outcome.log
    assert os.fsencode(tmp_path / f"x {FOLDER}.safetensors").endswith(
        b"x ph\xe9 \xe5\x86\x99\xe7\x9c\x9f.safetensors"
    )


def test_an_image_that_fails_is_named_on_one_line(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    (photos / f"{NAMES[2]}.png").write_bytes(b"no image")
    outcome = command("evaluate", f"data.hr='{FOLDER}'", "output=out")
    assert outcome.code == 1
    assert "\n  a\\nb\\x1b[31m: " in outcome.log
    assert json.loads((tmp_path / "out/metrics.json").read_text(encoding="utf-8"))[
        "failed"
    ].keys() == {NAMES[2]}
