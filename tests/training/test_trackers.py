"""Trackers: what a service has stored after a training that was resumed, by the service's own reader."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pytest
import torch

from config_files import yaml_values
from realsr.core.errors import UserError
from realsr.data.pairs import Pair
from realsr.data.validation_images import ValidationImage
from realsr.imaging import resize
from realsr.training.settings import TrainingConfig
from realsr.training.trackers.tracker import SafeTracker, Tracker, check_tracker, open_tracker
from realsr.training.validation import ValidationSet
from stages import train_run

IMAGE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
TAG = "LR, bicubic, SR, HR/a b"


def train_twice(name: str, run: Path, **changes: Any) -> None:
    """Log steps 1 and 2; then, as after an interruption, step 2 again and step 3."""
    values = yaml_values(f"tracker/{name}") | changes
    for steps in ([1, 2], [2, 3]):
        tracker = open_tracker(values, run, {"trainer.batch": 16})
        for step in steps:
            tracker.log_values(step, {"loss/generator": step / 10, "speed/images_per_second": 5.0})
        tracker.log_image(steps[-1], TAG, IMAGE)
        tracker.close()


def test_no_tracker_leaves_nothing(tmp_path: Path) -> None:
    open_tracker(yaml_values("tracker/none"), tmp_path, {}).log_values(1, {"loss": 1.0})
    assert not list(tmp_path.iterdir())


def test_mlflow_has_one_run_with_all_values(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    run = tmp_path / "default"
    train_twice("mlflow", run, uri=uri)
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("realsr")
    (stored,) = client.search_runs([experiment.experiment_id])
    assert stored.info.run_name == "default"
    assert stored.info.status == "FINISHED"
    assert stored.data.params == {"trainer.batch": "16"}
    history = client.get_metric_history(stored.info.run_id, "loss/generator")
    assert {(item.step, item.value) for item in history} == {(1, 0.1), (2, 0.2), (3, 0.3)}
    train_twice("mlflow", tmp_path / "second", uri=uri)
    for stored in client.search_runs([experiment.experiment_id]):
        place = Path(urlparse(stored.info.artifact_uri).path)
        assert place.is_relative_to(tmp_path / "mlartifacts"), "not in the folder of a run"
        assert list(place.rglob("*.png"))


def test_wandb_stores_offline_what_it_would_send(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    run = tmp_path / "default"
    train_twice("wandb", run, mode="offline")
    files = sorted(run.rglob("*.wandb"))
    assert len(files) == 2
    assert len({file.name for file in files}) == 1, "both belong to one run"
    content = b"".join(file.read_bytes() for file in files)
    assert content.count(b"loss/generator") >= 4
    assert b"trainer.batch" in content
    assert len(list(run.rglob("*.png"))) == 2


def test_trackio_is_called_as_its_library_expects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a stand-in of trackio 0.43, which needs an older Pillow than the other tests."""
    calls: list[tuple[str, Any]] = []
    trackio: Any = ModuleType("trackio")
    trackio.init = lambda **values: calls.append(("init", values)) or SimpleNamespace()
    trackio.log = lambda metrics, step: calls.append(("log", (step, metrics)))
    trackio.Image = lambda value: ("image", value.shape)
    trackio.finish = lambda: calls.append(("finish", None))
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    train_twice("trackio", tmp_path / "default")
    starts = [values for kind, values in calls if kind == "init"]
    assert [values["name"] for values in starts] == ["default", "default"]
    assert all(values["resume"] == "allow" for values in starts)
    logged = [content for kind, content in calls if kind == "log"]
    assert [step for step, _ in logged] == [1, 2, 2, 2, 3, 3]
    assert logged[2][1] == {TAG: ("image", (2, 3, 3))}


def test_a_package_that_is_missing_is_named_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(UserError, match=r"tracker=trackio: .*pip install 'realsr\[trackio\]'"):
        open_tracker(yaml_values("tracker/trackio"), tmp_path, {})


def test_wrong_values_are_refused_before_the_tracker_starts() -> None:
    check_tracker({})
    with pytest.raises(UserError, match=r"unknown key tracker\.url\. Did you mean tracker\.uri"):
        check_tracker(yaml_values("tracker/mlflow") | {"url": "x"})
    with pytest.raises(UserError, match=r"tracker\.mode=off: expected one of online, offline"):
        check_tracker(yaml_values("tracker/wandb") | {"mode": "off"})


def test_a_service_that_refuses_to_start_is_an_error_with_its_reason(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    values = yaml_values("tracker/mlflow") | {"uri": "no-such-scheme://x"}
    with pytest.raises(UserError, match=r"tracker=mlflow: cannot start .*tracker=none"):
        open_tracker(values, tmp_path, {})


class Broken:
    """A service that is gone."""

    def __init__(self) -> None:
        self.calls = 0

    def log_values(self, step: int, values: Any) -> None:
        self.calls += 1
        raise ConnectionError("the network is down")

    def log_image(self, step: int, name: str, image_uint8: np.ndarray) -> None:
        self.calls += 1

    def close(self) -> None:
        self.calls += 1


def test_a_failure_is_one_warning_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    broken: Tracker = Broken()
    tracker = SafeTracker(broken)
    tracker.log_values(1, {"loss": 1.0})
    tracker.log_image(1, TAG, IMAGE)
    tracker.close()
    (record,) = caplog.records
    assert "Broken failed" in record.message
    assert "the network is down" in record.message
    assert broken.calls == 1


class Notebook:
    """A user's tracker, which keeps everything in a file."""

    def __init__(self, folder: Path, run_name: str, config: dict[str, Any]) -> None:
        self._file = folder / "notebook.jsonl"
        self._write("open", run_name, config["trainer.batch"])

    def log_values(self, step: int, values: Mapping[str, float]) -> None:
        self._write("values", step, dict(values))

    def log_image(self, step: int, name: str, image_uint8: np.ndarray) -> None:
        self._write("image", step, list(image_uint8.shape))

    def close(self) -> None:
        self._write("close")

    def _write(self, *entry: Any) -> None:
        with self._file.open("a") as file:
            file.write(json.dumps(entry) + "\n")


def test_a_training_sends_what_tensorboard_gets_and_its_weights_stay_the_same(
    pairs: list[Pair], make_config: Callable[..., TrainingConfig], tmp_path: Path
) -> None:
    values = {"name": "test_trackers.Notebook"}
    scene = torch.rand(3, 40, 48, generator=torch.Generator().manual_seed(0))
    images = [ValidationImage("v", resize(scene, factor=0.5).clamp(0, 1), scene)]

    def train(run: str, steps: int, tracker: dict[str, Any]) -> Path:
        config = replace(make_config(max_steps=steps, validate_every=2), tracker=tracker)
        validation = ValidationSet("set", images)
        degradation = yaml_values("online_degradation/none")
        folder = tmp_path / run
        train_run(folder, pairs, [], degradation, validation, config, "", tmp_path / "cache")
        return folder

    sys.path.insert(0, str(Path(__file__).parent))
    try:
        train("tracked", 2, values)
        tracked = train("tracked", 4, values)
    finally:
        sys.path.pop(0)
    lines = (tracked / "tracker/notebook.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert [entry for entry in entries if entry[0] == "open"] == [["open", "tracked", 2]] * 2
    assert [kind for kind, *_ in entries].count("close") == 2
    steps = [entry[1] for entry in entries if entry[0] == "values" and "learning_rate" in entry[2]]
    assert steps == [1, 2, 3, 4]
    scores = [entry for entry in entries if "validation set/psnr" in str(entry)]
    assert [entry[1] for entry in scores] == [2, 4]
    assert [entry[1] for entry in entries if entry[0] == "image"] == [2, 4]
    train("plain", 2, {})
    plain = train("plain", 4, {})
    name = "generator.safetensors"
    assert (plain / name).read_bytes() == (tracked / name).read_bytes()
