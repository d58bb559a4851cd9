import logging
from pathlib import Path

import pytest
from tiny_generator import tiny_generator

from realsr.deployment import export
from realsr.deployment.export_folder import Int8Config

INT8 = Int8Config(None, ["minmax"], 32, None, False)


@pytest.mark.parametrize(
    ("formats", "lacks", "count"),
    [(["onnx_int8"], True, 1), (["onnx_int8"], False, 0), (["onnx_fp32"], True, 0)],
)
def test_int8_without_vnni_is_reported_before_photos_are_read(
    formats: list[str],
    lacks: bool,
    count: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def load(*arguments: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(export, "lacks_vnni", lambda: lacks)
    monkeypatch.setattr(export, "load_evaluation_sets", load)
    with caplog.at_level(logging.WARNING, "realsr"), pytest.raises(InterruptedError):
        export.export_networks(
            tiny_generator(), tmp_path / "out", {}, INT8, formats, None, "refuse"
        )
    assert [
        record.message.startswith("INT8: this CPU has no VNNI") for record in caplog.records
    ] == [True] * count
