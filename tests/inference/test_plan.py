import itertools

import pytest

from realsr.core.errors import UserError
from realsr.inference.plan import Tiles, count_tiles, place_tiles, smallest_size

SIDES = [1, 3, 63, 64, 65, 97, 128, 200, 257, 1000, 20000]
CUTS = [(64, 0), (64, 8), (64, 28), (97, 16), (8, 0)]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("length", SIDES)
def test_tiles_cover_a_side_share_enough_and_are_all_of_one_size(length: int, cut: tuple[int, int]) -> None:
    tiles = Tiles(*cut)
    starts, size = place_tiles(length, tiles)
    assert size <= tiles.size
    assert (starts[0], starts[-1] + size) == (0, length)
    shared = [first + size - second for first, second in itertools.pairwise(starts)]
    assert all(tiles.overlap <= one <= tiles.overlap + 2 for one in shared)
    # No fewer tiles would do, and no tile blends with both neighbours at one place: see blend_weights.
    assert len(starts) == 1 or (len(starts) - 1) * tiles.size - (len(starts) - 2) * tiles.overlap < length
    if len(starts) > 1:
        assert size >= 1.25 * (tiles.overlap + 2) or tiles.overlap == 0


def test_a_side_a_little_longer_than_a_tile_costs_little_more() -> None:
    starts, size = place_tiles(260, Tiles(256, 32))
    assert starts == [0, 114]
    assert size == 146
    assert count_tiles(260, 256, Tiles(256, 32)) == 2


def test_tiles_too_small_to_blend_are_refused() -> None:
    Tiles(smallest_size(32), 32)
    with pytest.raises(UserError, match="say tile=72, or a smaller overlap"):
        Tiles(smallest_size(32) - 1, 32)
    with pytest.raises(UserError, match="must not be negative"):
        Tiles(64, -1)
