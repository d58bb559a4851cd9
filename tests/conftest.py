"""Imported before any test: realsr sets how OpenMP waits, which must precede torch."""

from collections.abc import Callable, Iterator

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra

from realsr.config import SCHEMAS, Config, conf_dir, to_dataclass


@pytest.fixture
def composed() -> Iterator[Callable[..., Config]]:
    """Composes the overrides of a command line as the commands do."""
    store = ConfigStore.instance()
    for name, schema in SCHEMAS.items():
        store.store(name=f"{name}_schema", node=schema)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield lambda *overrides: to_dataclass(compose("config", list(overrides)), Config)
    GlobalHydra.instance().clear()
