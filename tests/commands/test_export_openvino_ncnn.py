import json
from pathlib import Path

import pytest
import torch
from small_work import Command, write_photos

from realsr.deployment import export_folder
from realsr.deployment.export_folder import DEFAULT_FORMATS
from realsr.networks import build_generator
from realsr.weights import save_generator

SIZE = {"name": "rrdb", "features": 4, "blocks": 1, "growth": 4}


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    (tmp_path / "run").mkdir()
    torch.manual_seed(0)
    generator = build_generator(SIZE, 2)
    for parameter in generator.parameters():
        spread = 0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
        parameter.data = spread * torch.randn(parameter.shape)
    save_generator(tmp_path / "run" / "generator.safetensors", generator, SIZE, 2)
    photos, hr = (
        write_photos(tmp_path / "photos", "ab", (32, 32)),
        write_photos(tmp_path / "hr", "xy", (48, 48)),
    )
    return [
        "weights=run",
        "output=out",
        f"int8.photos={photos}",
        f"data.hr={hr}",
        "int8.methods=[minmax]",
    ]


def test_openvino_and_ncnn_through_to_the_table(
    folders: list[str], command: Command, tmp_path: Path
) -> None:
    for library in ("openvino", "ncnn", "pnnx"):
        pytest.importorskip(library, reason=f"{library} is not installed (extras openvino, ncnn)")
    outcome = command("export", *folders, "formats=[openvino,openvino_int8,ncnn]")
    assert outcome.code == 0, outcome.log
    pairs = {
        "openvino": ["openvino.xml", "openvino.bin"],
        "openvino_int8": ["openvino_int8.xml", "openvino_int8.bin"],
        "ncnn": ["ncnn.param", "ncnn.bin"],
    }
    others = ["README.md", "table.json", "table.md"]
    written = sorted([name for names in pairs.values() for name in names] + others)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == written
    assert f"written  out: {', '.join(written)}" in outcome.log
    first, *rows = json.loads((tmp_path / "out" / "table.json").read_text())["rows"]
    assert (first["name"], first["files"]) == ("PyTorch", [])
    assert {row["name"]: row["files"] for row in rows} == pairs
    assert [(row["precision"], row["calibration"]) for row in rows] == [
        ("fp32", ""),
        ("int8", "minmax"),
        ("fp16", ""),
    ]
    for row in rows:
        assert row["bytes"] == sum(
            (tmp_path / "out" / name).stat().st_size for name in row["files"]
        )
        assert row["cost"]["seconds"] > 0
    exact, coarse, half = (row["similarity"] for row in rows)
    assert exact > 100
    assert 20 < coarse < half
    assert half > 50
    assert "The ncnn file has weights in fp16" in (tmp_path / "out" / "table.md").read_text()


def test_a_library_is_asked_for_before_any_work(
    folders: list[str], command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    there = export_folder.find_spec
    monkeypatch.setattr(
        export_folder,
        "find_spec",
        lambda name: None if name in ("openvino", "pnnx") else there(name),
    )
    for formats, missing, extras in (
        ("openvino_int8", "openvino", "onnx,openvino"),
        ("ncnn,openvino", "openvino, pnnx", "onnx,openvino,ncnn"),
    ):
        outcome = command("export", *folders, f"formats=[{formats}]")
        assert outcome.code == 1
        assert f"formats=[{formats}] need {missing}: pip install 'realsr[{extras}]'" in outcome.log
    assert not (tmp_path / "out").exists()


def test_these_formats_are_not_made_unasked() -> None:
    assert DEFAULT_FORMATS == ("onnx_fp32", "onnx_fp16", "onnx_int8", "safetensors")
