"""Trackio, which stores on this machine, or in a Space of Hugging Face."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from realsr.training.trackers.tracker import import_package, read_id, write_id


class Trackio:
    """Sends to Trackio. project: where the run is listed; space: a Space's name, None for this machine."""

    def __init__(
        self, project: str, space: str | None, folder: Path, run_name: str, config: dict[str, Any]
    ):
        self._trackio = import_package("trackio")
        name = read_id(folder) or run_name
        self._run = self._trackio.init(
            project=project, name=name, space_id=space, config=config, resume="allow", embed=False
        )
        write_id(folder, name)

    def log_values(self, step: int, values: Mapping[str, float]) -> None:
        """Send scalars by name."""
        self._trackio.log(dict(values), step=step)

    def log_image(self, step: int, name: str, image_uint8: np.ndarray) -> None:
        """Send an image (h, w, 3) uint8."""
        self._trackio.log({name: self._trackio.Image(image_uint8)}, step=step)

    def close(self) -> None:
        """Send what is buffered."""
        self._trackio.finish()
