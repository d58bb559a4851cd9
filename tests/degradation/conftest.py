from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from realsr.imaging import write_uint8

SHARED = Path(__file__).parents[2].parent / "shared"


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
            blocks = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)
            image = blocks[:height, :width] + rng.integers(-9, 10, (height, width, 3))
            write_uint8(tmp_path / folder / f"{name}.png", image.clip(0, 255).astype(np.uint8))
        return tmp_path / folder

    return make
