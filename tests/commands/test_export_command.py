from pathlib import Path

import pytest
import torch
from small_work import Command

from realsr.networks import build_generator
from realsr.weights import load_generator, save_generator

SIZE = {"name": "rrdb", "features": 4, "blocks": 1, "growth": 4}


@pytest.fixture
def run(tmp_path: Path) -> torch.nn.Module:
    (tmp_path / "run").mkdir()
    generator = build_generator(SIZE, 2)
    save_generator(tmp_path / "run" / "generator.safetensors", generator, SIZE, 2)
    return generator


@pytest.mark.parametrize("output", ["new/x.pth", "x.safetensors"])
def test_a_run_becomes_a_file(
    output: str, command: Command, run: torch.nn.Module, tmp_path: Path
) -> None:
    outcome = command("export", "weights=run", f"output={output}")
    assert outcome.code == 0, outcome.log
    assert f"{output}: generator of run (rrdb, 1 blocks, 4 features, scale 2)" in outcome.log
    back, scale = load_generator(tmp_path / output)
    assert scale == 2
    assert torch.equal(back.conv_last.weight, run.conv_last.weight)
    assert command("export", "weights=run", f"output={output}").code == 1
    assert command("export", "weights=run", f"output={output}", "overwrite=true").code == 0


def test_interpolated_weights_and_a_licence(
    command: Command, run: torch.nn.Module, tmp_path: Path
) -> None:
    other = build_generator(SIZE, 2)
    save_generator(tmp_path / "b.safetensors", other, SIZE, 2)
    outcome = command(
        "export", "weights=run", "weights_b=b.safetensors", "interpolate=0.75",
        "licence=CC BY 4.0", "output=x.pth",
    )  # fmt: skip
    assert outcome.code == 0, outcome.log
    assert "licence CC BY 4.0, source 0.25 * run + 0.75 * b.safetensors" in outcome.log
    back, _ = load_generator(tmp_path / "x.pth")
    expected = 0.25 * run.conv_last.weight + 0.75 * other.conv_last.weight
    torch.testing.assert_close(back.conv_last.weight, expected)
    outcome = command("export", "weights=run", "weights_b=b.safetensors", "output=y.pth")
    assert (outcome.code, "set both for interpolation" in outcome.log) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["weights=run"], "output must be given"),
        (["output=x.pth"], "weights must be given"),
        (
            ["weights=run", "output=x.png"],
            "x.png: expected a file name that ends in .safetensors or .pth",
        ),
        (["weights=nowhere", "output=x.pth"], "nowhere: no such file"),
        (["weights=[run]", "output=x.pth"], "weights"),
        (["weights=run", "outputs=x.pth"], "Did you mean output"),
    ],
)
def test_bad_input(
    arguments: list[str], message: str, command: Command, run: torch.nn.Module, tmp_path: Path
) -> None:
    outcome = command("export", *arguments)
    assert outcome.code == 1
    assert message in outcome.log
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
