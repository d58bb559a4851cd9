"""How a stage's function takes its arguments: as a loaded configuration, or as the command's keys."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from realsr.config.composition import load_config

R = TypeVar("R")


def takes_keys(command: str) -> Callable[[Callable[[Any], R]], Callable[..., R]]:
    """Let a function of a command's configuration take the command's keys by name instead.

    Keys inside others are mappings: `data={"source": "photos"}`. What is not set has conf/'s value.
    """

    def decorate(function: Callable[[Any], R]) -> Callable[..., R]:
        @wraps(function)
        def call(config: Any = None, /, **values: Any) -> R:
            if config is not None and values:
                raise TypeError(f"{command}: expected a configuration or keys, not both: add keys to load_config")
            return function(load_config(command, **values) if config is None else config)

        return call

    return decorate
