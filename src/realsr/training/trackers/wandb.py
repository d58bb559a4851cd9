"""Weights & Biases."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from realsr.training.trackers.tracker import import_package, read_id, write_id


class Wandb:
    """Sends to Weights & Biases; offline, the files of `wandb sync` are written to the run's folder.

    project, entity: where the run is listed; entity None is the login's own. mode: `online` or `offline`.
    """

    def __init__(
        self,
        project: str,
        entity: str | None,
        mode: Literal["online", "offline"],
        folder: Path,
        run_name: str,
        config: dict[str, Any],
    ):
        self._wandb = import_package("wandb")
        settings = self._wandb.Settings(
            console="off", disable_git=True, save_code=False, silent=True
        )
        self._run = self._wandb.init(
            project=project,
            entity=entity,
            mode=mode,
            name=run_name,
            config=config,
            id=read_id(folder),
            resume="allow",
            dir=folder,
            settings=settings,
        )
        write_id(folder, self._run.id)
        # Not wandb's own step: a resumed training repeats steps, which wandb would ignore.
        self._run.define_metric("*", step_metric="step")

    def log_values(self, step: int, values: Mapping[str, float]) -> None:
        """Send scalars by name."""
        self._run.log({"step": step, **values})

    def log_image(self, step: int, name: str, image_uint8: np.ndarray) -> None:
        """Send an image (h, w, 3) uint8."""
        self._run.log({"step": step, name: self._wandb.Image(image_uint8)})

    def close(self) -> None:
        """Send what is buffered."""
        self._run.finish()
