"""The model card of an export, as the Hub's library reads it."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from small_work import Command

from realsr.api import generator_export
from realsr.deployment.measure import Cost
from realsr.deployment.table import Deployment, Row
from realsr.networks import build_generator
from realsr.reporting.model_card import Measurement, deployment_scores, make_header
from realsr.weights import load_generator, save_generator
from realsr.weights.origin import Origin

RUN = Path(__file__).parents[1] / "records/7a7b301/run_finished"
SIZE = {"name": "rrdb", "features": 4, "blocks": 1, "growth": 4}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    save_generator(tmp_path / "bare.safetensors", build_generator(SIZE, 4), SIZE, 4)
    return tmp_path / "bare.safetensors"


def test_the_card_of_a_run_has_what_the_run_records(command: Command, tmp_path: Path) -> None:
    outcome = command(
        "export", f"weights={RUN}", "output=cam", "formats=[safetensors]", "licence=MIT"
    )
    assert outcome.code == 0, outcome.log
    assert {path.name for path in Path("cam").iterdir()} == {"README.md", "model.safetensors"}
    card = ModelCard.load(Path("cam/README.md"))
    data = card.data
    assert (data.license, data.library_name, data.pipeline_tag) == (
        "mit",
        "realsr",
        "image-to-image",
    )
    assert data.tags == ["super-resolution", "image-restoration", "rrdb", "x2"]
    scores = json.loads((RUN / "metrics.json").read_text())
    means = scores["models"]["generator"]["mean"]
    assert data.model_name == "cam"
    assert {entry.metric_type: entry.metric_value for entry in data.eval_results} == means
    assert data.metrics == list(means)
    manifest = json.loads((RUN / "manifest.json").read_text())["training"]
    rows = dict(re.findall(r"^\| ([^|`]+) \| (.*) \|$", card.text, re.MULTILINE))
    assert rows["SHA-256 of the run's config.yaml"] == sha256(RUN / "config.yaml")
    assert (rows["track"], rows["folders of photos"]) == ("dped", "source source")
    assert (rows["steps"], rows["seed"], rows["initial weights"]) == ("4", "0", "none")
    inputs = [name.partition("/")[0] for name in manifest["inputs"]]
    assert rows["pairs of HR and LR"] == str(inputs.count("HR")) == "2"
    assert rows["degradation pool, files"] == f"kernels 0, noise {inputs.count('noise')}"
    assert rows["added during training"] == "noise"
    assert f"realsr {manifest['versions']['realsr']}, torch" in rows["versions"]
    assert sha256(RUN / "generator.safetensors") in card.text
    assert (
        f"| `model.safetensors` | {Path('cam/model.safetensors').stat().st_size} | `" in card.text
    )
    assert sha256(Path("cam/model.safetensors")) in card.text
    bicubic = scores["models"]["bicubic"]["mean"]["psnr"]
    assert f"| bicubic interpolation | {bicubic:.4f} |" in card.text
    assert str(RUN.parent) not in card.content
    assert torch.equal(
        load_generator("cam")[0].conv_last.weight, load_generator(RUN)[0].conv_last.weight
    )


def test_the_card_of_a_file_states_what_is_unknown(command: Command, bare: Path) -> None:
    outcome = command("export", "weights=bare.safetensors", "output=cam", "formats=[safetensors]")
    assert outcome.code == 0, outcome.log
    card = ModelCard.load(Path("cam/README.md"))
    assert card.data.license == "unknown"
    assert card.data.eval_results is None
    assert card.data.to_dict().keys() == {"license", "library_name", "pipeline_tag", "tags"}
    for text in ("Its training is unknown", "None were measured.", "Unknown. Ask the publisher"):
        assert text in card.text
    assert sha256(bare) in card.text
    again = ["export", "weights=bare.safetensors", "output=cam", "formats=[safetensors]"]
    assert "already has an export (README.md, model.safetensors)" in command(*again).log
    assert command(*again, "overwrite=true", "licence=CC BY 4.0").code == 0
    assert ModelCard.load(Path("cam/README.md")).data.license == "cc-by-4.0"


def test_another_readme_is_not_replaced(command: Command, bare: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# My project\n")
    outcome = command("export", "weights=bare.safetensors", "output=.", "formats=[safetensors]")
    assert (outcome.code, "README.md: would be replaced by the model card" in outcome.log) == (
        1,
        True,
    )
    assert (tmp_path / "README.md").read_text() == "# My project\n"


def test_an_export_is_pushed(command: Command, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed = list[object]()
    monkeypatch.setattr(generator_export, "check_upload", pushed.append)
    monkeypatch.setattr(
        generator_export, "upload_files", lambda *call: pushed.append(call) or "hf://me/cam@1"
    )
    export = ("export", "weights=bare.safetensors", "push_to=me/cam")
    for output in ("output=cam", "formats=[onnx_fp32]"), ("output=x.pth",):
        assert "push_to=me/cam" in command(*export, *output).log
    assert pushed == []
    outcome = command(*export, "output=cam", "formats=[safetensors]")
    assert outcome.code == 0, outcome.log
    assert pushed == ["me/cam", (Path("cam"), ["README.md", "model.safetensors"], "me/cam")]
    assert "uploaded  me/cam: upscale with weights=hf://me/cam@1" in outcome.log
    text = Path("cam/README.md").read_text()
    assert "realsr upscale PHOTO.jpg output=BIG.png weights=hf://me/cam\n" in text


def test_scores_of_the_table_are_those_of_float32() -> None:
    rows = [
        Row("PyTorch", "fp32", 1, {"p": {"psnr": 30.0, "ssim": float("inf")}}, Cost(None, None)),
        Row("onnx_int8", "int8", 1, {"p": {"psnr": 20.0, "ssim": 0.5}}, Cost(None, None)),
    ]
    table = Deployment("x", 4, 1.0, 1, "my photos", [], 1, "cpu", {}, rows)
    assert deployment_scores(table) == [
        Measurement("p", "my photos", {"this model": {"psnr": 30.0}})
    ]


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        (None, {"license": "unknown"}),
        (
            "Apache-2.0 AND MIT",
            {"license": "other", "license_name": "Apache-2.0 AND MIT"},
        ),
    ],
)
def test_licences_have_the_hub_s_names(licence: str | None, expected: dict[str, str]) -> None:
    origin = Origin(licence, "x", "5" * 64, None, "realsr 0")
    header = make_header("x", origin, "rrdb", 4, [])
    assert {key: value for key, value in header.items() if "license" in key} == expected


def test_texts_of_untrusted_files_cannot_add_rows_or_markup(command: Command, bare: Path) -> None:
    training = {"config_sha256": "a\n| evil | row |\n<script>", "track": "`x`"}
    origin = {"licence": "MIT", "training": training}
    save_generator(bare, build_generator(SIZE, 4), SIZE, 4, {"origin": origin})
    outcome = command("export", "weights=bare.safetensors", "output=cam", "formats=[safetensors]")
    assert outcome.code == 0, outcome.log
    text = Path("cam/README.md").read_text()
    assert "<script>" not in text
    assert "\n| evil" not in text
    assert "| track | 'x' |" in text
