"""One export of a tiny run, and all that is done with its files."""

import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_work import Command, CommandResult, files, write_photos

from exported_networks import rrdb
from realsr.api.command import run_command
from realsr.deployment import export, quantise
from realsr.deployment.measure import Cost
from realsr.imaging import read_uint8, write_uint8
from realsr.inference.model import load_model
from realsr.weights import save_generator

FILES = {
    "onnx_fp32.onnx",
    "onnx_fp16.onnx",
    "onnx_int8_entropy.onnx",
    "table.json",
    "table.md",
    "sensitivity.png",
    "model.safetensors",
    "README.md",
}
FOLDERS = ("int8.photos=seen", "data.hr=clean", "int8.crop=32")

OWN = """
import torch
class Enlarge(torch.nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale, self.gain = scale, torch.nn.Parameter(torch.ones(1, 3, 1, 1))
    def forward(self, x):
        return self.gain * torch.nn.functional.interpolate(x, scale_factor=float(self.scale))
"""


def write_run(folder: Path) -> None:
    folder.mkdir()
    save_generator(
        folder / "generator.safetensors",
        rrdb(2),
        {"name": "rrdb", "features": 8, "blocks": 1, "growth": 4},
        2,
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CommandResult]:
    """Folders of photos, a run, and `new`: what its export wrote; and how that ended."""
    folder = tmp_path_factory.mktemp("exported")
    write_run(folder / "run")
    write_photos(folder / "seen", "ab", (40, 48))
    write_photos(folder / "clean", "xy", (50, 66))
    log = list[str]()
    handler = logging.Handler()
    handler.emit = lambda record: log.append(record.getMessage())  # type: ignore[method-assign]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(quantise, "BINS", 192)  # quicker, and not as good
        patch.setattr(
            sys,
            "argv",
            ["realsr.export", "weights=run", "output=new", "int8.sensitivity=true", *FOLDERS],
        )
        root = logging.getLogger()
        level, threads, code = root.level, torch.get_num_threads(), 0
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        torch.set_num_threads(1)
        try:
            run_command("export")
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            torch.set_num_threads(threads)
            root.setLevel(level)
            root.removeHandler(handler)
    return folder, CommandResult(code, "\n".join(log))


@pytest.fixture
def folder(
    exported: tuple[Path, CommandResult], command: Command, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The export's folder as the current one."""
    assert exported[1].code == 0, exported[1].log
    monkeypatch.chdir(exported[0])
    return exported[0]


def test_all_files_and_nothing_else(folder: Path) -> None:
    assert {path.name for path in (folder / "new").iterdir()} == FILES
    assert {path.name for path in folder.iterdir()} >= {"new", "run", "seen", "clean"}
    sizes = {name: (folder / "new" / name).stat().st_size for name in FILES}
    assert sizes["onnx_fp16.onnx"] < sizes["onnx_fp32.onnx"]


def test_the_table_tells_each_file(exported: tuple[Path, CommandResult], folder: Path) -> None:
    told = json.loads((folder / "new/table.json").read_text())
    rows = {row["name"]: row for row in told["rows"]}
    assert list(rows) == ["PyTorch", "onnx_fp32", "onnx_fp16", "onnx_int8_entropy"]
    assert (told["source"], told["scale"], told["failed"]) == ("run", 2, [])
    assert told["parameters"] == sum(parameter.numel() for parameter in rrdb(2).parameters())
    assert set(rows["PyTorch"]["scores"]) == {"vacc", "realsr_release"}
    for name, row in rows.items():
        assert row["cost"]["seconds"] > 0
        if name != "PyTorch":
            assert row["bytes"] == (folder / f"new/{name}.onnx").stat().st_size
    similarity = {name: row["similarity"] for name, row in rows.items()}
    assert similarity["PyTorch"] is None
    assert similarity["onnx_fp32"] is None or similarity["onnx_fp32"] > 100
    assert 90 > similarity["onnx_fp16"] > 50 > similarity["onnx_int8_entropy"] > 20
    exact, same = (rows[name]["scores"]["realsr_release"] for name in ("PyTorch", "onnx_fp32"))
    assert same == pytest.approx(exact, abs=1e-3)
    assert (rows["onnx_int8_entropy"]["calibration"], rows["onnx_int8_entropy"]["kept"]) == (
        "entropy",
        ["conv_first"],
    )
    assert (folder / "new/table.md").read_text().splitlines()[2].startswith("|  | precision")
    log = exported[1].log
    assert "onnx_int8_entropy.onnx: written and checked, lowest PSNR to the generator" in log
    assert f"written  new: {', '.join(sorted(FILES))}" in log
    card = (folder / "new/README.md").read_text()
    assert f"| this model | {exact['psnr']:.4f} | {exact['ssim']:.4f} |" in card


def test_sensitivity_names_each_layer(folder: Path) -> None:
    told = json.loads((folder / "new/table.json").read_text())["sensitivity"]
    assert list(told["alone"]) == [
        "conv_first",
        "RRDB_trunk.0",
        "trunk_conv",
        "upconv1",
        "HRconv",
        "conv_last",
    ]
    assert told["method"] == "entropy"
    assert (
        "| conv_first"
        in (folder / "new/table.md")
        .read_text()
        .partition("INT8 (entropy) with the most sensitive layers")[2]
    )


def test_an_export_is_not_replaced_unasked(folder: Path, command: Command) -> None:
    before = files(folder)
    outcome = command("export", "weights=run", "output=new", *FOLDERS)
    assert outcome.code == 1
    there = ", ".join(sorted(FILES))
    assert (
        f"new: already has an export ({there}): set overwrite=true to replace all of it, or"
        in outcome.log
    )
    assert files(folder) == before


def test_what_it_would_replace_is_not_exported(command: Command, tmp_path: Path) -> None:
    for suffix in ("param", "bin"):
        (tmp_path / f"ncnn.{suffix}").write_text("what an earlier export left")
    before = files(tmp_path)
    for weights in ("ncnn.param", "."):
        outcome = command("export", f"weights={weights}", f"output={tmp_path}", "overwrite=true")
        assert outcome.code == 1
        assert (
            f"weights={weights} would be replaced by output={tmp_path}: choose another output"
            in outcome.log
        )
    assert files(tmp_path) == before


def test_photos_enlarged_by_a_file_are_those_of_the_run(
    folder: Path, command: Command, tmp_path: Path
) -> None:
    def enlarge(weights: str, name: str, *arguments: str) -> np.ndarray:
        output = tmp_path / f"{name}.png"
        outcome = command(
            "upscale",
            "input=clean/x.png",
            f"output={output}",
            f"weights={weights}",
            "device=cpu",
            *arguments,
        )
        assert outcome.code == 0, outcome.log
        return read_uint8(output).astype(int)

    exact = enlarge("run", "exact", "precision=fp32")
    assert exact.shape == (100, 132, 3)
    given = enlarge("new/onnx_fp32.onnx", "fp32")
    assert np.abs(given - exact).max() <= 1
    assert (given == exact).mean() > 0.99
    assert 0 < np.abs(enlarge("new/onnx_int8_entropy.onnx", "int8") - exact).mean() < 15


def test_a_file_is_evaluated_beside_others(folder: Path, command: Command, tmp_path: Path) -> None:
    names = ["bicubic", "run", "new/onnx_fp32.onnx", "new/onnx_int8_entropy.onnx"]
    outcome = command(
        "evaluate", f"weights=[{','.join(names)}]", "data.hr=clean", "scale=2", "device=cpu",
        f"output={tmp_path}/scores", "protocol=realsr_release",
    )  # fmt: skip
    assert outcome.code == 0, outcome.log
    told = json.loads((tmp_path / "scores/metrics.json").read_text())["models"]
    assert set(told) == set(names)
    assert "fp32 (ONNX files: their own) on cpu; " in outcome.log


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["formats=[]"], "formats=[]: expected one or more of onnx_fp32, onnx_fp16, onnx_int8"),
        (
            ["formats=[onnx_fp32,tflite]"],
            "formats=[onnx_fp32,tflite]: expected one or more of onnx_fp32",
        ),
        (
            ["int8.methods=[kl]"],
            "int8.methods=[kl]: expected one or more of entropy, percentile, minmax",
        ),
        (
            ["output=x.pth", "formats=[onnx_fp32]"],
            "x.pth is a weights file: formats=['onnx_fp32'] need output=FOL",
        ),
        (["data.hr=seen"], "a.png, b.png: both in int8.photos and in data.hr"),
        (["int8.photos=nowhere"], "nowhere"),
        (
            ["weights=new/onnx_fp32.onnx"],
            "nly realsr.upscale and realsr.evaluate r",
        ),
        (
            ["weights=networks"],
            "holds several networks; give one file: networks/a.onnx, networks/b.onnx",
        ),
        (["output=LICENCE"], "output=LICENCE is a file, but a folder is expected"),
        (["output=LICENCE/new"], "output=LICENCE/new: LICENCE is a file, but a folder"),
        (
            ["output=LICENCE", "formats=[onnx_fp32]"],
            "output=LICENCE is a file, but a folder is expected",
        ),
        (
            ["output=new.onnx", "formats=[onnx_fp32]"],
            "networks are written to a folder: set output=new; for weights",
        ),
        (
            ["int8.photos=black"],
            "int8.photos=black: these photos cover 0 of 255 levels, expected 64 or more",
        ),
        (
            ["int8.keep=[conv_first,conv_9]"],
            "int8.keep: no layer conv_9; the generator has conv_first, RRDB_trunk.0, trunk_conv, upconv1, HRc",
        ),
    ],
)
def test_what_cannot_be_done_is_told_before_any_work(
    arguments: list[str], message: str, folder: Path, command: Command
) -> None:
    (folder / "LICENCE").touch()
    (folder / "networks").mkdir(exist_ok=True)
    for name in ("a.onnx", "b.onnx"):
        (folder / "networks" / name).touch()
    (folder / "black").mkdir(exist_ok=True)
    write_uint8(folder / "black/a.png", np.zeros((48, 48, 3), np.uint8))
    before = files(folder)
    output = [] if arguments[0].startswith("output") else ["output=other"]
    given = {
        entry.partition("=")[0]: entry for entry in ("weights=run", *output, *FOLDERS, *arguments)
    }
    outcome = command("export", *given.values())
    assert outcome.code == 1
    assert message in outcome.log
    assert files(folder) == before
    assert not (folder / "other").exists()


@pytest.mark.parametrize("output", ["model_v1.0", "x.v2/", "DF2K.2026-11"])
def test_a_folder_may_have_a_point_in_its_name(
    output: str, folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reached = list[Path]()
    monkeypatch.setattr(
        "realsr.api.generator_export.export_formats", lambda config: reached.append(config.output)
    )
    outcome = command("export", "weights=run", f"output={output}")
    assert outcome.code == 0, outcome.log
    assert reached == [Path(output)]


def test_formats_make_any_other_name_a_folder(
    folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = list[Path]()
    monkeypatch.setattr(
        "realsr.api.generator_export.export_formats", lambda config: reached.append(config.output)
    )
    assert command("export", "weights=run", "output=photo.png").code == 1
    assert command("export", "weights=run", "output=photo.png", "formats=[onnx_fp32]").code == 0
    assert reached == [Path("photo.png")]


def test_training_does_not_start_from_an_onnx_file(folder: Path, command: Command) -> None:
    outcome = command(
        "train",
        "+track=dped",
        "data.source=seen",
        "init=new/onnx_fp32.onnx",
        "scale=2",
        "work_dir=w",
    )
    assert outcome.code == 1
    assert "nly realsr.upscale and realsr.evaluate r" in outcome.log


def test_a_network_of_ones_own_becomes_a_file(
    own_modules: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without convolutions that could be kept or quantised."""
    (own_modules / "my_networks.py").write_text(OWN)
    network = torch.nn.Module()
    network.gain = torch.nn.Parameter(torch.full((1, 3, 1, 1), 0.7))
    save_generator(Path("x.safetensors"), network, {"name": "my_networks.Enlarge"}, 2)
    write_photos(Path("seen"), "a", (40, 48))
    write_photos(Path("clean"), "x", (50, 66))
    monkeypatch.setattr(export, "measure", lambda source, *_: Cost(1.0, None))
    call = (
        "export",
        "weights=x.safetensors",
        "output=new",
        "formats=[onnx_fp32,onnx_fp16]",
        *FOLDERS,
    )
    refused = command(*call)
    assert refused.code == 1
    assert "set allow_custom_code=true" in refused.log
    outcome = command(*call, "allow_custom_code=true")
    assert outcome.code == 0, outcome.log
    assert files(Path("new")).keys() == {
        "onnx_fp32.onnx",
        "onnx_fp16.onnx",
        "table.json",
        "table.md",
        "README.md",
    }
    model = load_model(Path("new/onnx_fp16.onnx"), torch.device("cpu"))
    x = torch.rand(1, 3, 5, 6)
    wanted = 0.7 * torch.nn.functional.interpolate(x, scale_factor=2)
    assert (model.run(x) - wanted).abs().max() < 1e-3
    (Path("new") / "mine.onnx").touch()
    again = command(*call, "allow_custom_code=true", "overwrite=true", "formats=[onnx_fp16]")
    assert again.code == 0, again.log
    names = {"onnx_fp16.onnx", "table.json", "table.md", "README.md", "mine.onnx"}
    assert files(Path("new")).keys() == names
