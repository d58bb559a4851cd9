import json
import logging
from pathlib import Path

import onnx
import pytest
import torch
from tiny_generator import ORIGIN, random_photos, tiny_generator

from realsr.deployment.export_folder import Int8Config
from realsr.deployment.network_files import FileMaker
from realsr.inference.model import load_model


@pytest.mark.parametrize("name", ["onnx_fp32", "onnx_fp16"])
def test_an_onnx_file_stores_the_origin_of_its_weights(
    name: str, one_thread: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    maker = FileMaker(
        tiny_generator(), tmp_path, Int8Config(None, ["minmax"], 16, None, False), random_photos()
    )
    (file,) = maker.make(name)
    metadata = {entry.key: entry.value for entry in onnx.load(file.path).metadata_props}
    assert metadata["licence"] == ORIGIN.licence
    assert metadata["source"] == ORIGIN.source
    assert metadata["source_sha256"] == ORIGIN.source_sha256
    assert metadata["made_by"] == ORIGIN.made_by
    assert json.loads(metadata["training"]) == ORIGIN.training
    caplog.set_level(logging.INFO, "realsr")
    load_model(file.path, torch.device("cpu"))
    assert f"licence MIT, source tiny, training {metadata['training']}, written by" in caplog.text
