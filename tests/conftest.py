"""Imported before any test: realsr sets how OpenMP waits, which must precede torch."""

import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra

from official_models import Published
from realsr.config import SCHEMAS, Config, to_dataclass
from realsr.errors import UserError
from realsr.options import conf_dir
from realsr.weights.sources import find_weights


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape in captured text the bytes of file names that are not UTF-8, which pytest-xdist cannot send."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture
def composed() -> Iterator[Callable[..., Config]]:
    """Composes the overrides of a command line as the commands do."""
    store = ConfigStore.instance()
    for name, schema in SCHEMAS.items():
        store.store(name=f"{name}_schema", node=schema)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield lambda *overrides: to_dataclass(compose("config", list(overrides)), Config)
    GlobalHydra.instance().clear()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny networks gain nothing by threads, and lose much where the cores are shared."""
    import torch  # after realsr

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The test's folder as the current one, with modules of the user's own; imports of it are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def published() -> Published:
    """Skips a test of a published generator where its file is not here."""

    def find(name: str) -> str:
        try:
            find_weights(name)
        except UserError as error:
            pytest.skip(str(error).partition("\n")[0])
        return name

    return find
