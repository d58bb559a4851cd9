import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from realsr.deployment.measure import Cost
from realsr.deployment.table import Deployment, Float32Choice, Row, SensitivityReport, write_tables


def scores(psnr: float, ssim: float) -> dict[str, dict[str, float]]:
    return {
        "vacc": {"psnr": psnr, "ssim": ssim},
        "realsr_release": {"psnr": psnr - 2, "ssim": 0.75},
    }


@pytest.fixture
def deployment() -> Deployment:
    rows = [
        Row("PyTorch", "fp32", 66_791_948, scores(25.0, 0.8), Cost(12.345, 900_000_000)),
        Row("onnx_fp32", "fp32", 67_100_000, scores(25.0, 0.8), Cost(10.0, None), math.inf),
        Row(
            "onnx_int8",
            "int8",
            17_260_000,
            scores(24.8766, 0.80321),
            Cost(5.004, 512_400_000),
            38.126,
            "entropy",
            ["conv_first", "HRconv"],
        ),
        Row("onnx_fp16", "fp16", 33_549_999, scores(math.inf, math.nan), Cost(9.0, 1), math.nan),
    ]
    return Deployment(
        "df2k",
        4,
        587.4271,
        16_697_987,
        "four photos",
        ["x: | gone"],
        2,
        "Some CPU",
        {"onnx": "1"},
        rows,
    )


def cells(deployment: Deployment) -> dict[str, dict[str, str]]:
    lines = [line for line in deployment.format_markdown().splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def test_numbers_become_cells(deployment: Deployment) -> None:
    found = cells(deployment)
    assert list(found) == ["PyTorch", "onnx_fp32", "onnx_int8", "onnx_fp16"]
    assert found["PyTorch"] == {
        "": "PyTorch", "precision": "fp32", "calibration": "—", "float32 layers": "all", "MB": "66.79",
        "GFLOP": "587.427", "M parameters": "16.698", "seconds": "12.35", "memory MB": "900",
        "PSNR vacc": "25.000", "SSIM vacc": "0.8000", "PSNR realsr_release": "23.000",
        "SSIM realsr_release": "0.7500", "PSNR to float32": "—",
    }  # fmt: skip
    int8 = found["onnx_int8"]
    assert (int8["calibration"], int8["float32 layers"], int8["MB"]) == (
        "entropy",
        "conv_first, HRconv",
        "17.26",
    )
    assert int8["PSNR vacc"] == "24.877 (-0.123)"
    assert int8["SSIM vacc"] == "0.8032 (+0.0032)"
    assert (int8["PSNR to float32"], int8["seconds"], int8["memory MB"]) == ("38.13", "5.00", "512")
    assert found["onnx_fp32"]["PSNR to float32"] == "equal"
    assert found["onnx_fp32"]["PSNR vacc"] == "25.000 (+0.000)"
    assert found["onnx_fp32"]["memory MB"] == "—"


def test_the_sensitivity_of_layers_is_a_table_of_its_own(
    deployment: Deployment, tmp_path: Path
) -> None:
    assert "kept in float32, of" not in deployment.format_markdown()
    choices = [
        Float32Choice([], 31.2, 0.40),
        Float32Choice(["conv_first", "conv_last"], math.inf, 0.456),
    ]
    told = replace(
        deployment,
        sensitivity=SensitivityReport("minmax", {"conv_first": 31.5, "conv_last": 33.0}, choices),
    )
    assert told.format_text().partition(
        "INT8 (minmax) with the most sensitive layers in float32\n"
    )[2].splitlines()[:3] == [
        "float32 layers         PSNR to float32, dB  time / float32",
        "none                   31.20                0.40",
        "conv_first, conv_last  equal                0.46",
    ]
    assert "| conv_first, conv_last | equal | 0.46 |" in told.format_markdown()
    write_tables(tmp_path, told)
    content = json.loads((tmp_path / "table.json").read_text())
    assert content["sensitivity"]["choices"][1]["similarity"] is None


def test_what_is_not_finite_is_null_in_strict_json(
    deployment: Deployment, tmp_path: object
) -> None:
    write_tables(tmp_path, deployment)

    def refuse(name: str) -> None:
        raise AssertionError(name)

    told = json.loads((tmp_path / "table.json").read_text(), parse_constant=refuse)
    assert told["rows"][1]["similarity"] is None
    assert told["rows"][3]["scores"]["vacc"] == {"psnr": None, "ssim": None}
    assert told["rows"][2]["scores"]["vacc"]["psnr"] == 24.8766
    assert told["rows"][2]["kept"] == ["conv_first", "HRconv"]
    assert told["rows"][1]["cost"] == {"seconds": 10.0, "memory": None}
    assert (told["gflop"], told["parameters"], told["scale"]) == (587.4271, 16_697_987, 4)
    assert (tmp_path / "table.md").read_text() == deployment.format_markdown()


def test_it_tells_what_it_holds_for(deployment: Deployment) -> None:
    for text in (deployment.format_text(), deployment.format_markdown()):
        assert text.startswith("df2k, 3x128x128 -> 3x512x512\n")
        assert "2 threads of Some CPU" in text
        assert "means over four photos" in text
        assert "left out: x: | gone" in text
