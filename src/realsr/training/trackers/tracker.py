"""The protocol of trackers, which show a training in a service for experiments, beside TensorBoard."""

import importlib
import logging
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

import numpy as np

from realsr.core.components import Values, bind, build_component, find_component, locate_error
from realsr.core.errors import UserError
from realsr.core.files import write_bytes

ROOM = "realsr.training.trackers"
KEY = "tracker"

logger = logging.getLogger("realsr")


class Tracker(Protocol):
    """Sends values and images of a training to a service; a component of the group `tracker`.

    The constructor takes the values of its YAML file, and `folder` (for its own files, kept when a run is resumed),
    `run_name` and `config` (the configuration, for display) if it has them.
    """

    def log_values(self, step: int, values: Mapping[str, float]) -> None:
        """Send scalars by name."""

    def log_image(self, step: int, name: str, image_uint8: np.ndarray) -> None:
        """Send an image (h, w, 3) uint8."""

    def close(self) -> None:
        """Send what is buffered."""


class SafeTracker:
    """A tracker whose first failure is a warning, after which it sends nothing.

    tracker: None sends nothing.
    """

    def __init__(self, tracker: Tracker | None):
        self._tracker = tracker

    def log_values(self, step: int, values: Mapping[str, float]) -> None:
        """Send scalars by name."""
        self._call("log_values", step, values)

    def log_image(self, step: int, name: str, image_uint8: np.ndarray) -> None:
        """Send an image (h, w, 3) uint8."""
        self._call("log_image", step, name, image_uint8)

    def close(self) -> None:
        """Send what is buffered."""
        self._call("close")

    def _call(self, method: str, *arguments: object) -> None:
        if self._tracker is None:
            return
        try:
            getattr(self._tracker, method)(*arguments)
        except Exception as error:
            name, self._tracker = type(self._tracker).__name__, None
            logger.warning(
                "tracker: %s failed, training continues without it: %s", name, locate_error(error)
            )


NO_TRACKER = SafeTracker(None)


def check_tracker(values: Values) -> None:
    """Raise UserError for an unknown tracker, wrong values or a missing package."""
    if values:
        factory = find_component(ROOM, KEY, values)
        bind(factory, KEY, values, {"folder": Path(), "run_name": "", "config": {}})
        if "." not in values["name"]:
            import_package(values["name"])


def open_tracker(values: Values, run: Path, config: Mapping[str, Any]) -> SafeTracker:
    """Start the tracker of a run; empty values are no tracker.

    Raises UserError where its package is missing or it cannot start, e.g. without a login.
    """
    if not values:
        return NO_TRACKER
    folder = run / "tracker"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        tracker = build_component(
            ROOM, KEY, values, folder=folder, run_name=run.resolve().name, config=dict(config)
        )
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{KEY}={values['name']}: cannot start ({type(error).__name__}: {error}): correct its settings, or set "
            f"{KEY}=none"
        ) from error
    return SafeTracker(cast(Tracker, tracker))


def import_package(name: str) -> ModuleType:
    """Import a tracker's package. Raises UserError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"{KEY}={name}: its package is not installed ({error}): pip install 'realsr[{name}]'"
        ) from error


def read_id(folder: Path) -> str | None:
    """Return the service's identifier of the run, None if it is new."""
    file = folder / "id.txt"
    return file.read_text(encoding="utf-8").strip() or None if file.is_file() else None


def write_id(folder: Path, identifier: str) -> None:
    """Store the service's identifier of the run, by which a resumed training continues there."""
    write_bytes(folder / "id.txt", f"{identifier}\n".encode())
