"""No file is handed out that does not compute what the network does."""

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tiny_generator import ORIGIN
from torch import Tensor

from config_files import config_of
from exported_networks import exported_rrdb, rrdb, run_torch
from realsr.core.errors import UserError
from realsr.deployment import export, network_files
from realsr.deployment.check import (
    MIN_PSNR,
    WARNING_PSNR,
    Scores,
    check_result,
    check_similarity,
    similarity,
)
from realsr.deployment.export_folder import File, Int8Config, check_formats
from realsr.deployment.measure import Cost
from realsr.deployment.onnx_graph import Generator
from realsr.deployment.table import Deployment
from realsr.imaging import write_uint8


def exactly(lr: np.ndarray) -> np.ndarray:
    return run_torch(rrdb(2), torch.from_numpy(lr))


def test_the_worst_psnr_is_returned(lrs: list[Tensor]) -> None:
    photos = [lr.numpy() for lr in lrs]
    assert check_result("x", exactly, rrdb(2), photos, "fp32") == np.inf
    level = 10 ** (-110 / 20)
    worse = 10 ** (-105 / 20)
    given = check_result(
        "x",
        lambda lr: exactly(lr) + (worse if lr.shape[2] == 40 else level),
        rrdb(2),
        photos,
        "fp32",
    )
    assert given == pytest.approx(
        105, abs=0.7
    )  # where values are beyond 0..1, clamping takes some away


@pytest.mark.parametrize("precision", MIN_PSNR)
@pytest.mark.parametrize("what", ["random inputs", "photos"])
def test_each_precision_has_its_least(precision: str, what: str, lrs: list[Tensor]) -> None:
    enough = MIN_PSNR[precision][what == "photos"]
    photos = [lr.numpy() for lr in lrs]
    if enough == 0:
        return  # INT8 is free on random inputs, as long as the values are finite

    def off(decibel: float) -> float:
        def run(lr: np.ndarray) -> np.ndarray:
            meant = (what == "photos") == any(lr is photo for photo in photos)
            return np.clip(exactly(lr), 0.2, 0.8) + (10 ** (-decibel / 20) if meant else 0)

        return check_result("x.onnx", run, Middle(), photos, precision)

    class Middle(torch.nn.Module):
        def forward(self, lr: Tensor) -> Tensor:
            return rrdb(2)(lr).clamp(0.2, 0.8)

    assert off(enough + 0.5) == (
        pytest.approx(enough + 0.5, abs=0.1) if what == "photos" else np.inf
    )
    with pytest.raises(
        UserError,
        match=rf"x.onnx: results are not finite or differ from the generator's \(PSNR on {what} ",
    ):
        off(enough - 0.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 1, 2, 3])
def test_one_result_that_is_not_finite_is_enough(bad: float, where: int, lrs: list[Tensor]) -> None:
    count = iter(range(4))

    def run(lr: np.ndarray) -> np.ndarray:
        sr = exactly(lr).copy()
        if next(count) == where:
            sr[0, 1, 0, 3] = bad
        return sr

    with pytest.raises(UserError, match="x: results are not finite or differ from the generator's"):
        check_result("x", run, rrdb(2), [lr.numpy() for lr in lrs], "int8")


def test_similarity_is_psnr_of_what_is_seen() -> None:
    wanted = np.full((1, 3, 4, 4), 0.5, np.float32)
    assert similarity(wanted + 0.1, wanted) == pytest.approx(20, abs=1e-4)
    assert similarity(wanted + 7, wanted + 0.5) == np.inf  # both are white
    assert np.isnan(similarity(wanted * np.nan, wanted))


@pytest.fixture
def run_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Deployment]:
    """The export of a small generator with all photos of a folder, without its measurement."""
    generator = Generator("tiny", "tiny", rrdb(2), 2, ORIGIN, False)
    monkeypatch.setattr(export, "measure", lambda *_: Cost(1.0, None))

    def run(photos: Path, formats: list[str]) -> Deployment:
        int8 = config_of(Int8Config, photos=photos)
        return export.export_networks(
            generator, tmp_path / "out", {}, int8, formats, None, "refuse"
        )

    return run


def photos_folder(folder: Path) -> Path:
    folder.mkdir()
    write_uint8(
        folder / "a.png", np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    )
    return folder


def changed_weight(model: onnx.ModelProto) -> onnx.ModelProto:
    weight = next(value for value in model.graph.initializer if value.name == "HRconv.weight")
    weight.CopyFrom(
        onnx.numpy_helper.from_array(
            onnx.numpy_helper.to_array(weight) * np.float32(1.01), weight.name
        )
    )
    return model


def not_a_number(model: onnx.ModelProto) -> onnx.ModelProto:
    bias = next(value for value in model.graph.initializer if value.name == "conv_last.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.float32([0, np.nan, 0]), bias.name))
    return model


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            lambda: changed_weight(exported_rrdb(2)),
            "onnx_fp32.onnx: results are not finite or differ from the generator's",
        ),
        (
            lambda: not_a_number(exported_rrdb(2)),
            r"onnx_fp32.onnx: results are not finite or differ .*nan dB",
        ),
        (
            lambda: exported_rrdb(4),
            r"onnx_fp32.onnx: returns \(1, 3, 4, 28\) for \(1, 3, 1, 7\), expected \(1, 3, 2, 14\)",
        ),
    ],
)
def test_a_wrong_file_is_not_written(
    made: object,
    message: str,
    run_export: Callable[..., Deployment],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(network_files, "to_onnx", lambda network: copy.deepcopy(made()))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "onnx_fp32.onnx").write_text("an earlier export's")
    deployment = run_export(photos_folder(tmp_path / "photos"), ["onnx_fp32"])
    assert len(deployment.failed) == 1
    assert re.search(message, deployment.failed[0])
    assert [row.name for row in deployment.rows] == ["PyTorch"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "onnx_fp32.onnx",
        "table.json",
        "table.md",
    }
    assert (tmp_path / "out" / "onnx_fp32.onnx").read_text() == "an earlier export's"


@pytest.mark.parametrize(
    ("formats", "int8", "message"),
    [
        (
            [],
            config_of(Int8Config),
            r"formats=\[\]: expected one or more of onnx_fp32, onnx_fp16, onnx_int8, openvino",
        ),
        (["onnx_fp8"], config_of(Int8Config), r"formats=\[onnx_fp8\]"),
        (["onnx_fp32", "onnx_fp32"], config_of(Int8Config), "each once"),
        (
            ["onnx_int8"],
            config_of(Int8Config, methods=[]),
            r"int8.methods=\[\]: expected one or more of entropy, percentile",
        ),
        (["onnx_int8"], config_of(Int8Config, methods=["max"]), r"int8.methods=\[max\]"),
    ],
)
def test_what_cannot_be_asked_for(formats: list[str], int8: Int8Config, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_formats(formats, int8)
    check_formats(["onnx_int8"], config_of(Int8Config))


def test_similarity_on_scored_images_is_refused_warned_of_or_usual() -> None:
    for precision, (_, least) in MIN_PSNR.items():
        for value in (least - 0.1, np.nan):
            with pytest.raises(
                UserError,
                match=rf"x\.onnx: PSNR to float32 .* expected {least:g} or more; the file is not",
            ):
                check_similarity("x.onnx", precision, value)
        for value in (max(least, WARNING_PSNR), np.inf):
            assert check_similarity("x.onnx", precision, value) == ""
    warning = check_similarity("x.onnx", "int8", WARNING_PSNR - 0.1)
    assert "29.9 dB; usual values are 35 to 42" in warning
    assert "int8.photos" in warning


@pytest.mark.parametrize(("similarity", "kept"), [(19.0, False), (25.0, True), (36.0, True)])
def test_a_file_far_from_float32_is_no_success(
    similarity: float,
    kept: bool,
    run_export: Callable[..., Deployment],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made(self: network_files.FileMaker, name: str) -> Iterator[File]:
        path = self.folder / f"{name}.onnx"
        onnx.save(exported_rrdb(2), path)
        yield File(path, "int8", "minmax")

    scores = {"x": {"psnr": 20.0, "ssim": 0.5}}
    found = Scores({"PyTorch": scores, "onnx_int8": scores}, {"onnx_int8": similarity}, [])
    monkeypatch.setattr(network_files.FileMaker, "make", made)
    monkeypatch.setattr(export, "score_files", lambda *_: found)
    deployment = run_export(photos_folder(tmp_path / "photos"), ["onnx_int8"])
    assert (tmp_path / "out/onnx_int8.onnx").exists() == kept
    assert [row.name for row in deployment.rows] == ["PyTorch", *(["onnx_int8"] if kept else [])]
    assert len(deployment.failed) == (not kept)
    assert any("PSNR to float32 is 25.0 dB" in warning for warning in deployment.warnings) == (
        similarity == 25
    )
    assert all(
        f"warning: {warning}" in deployment.format_markdown() for warning in deployment.warnings
    )


def test_nothing_is_made_of_photos_that_carry_nothing(
    run_export: Callable[..., Deployment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "FileMaker", None)
    (tmp_path / "black").mkdir()
    write_uint8(tmp_path / "black/a.png", np.zeros((24, 24, 3), np.uint8))
    for name in ("onnx_int8", "openvino_int8"):
        with pytest.raises(UserError, match="cover 0 of 255 levels"):
            run_export(tmp_path / "black", ["onnx_fp32", name])
    assert not (tmp_path / "out").exists()
    with pytest.raises(TypeError):  # FileMaker: without INT8 these photos are no obstacle
        run_export(tmp_path / "black", ["onnx_fp32"])
