from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden"


@pytest.fixture
def golden() -> Callable[[str], Mapping[str, np.ndarray]]:
    """Loads arrays computed by other implementations; skips where the checkout has none beside it."""

    def load(name: str) -> Mapping[str, np.ndarray]:
        if not (GOLDEN / name).exists():
            pytest.skip(f"no shared/golden/{name} beside this checkout")
        return dict(np.load(GOLDEN / name))

    return load
