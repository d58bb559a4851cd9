import pytest
import torch
from torch import Tensor

from exported_networks import photo_part


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """All tests here."""


@pytest.fixture(scope="session")
def lrs() -> list[Tensor]:
    """Parts of photos, (1, 3, 40, 48)."""
    return [photo_part("astronaut", 60, 180, 40, 48), photo_part("coffee", 150, 250, 40, 48)]


@pytest.fixture
def random_lr() -> Tensor:
    """(2, 3, 21, 17), 0..1."""
    return torch.rand(2, 3, 21, 17, generator=torch.Generator().manual_seed(3))
