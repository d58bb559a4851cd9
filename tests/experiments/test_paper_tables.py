"""experiments/paper_tables: the published numbers are whole, and what is told of what is and is not measured."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from realsr.imaging import write_uint8

FOLDER = Path(__file__).parents[2] / "experiments" / "paper_tables"
PUBLISHED = {
    "realsr_table1": """EDSR 25.31/.6383/.5784, ESRGAN 19.06/.2423/.7552, ZSSR 25.13/.6268/.6160,
        K-ZSSR 18.46/.3826/.7307, RealSR 24.82/.6619/.2270""",
    "ntire2020_track1": """Impressionism 24.67/.683/.232, Samsung-SLSI-MSL 25.59/.727/.252,
        BOE-IOT-AIBD 26.71/.761/.280, bicubic 25.48/.680/.612, ESRGAN 24.74/.695/.207""",
    "ntire2020_track2": """Impressionism 5.00/24.4/17.6/6.50/4.25, AITA-Noah-A 5.63/33.8/29.7/4.23/5.70,
        bicubic 7.97/52.0/87.2/3.16/7.40""",
    "deployment": """DF2K 23.699/.685, DF2K 23.654/.649, DF2K 23.116/.597, DF2K-JPEG 22.570/.619,
        DPED 18.040/.531""",
    "bicubic_x4": """DF2K 28.4385/.8106, DF2K 24.7424/.6678, DF2K 26.7306/.7512, DPED 20.2421/.6158,
        DPED 19.3775/.5259, DPED 20.5976/.6051""",
}


@pytest.fixture(autouse=True)
def _beside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Imports from the scripts' folder, in an empty current one; other studies have modules of the same names."""
    names = [path.stem for path in FOLDER.glob("*.py")]
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("REALSR_CACHE", str(tmp_path / "no_cache"))
    monkeypatch.chdir(tmp_path)
    yield
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(before)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for name in "abcde":
        write_uint8(tmp_path / "photos" / f"{name}.png", np.zeros((8, 8, 3), np.uint8))
    return tmp_path / "photos"


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch):
    """In place of realsr.evaluate: notes the command lines, and writes values 1, 2, … for each model and metric."""
    import measure

    calls: list[list[str]] = []

    class CommandResult:
        returncode = 1

    def run(command: list[str], check: bool) -> CommandResult:
        calls.append(command[3:])
        given = dict(text.split("=", 1) for text in command[3:])
        metrics = ("psnr", "ssim", "ssim_uniform", "niqe", "brisque", "piqe", "nrqm", "pi")
        names = given["weights"].strip("[]").split(",")
        models = {
            name: {"mean": dict.fromkeys(metrics, k + 1 + 0.5)} for k, name in enumerate(names)
        }
        content = {
            "protocol": {"name": given["protocol"], "crop": 4, "note": "long"},
            "models": models,
        }
        folder = Path(given["output"].strip("'"))
        folder.mkdir(parents=True)
        if given.get("device") != "broken":
            (folder / "metrics.json").write_text(json.dumps(content))
        return CommandResult()

    monkeypatch.setattr(measure.subprocess, "run", run)
    return calls


def cells(text: str, name: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_number_is_there(name: str) -> None:
    from published import read_table

    table = read_table(name)
    expected = [row.split() for row in PUBLISHED[name].split(",")]
    assert [row.name.split()[0] for row in table.rows] == [method for method, _ in expected]
    for row, (_, numbers) in zip(table.rows, expected, strict=True):
        assert list(row.values.values()) == [float(number) for number in numbers.split("/")]
        assert row.weights or row.missing, "each row has weights, or a reason why not"
        assert table.data[row.data].get


def test_the_tables_are_these() -> None:
    from published import table_names

    assert table_names() == sorted(PUBLISHED)


def test_with_nothing_at_hand_the_published_rows_and_what_is_missing_are_told(
    capsys: pytest.CaptureFixture[str], evaluate: list, tmp_path: Path
) -> None:
    import table

    assert table.main(["all", "--output", str(tmp_path / "out")]) == 0
    assert not evaluate
    log = capsys.readouterr().out
    assert cells(log, "RealSR") == ["RealSR", "published", "24.82", "0.6619", "0.2270"]
    assert cells(log, "K-ZSSR")[2:] == ["18.46", "0.3826", "0.7307"]
    for words in (
        "competitions.codalab.org", "data.vision.ee.ethz.ch/cvl/DIV2K", "https://github.com/Tencent/Real-SR",
        "realsr.fetch", "DF2K fp16, DF2K int8 (KL): made by python -m realsr.export", "Protocol: `vacc`",
        "whether the HR was ever published",
    ):  # fmt: skip
        assert words in log
    assert "measured" not in "".join(line for line in log.splitlines() if line.startswith("|"))
    assert (tmp_path / "out/deployment/table.md").read_text() in log


def test_what_is_measured_stands_beneath_what_was_published(
    capsys: pytest.CaptureFixture[str], evaluate: list, photos: Path, tmp_path: Path
) -> None:
    import table

    arguments = [
        "bicubic_x4",
        "--hr",
        "Set5=photos",
        "--model",
        "DF2K=bicubic",
        "--model",
        "DPED=bicubic",
    ]
    assert table.main([*arguments, "--output", "out dir", "device=cpu"]) == 0
    assert evaluate == [
        [
            "weights=['bicubic']",
            "protocol=basicsr",
            "data.hr='photos'",
            "output='out dir/bicubic_x4/Set5'",
            "device=cpu",
        ]
    ]
    lines = capsys.readouterr().out.splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("| DF2K | Set5"))
    assert lines[first + 1] == "|  |  | measured | 1.5000 | 1.5000 |"
    assert lines[first + 2] == "|  |  | difference | -26.9385 | +0.6894 |"
    assert lines[first + 3].startswith("| DF2K | Set14 | published"), (
        "nothing is measured on what is not at hand"
    )
    text = "\n".join(lines)
    assert "Measured with: name=basicsr, crop=4" in text
    assert "in its place" not in text


def test_another_data_set_in_its_place_is_told_and_measured_once(
    capsys: pytest.CaptureFixture[str], evaluate: list, photos: Path
) -> None:
    import table

    assert table.main(["bicubic_x4", "--hr", "photos", "--model", "DF2K=bicubic"]) == 0
    assert len(evaluate) == 1, "one folder for three data sets"
    log = capsys.readouterr().out
    assert (
        log.count(
            "**Measured on another data set in its place**: photos, LR made by the protocol, 5 images"
        )
        == 3
    )
    assert log.count("| measured, other data |") == log.count("| difference, other data |") == 3
    assert "- DPED: dped: no package contains it" in log


def test_photos_without_hr(
    capsys: pytest.CaptureFixture[str], evaluate: list, photos: Path
) -> None:
    import table

    assert table.main(["ntire2020_track2", "--lr", "photos"]) == 0
    assert evaluate[0][:3] == [
        "weights=['bicubic']",
        "protocol=ntire2020_track2",
        "data.lr='photos'",
    ]
    assert "| measured, other data | 1.50 | 1.5 | 1.5 | 1.50 | 1.50 |" in capsys.readouterr().out


def test_a_metric_that_was_not_measured_is_left_open(
    capsys: pytest.CaptureFixture[str], evaluate: list, photos: Path
) -> None:
    import table

    assert table.main(["ntire2020_track1", "--hr", "photos"]) == 0
    assert "| measured, other data |" in (log := capsys.readouterr().out)
    assert all(line.endswith("| – |") for line in log.splitlines() if "other data |" in line), (
        "no LPIPS"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hr", "Set6=photos"], "no data set Set6; there is: DIV2K_valid, Set14, Set5"),
        (["--hr", "nowhere"], "no folder nowhere"),
        (
            ["--hr", "photos", "--model", "DF2K=bicubic", "device=broken"],
            "realsr.evaluate ended with code 1",
        ),
    ],
)
def test_what_makes_no_sense_is_an_error(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    evaluate: list,
    photos: Path,
) -> None:
    import table

    assert table.main(["bicubic_x4", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_a_folder_is_not_taken_for_a_data_set_of_another_size(
    capsys: pytest.CaptureFixture[str], evaluate: list, photos: Path
) -> None:
    import table

    assert table.main(["bicubic_x4", "--hr", "Set14=photos", "--model", "DF2K=bicubic"]) == 0
    assert not evaluate
    assert "photos has 5 images instead of 14" in capsys.readouterr().out


def test_lr_of_a_challenge_is_not_made_by_the_protocol(photos: Path) -> None:
    from measure import Folders, missing_data
    from published import read_table

    data = read_table("realsr_table1").data["ntire2020_track1_valid"]
    assert "no LR is given, which it has of its own" in missing_data(
        data, Folders(photos, None, stand_in=False)
    )
    assert missing_data(data, Folders(photos, None, stand_in=True)) == ""


def test_metrics_are_taken_by_the_order_of_the_models(tmp_path: Path) -> None:
    from measure import Folders, read_measurement

    models = {"df2k": {"mean": {"psnr": 1.0}}, "short name": {"mean": {"psnr": None}}}
    (tmp_path / "metrics.json").write_text(json.dumps({"protocol": {}, "models": models}))
    folders = Folders(tmp_path, None, stand_in=True)
    means = read_measurement(
        tmp_path / "metrics.json", folders, ["df2k", "some/long/name.pth"]
    ).means
    assert means == {"df2k": {"psnr": 1.0}, "some/long/name.pth": {"psnr": None}}
    with pytest.raises(ValueError, match="zip"):
        read_measurement(tmp_path / "metrics.json", folders, ["df2k"])


def test_a_wrong_model_argument_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    import table

    with pytest.raises(SystemExit):
        table.main(["deployment", "--model", "DPED"])
    assert "expected ROW=WEIGHTS" in capsys.readouterr().err
