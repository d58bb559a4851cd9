import pytest
import torch

from realsr.inference.tiling import Tiles, blend_weights, place_tiles


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("cut", [(72, 32), (24, 8), (20, 5), (10, 1), (8, 0)])
@pytest.mark.parametrize("length", [7, 25, 72, 100, 500])
def test_weights_of_all_tiles_add_up_to_one(scale: int, cut: tuple[int, int], length: int) -> None:
    starts, size = place_tiles(length, Tiles(*cut))
    total = torch.zeros(scale * length)
    for number, start in enumerate(starts):
        before = starts[number - 1] + size - start if number else 0
        after = start + size - starts[number + 1] if number + 1 < len(starts) else 0
        weights = blend_weights(size, before, after, scale)
        assert weights.min() >= 0
        total[scale * start : scale * (start + size)] += weights
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-6)


def test_what_saw_too_little_is_cut_off_and_the_rest_rises_smoothly() -> None:
    weights = blend_weights(64, 32, 0, 4)
    assert torch.equal(weights[: 4 * 12], torch.zeros(48))
    assert torch.equal(weights[4 * 20 :], torch.ones(4 * 44))
    steps = weights[4 * 12 - 1 : 4 * 20 + 1].diff()
    assert (steps > 0).all()
    assert steps.max() < 0.05
    assert torch.equal(blend_weights(64, 0, 0, 4), torch.ones(256))
