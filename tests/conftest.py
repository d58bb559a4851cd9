"""Imported before any test: realsr sets how OpenMP waits, which must precede torch."""

import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from official_models import Published
from realsr.config.composition import load_config
from realsr.config.pipeline import TrainConfig
from realsr.core.errors import UserError
from realsr.imaging import write_uint8
from realsr.weights.sources import find_weights

SHARED = Path(__file__).parents[1].parent / "shared"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape in captured text the bytes of file names that are not UTF-8, which pytest-xdist cannot send."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@cache
def _compose(overrides: tuple[str, ...]) -> TrainConfig:
    return load_config("train", overrides)


@pytest.fixture
def composed() -> Callable[..., TrainConfig]:
    """Composes the overrides of a training's command line as the command does, each line once."""
    return lambda *overrides: deepcopy(_compose(overrides))


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


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """Gives the path of a file or folder of ../shared; skips where the checkout has none beside it."""

    def find(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"no shared/{name} beside this checkout")
        return SHARED / name

    return find


@pytest.fixture
def golden(shared) -> Callable[[str], Mapping[str, np.ndarray]]:
    """Loads arrays computed by other implementations; skips where the checkout has none beside it."""
    return lambda name: dict(np.load(shared(f"golden/{name}")))


@pytest.fixture
def make_photos(tmp_path) -> Callable[..., Path]:
    """Writes made photos, name -> (height, width), with edges and texture; a photo depends on its name alone."""

    def make(sizes: Mapping[str, tuple[int, int]], folder: str = "source") -> Path:
        (tmp_path / folder).mkdir(exist_ok=True)
        for name, (height, width) in sizes.items():
            rng = np.random.default_rng(list(name.encode()))
            blocks = (
                rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)
            )
            image = blocks[:height, :width] + rng.integers(-9, 10, (height, width, 3))
            write_uint8(tmp_path / folder / f"{name}.png", image.clip(0, 255).astype(np.uint8))
        return tmp_path / folder

    return make


@pytest.fixture(scope="module")
def feature_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights of the feature layers of AlexNet, VGG16 and VGG19, seeded and random."""
    import torch  # after realsr
    from torchvision.models import alexnet, vgg16, vgg19

    folder, files = tmp_path_factory.mktemp("features"), dict[str, Path]()
    for build in (alexnet, vgg16, vgg19):
        with torch.device("meta"):
            features = build(weights=None).features
        chance = torch.Generator().manual_seed(0)
        state = {
            f"features.{key}": torch.randn(value.shape, generator=chance)
            * (2 / max(1, value[0].numel())) ** 0.5
            for key, value in features.state_dict().items()
        }
        files[build.__name__] = folder / f"{build.__name__}.pth"
        torch.save(state, files[build.__name__])
    return files


@pytest.fixture(scope="module")
def vgg_file(feature_files: dict[str, Path]) -> Path:
    """VGG19 feature weights, seeded and random."""
    return feature_files["vgg19"]
