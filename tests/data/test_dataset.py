from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from realsr.data.dataset import CropDataset, load_batches
from realsr.data.look import Look
from realsr.data.pairs import list_pairs
from realsr.imaging import read_uint8, to_float

MakePairs = Callable[..., Path]
SIZES = {"a": (12, 17), "b": (9, 8), "c": (8, 8)}


def repeat(lr: Tensor, scale: int) -> Tensor:
    return lr.repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2)


@pytest.mark.parametrize("scale", [2, 4])
def test_hr_and_lr_show_the_same_place_in_all_positions(scale: int, make_pairs: MakePairs) -> None:
    pairs = list_pairs(make_pairs(SIZES, scale), scale)
    dataset = CropDataset(pairs, 8 * scale, scale, Look(), seed=3)
    # The 8x8 pair has one place only: what differs between its samples are flips and rotations.
    whole = to_float(read_uint8(pairs[2].lr))
    turned = [torch.rot90(image, turns, (1, 2)) for image in (whole, whole.flip(2)) for turns in range(4)]
    positions = set()
    for number in range(180):
        sample = dataset[number]
        assert sample["lr"].shape == (3, 8, 8)
        assert sample["lr"].dtype == sample["hr"].dtype == torch.float32
        assert torch.equal(sample["hr"], repeat(sample["lr"], scale))
        positions |= {i for i, image in enumerate(turned) if torch.equal(image, sample["lr"])}
    assert positions == set(range(8)), "all four rotations, each with and without a flip"


def test_crops_reach_every_place(make_pairs: MakePairs) -> None:
    pairs = list_pairs(make_pairs({"a": (10, 9)}), 2)
    dataset = CropDataset(pairs, 16, 2, Look(), seed=0)
    image = read_uint8(pairs[0].lr).astype(int)
    corners = {
        tuple(sorted(map(tuple, (image[[t, t, t + 7, t + 7], [s, s + 7, s, s + 7]])))): (t, s)
        for t in range(3)
        for s in range(2)
    }
    found = set()
    for number in range(150):
        lr = (dataset[number]["lr"] * 255).round().int().permute(1, 2, 0).numpy()
        found.add(corners[tuple(sorted(map(tuple, lr[[0, 0, 7, 7], [0, 7, 0, 7]].tolist())))])
    assert found == set(corners.values())


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_depend_neither_on_workers_nor_on_the_start(
    workers: int, make_pairs: MakePairs, tmp_path: Path
) -> None:
    folder = make_pairs(SIZES)
    look = Look([folder / "LR" / "a.png"], [30, 95])  # with all chance there is
    pairs = list_pairs(folder, 2)

    def read(start: int, workers: int) -> list[dict[str, Tensor]]:
        return list(load_batches(CropDataset(pairs, 16, 2, look, seed=1), start, 5, 3, workers))

    whole, resumed = read(0, 0), read(3, workers)
    assert len(whole) == 5
    assert len(resumed) == 2
    for batch, again in zip(whole[3:], resumed, strict=True):
        assert batch["lr"].shape == (3, 3, 8, 8)
        assert torch.equal(batch["lr"], again["lr"])
        assert torch.equal(batch["hr"], again["hr"])


def test_the_seed_and_the_number_change_the_sample(make_pairs: MakePairs) -> None:
    pairs = list_pairs(make_pairs({"a": (30, 30)}), 2)
    first, other = (CropDataset(pairs, 16, 2, Look(), seed=seed) for seed in (0, 1))
    assert not torch.equal(first[0]["hr"], other[0]["hr"])
    assert not torch.equal(first[0]["hr"], first[1]["hr"])


def test_each_epoch_shows_every_pair_once_in_another_order(make_pairs: MakePairs) -> None:
    folder = make_pairs({f"p{i}": (8, 8) for i in range(7)})
    pairs = list_pairs(folder, 2)
    means = {tuple(read_uint8(pair.lr).mean(axis=(0, 1)).round(2)): pair.name for pair in pairs}
    dataset = CropDataset(pairs, 16, 2, Look(), seed=0)
    orders = []
    for epoch in range(3):
        samples = [dataset[7 * epoch + i]["lr"].numpy() * 255 for i in range(7)]
        orders.append([means[tuple(x.mean(axis=(1, 2), dtype=np.float64).round(2))] for x in samples])
        assert Counter(orders[-1]) == Counter(pair.name for pair in pairs)
    assert orders[0] != orders[1] != orders[2]


def test_the_cache_changes_no_value_and_keeps_its_budget(
    make_pairs: MakePairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = list_pairs(make_pairs(SIZES), 2)
    read = []
    monkeypatch.setattr("realsr.data.dataset.read_uint8", lambda path: read.append(path) or read_uint8(path))
    samples = {}
    one_pair = 8 * 8 * 3 * 5  # bytes of the smallest
    for budget, files in ((0, 24), (one_pair, 18), (2**30, 6)):
        read.clear()
        dataset = CropDataset(pairs, 16, 2, Look(), seed=0, cache_bytes=budget)
        samples[budget] = [dataset[number] for number in range(12)]
        assert len(read) == files
    for a, b, c in zip(*samples.values(), strict=True):
        assert torch.equal(a["hr"], b["hr"])
        assert torch.equal(a["hr"], c["hr"])
        assert torch.equal(a["lr"], b["lr"])
        assert torch.equal(a["lr"], c["lr"])


def test_a_crop_that_is_no_multiple_of_the_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="crop 30 is not a multiple of the scale 4"):
        CropDataset([], 30, 4, Look(), seed=0)
