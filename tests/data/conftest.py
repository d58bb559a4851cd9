from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from realsr.imaging import write_uint8

MakePairs = Callable[..., Path]


@pytest.fixture
def make_pairs(tmp_path: Path) -> MakePairs:
    """Writes pairs whose HR is LR with each pixel repeated, so that the one is known from the other."""

    def make(sizes: dict[str, tuple[int, int]], scale: int = 2, folder: str = "pairs") -> Path:
        for name, (height, width) in sizes.items():
            rng = np.random.default_rng(list(name.encode()))
            lr = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            for kind, image in (("LR", lr), ("HR", lr.repeat(scale, axis=0).repeat(scale, axis=1))):
                (tmp_path / folder / kind).mkdir(parents=True, exist_ok=True)
                write_uint8(tmp_path / folder / kind / f"{name}.png", image)
        return tmp_path / folder

    return make
