"""MLflow."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from realsr.training.trackers.tracker import import_package, read_id, write_id

MAX_VALUE = 500  # characters of a parameter that every version of the server takes


class MLflow:
    """Sends to an MLflow server or database.

    uri: address of a server, or `sqlite:///FILE`; None is MLflow's own choice, e.g. of MLFLOW_TRACKING_URI.
    experiment: where the run is listed.
    """

    def __init__(
        self, uri: str | None, experiment: str, folder: Path, run_name: str, config: dict[str, Any]
    ):
        self._mlflow = import_package("mlflow")
        self._client = self._mlflow.MlflowClient(uri)
        self._id = read_id(folder)
        if self._id is None:
            earlier = self._client.get_experiment_by_name(experiment)
            experiment_id = (
                earlier.experiment_id
                if earlier
                else self._client.create_experiment(experiment, artifact_location=_images_of(uri))
            )
            self._id = str(self._client.create_run(experiment_id, run_name=run_name).info.run_id)
            write_id(folder, self._id)
            for key, value in config.items():
                self._client.log_param(self._id, key, str(value)[:MAX_VALUE])

    def log_values(self, step: int, values: Mapping[str, float]) -> None:
        """Send scalars by name."""
        now = int(1000 * time.time())
        metrics = [
            self._mlflow.entities.Metric(_clean(name), value, now, step)
            for name, value in values.items()
        ]
        self._client.log_batch(self._id, metrics=metrics)

    def log_image(self, step: int, name: str, image_uint8: np.ndarray) -> None:
        """Send an image (h, w, 3) uint8."""
        self._client.log_image(self._id, image_uint8, key=_clean(name), step=step)

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._id)


def _images_of(uri: str | None) -> str | None:
    """Return the folder of images beside a database file, since MLflow's is the current folder.

    None: the server's own.
    """
    _, is_file, path = (uri or "").partition("sqlite:///")
    return (Path(path).resolve().parent / "mlartifacts").as_uri() if is_file else None


def _clean(name: str) -> str:
    """Return a name with an underscore for each character that MLflow refuses."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)
