import itertools

import pytest
import torch
from torch import Tensor, nn

from realsr.core.errors import UserError
from realsr.inference import tiling
from realsr.inference.model import SRModel
from realsr.inference.tiling import (
    Tiles,
    choose_tiles,
    is_out_of_memory,
    measure_bytes,
    place_tiles,
    smallest_size,
)
from realsr.networks.rrdb import RRDB

CPU = torch.device("cpu")
SIDES = [1, 3, 63, 64, 65, 97, 128, 200, 257, 1000, 20000]
CUTS = [(64, 0), (64, 8), (64, 28), (97, 16), (8, 0)]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("length", SIDES)
def test_tiles_cover_a_side_share_enough_and_are_all_of_one_size(
    length: int, cut: tuple[int, int]
) -> None:
    tiles = Tiles(*cut)
    starts, size = place_tiles(length, tiles)
    assert size <= tiles.size
    assert (starts[0], starts[-1] + size) == (0, length)
    shared = [first + size - second for first, second in itertools.pairwise(starts)]
    assert all(tiles.overlap <= pixels <= tiles.overlap + 2 for pixels in shared)
    # No fewer tiles would do, and no tile blends with both neighbours at one place: see blend_weights.
    assert (
        len(starts) == 1
        or (len(starts) - 1) * tiles.size - (len(starts) - 2) * tiles.overlap < length
    )
    if len(starts) > 1:
        assert size >= 1.25 * (tiles.overlap + 2) or tiles.overlap == 0


def test_a_side_a_little_longer_than_a_tile_costs_little_more() -> None:
    starts, size = place_tiles(260, Tiles(256, 32))
    assert starts == [0, 114]
    assert size == 146


def test_tiles_too_small_to_blend_are_refused() -> None:
    Tiles(smallest_size(32), 32)
    with pytest.raises(
        UserError, match=r"tile must be at least 2\*overlap \+ 8: set tile=72 or a smaller overlap"
    ):
        Tiles(smallest_size(32) - 1, 32)


def test_bytes_of_known_tensors_are_measured() -> None:
    def run(lr: Tensor) -> Tensor:
        wide = lr.new_zeros(1, 100, *lr.shape[2:])  # 400 bytes a pixel
        wide = wide.relu()  # 800 while both live
        wide.add_(1)
        return wide[:, :3] + 1  # 412

    assert measure_bytes(SRModel(1, CPU, run)) == pytest.approx(800)


def test_bytes_follow_the_network_s_width_and_not_its_depth(one_thread: None) -> None:
    def measured(features: int, blocks: int) -> float:
        return measure_bytes(SRModel(4, CPU, RRDB(4, features, blocks, 4).eval()))

    narrow, wide, deep = measured(8, 1), measured(32, 1), measured(8, 4)
    # two or three images of all features at the result's size: what the last stage reads, writes, and its enlarging
    assert 2 * 16 * 4 * 8 <= narrow <= 3.5 * 16 * 4 * 8
    assert wide == pytest.approx(4 * narrow, rel=0.1)
    assert deep == pytest.approx(narrow, rel=0.01)


def test_tiles_grow_with_free_memory_up_to_what_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    def size(free: int | None, bytes_per_pixel: float = 9472, width: int = 8000) -> int:
        monkeypatch.setattr(tiling, "free_memory", lambda device: free)
        model = SRModel(4, CPU, nn.Identity(), bytes_per_pixel)
        tiles = choose_tiles(model, None, 32)(6000, width)
        if free is not None and tiles.size > 72:
            needed = tiles.size**2 * bytes_per_pixel * tiling.SCRATCH + tiles.size * width * 20 * 16
            assert needed <= tiling.SHARE * free
        return tiles.size

    sizes = [size(free << 20) for free in (0, 500, 1000, 2000, 4000, 8000, 200_000)]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (72, 512)
    assert 128 < size(2000 << 20) < 400
    assert size(None) == size(4 << 30)
    assert size(2000 << 20, width=80_000) < size(2000 << 20)
    assert size(2000 << 20, bytes_per_pixel=100) > size(2000 << 20)


def test_a_model_is_measured_once_and_only_for_a_photo_of_several_tiles() -> None:
    runs = list[torch.Size]()

    def run(lr: Tensor) -> Tensor:
        runs.append(lr.shape)
        return lr + 1

    fit = choose_tiles(SRModel(1, CPU, run), None, 32)
    assert fit(72, 72).size >= 72
    assert runs == []
    fit(72, 73)
    fit(500, 20)
    assert len(runs) == 1


def test_errors_of_memory_are_told_from_others() -> None:
    assert is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    assert is_out_of_memory(
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
    )
    assert not is_out_of_memory(RuntimeError("Kernel size can't be greater than actual input size"))
    assert not is_out_of_memory(OSError("Cannot allocate memory"))


def test_an_allocation_that_cannot_be_is_known_as_such() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert is_out_of_memory(caught.value) or "overflow" in str(caught.value)
