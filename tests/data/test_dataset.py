from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from config_files import yaml_values
from realsr.core.seeding import numpy_generator
from realsr.data.cache import DecodedImages, cache_images, cache_pairs, decode_pairs
from realsr.data.dataset import CropDataset
from realsr.data.degradations.degradation import build_degradation
from realsr.data.degradations.identity import Identity
from realsr.data.degradations.noise import Noise
from realsr.data.degradations.noise_jpeg import NoiseJPEG, centre, compress
from realsr.data.pairs import Pair, list_pairs
from realsr.imaging import read_uint8, write_uint8

COMPRESS = "realsr.data.degradations.noise_jpeg.compress"

MakePairs = Callable[..., Path]
SIZES = {"a": (12, 17), "b": (9, 8), "c": (8, 8)}
Sample = dict[str, np.ndarray]


def samples_of(dataset: CropDataset, steps: int) -> list[Sample]:
    """The samples of the first steps, one after another."""
    samples = []
    for step in range(steps):
        batch = {key: value.numpy() for key, value in dataset[step].items()}
        samples += [
            {key: value[i] for key, value in batch.items()} for i in range(len(batch["lr"]))
        ]
    return samples


def turned(image: np.ndarray) -> list[np.ndarray]:
    """The 8 flips and rotations in the dataset's order: transposed or not, then flipped."""
    pictures = []
    for start in (image, image.transpose(1, 0, 2)):
        pictures += [start, start[::-1, ::-1], start[::-1], start[:, ::-1]]
    return pictures


def plain_sample(
    pairs: list[Pair], number: int, size: int, scale: int, patches: list[Path], seed: int
) -> Sample:
    """Sample n the plain way: read, cut, turned, with NumPy only."""
    epoch, position = divmod(number, len(pairs))
    pair = pairs[numpy_generator(seed, "epoch", epoch).permutation(len(pairs))[position]]
    rng = numpy_generator(seed, "sample", number)
    lr, hr = read_uint8(pair.lr), read_uint8(pair.hr)
    top, left, turn = (
        rng.integers(lr.shape[0] - size + 1),
        rng.integers(lr.shape[1] - size + 1),
        rng.integers(8),
    )
    sample = {
        "lr": turned(lr[top : top + size, left : left + size])[turn],
        "hr": turned(hr[top * scale : (top + size) * scale, left * scale : (left + size) * scale])[
            turn
        ],
    }
    if patches:
        patch = read_uint8(patches[rng.integers(len(patches))])
        top, left = (rng.integers(side - size + 1) for side in patch.shape[:2])
        sample["noise"] = patch[top : top + size, left : left + size]
    return sample


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_batches_are_those_of_a_plain_form(
    scale: int, cached: bool, noise: bool, make_pairs: MakePairs, tmp_path: Path
) -> None:
    folder = make_pairs(SIZES, scale)
    pairs = list_pairs(folder, scale)
    patches = [folder / "LR" / "a.png", folder / "LR" / "c.png"] if noise else []
    images = cache_pairs(tmp_path, pairs) if cached else decode_pairs(pairs)
    injection = Noise(
        "random",
        cache_images(tmp_path / "noise.u8", patches) if cached else DecodedImages(patches),
    )
    samples = samples_of(CropDataset(images, 5, 8 * scale, scale, injection, seed=3), steps=12)
    assert len(samples) == 60
    for number, sample in enumerate(samples):
        expected = plain_sample(pairs, number, 8, scale, patches, seed=3)
        assert sample.keys() == expected.keys()
        for key, value in expected.items():
            assert sample[key].dtype == np.uint8
            assert np.array_equal(sample[key], value), (number, key)


@pytest.mark.parametrize("name", ["noise", "noise_jpeg"])
def test_parts_are_the_whole_and_the_batch_changes_no_sample(
    name: str, make_pairs: MakePairs
) -> None:
    folder = make_pairs(SIZES)
    images, patches = decode_pairs(list_pairs(folder, 2)), DecodedImages([folder / "LR" / "a.png"])
    degradation = build_degradation(yaml_values(f"online_degradation/{name}"), 2, patches=patches)
    whole = CropDataset(images, 6, 16, 2, degradation, seed=1)
    parts = [
        CropDataset(images, 6, 16, 2, degradation, seed=1, part=part, parts=3) for part in range(3)
    ]
    for step in (4, 0, 1):
        batches = [part[step] for part in parts]
        assert whole[step].keys() == batches[0].keys()
        for key, value in whole[step].items():
            assert torch.equal(value, torch.cat([batch[key] for batch in batches]))
    other = samples_of(CropDataset(images, 4, 16, 2, degradation, seed=1), 3)
    for sample, again in zip(samples_of(whole, 2), other, strict=True):
        assert all(np.array_equal(sample[key], again[key]) for key in sample)


def test_positions_and_turns_are_drawn_evenly(make_pairs: MakePairs) -> None:
    pairs = list_pairs(make_pairs({"a": (10, 9)}), 2)
    image = read_uint8(pairs[0].lr)
    names = {
        picture.tobytes(): (top, left, turn)
        for top in range(3)
        for left in range(2)
        for turn, picture in enumerate(turned(image[top : top + 8, left : left + 8]))
    }
    assert len(names) == 48
    samples = samples_of(CropDataset(decode_pairs(pairs), 100, 16, 2, Identity(), seed=0), 48)
    counts = Counter(names[sample["lr"].tobytes()] for sample in samples)
    assert len(counts) == 48
    # chi square of 4800 samples in 48 equal classes: mean 47, its 0.999 quantile about 83
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 83
    assert all(
        np.array_equal(s["hr"], s["lr"].repeat(2, axis=0).repeat(2, axis=1)) for s in samples[:50]
    )


def test_each_epoch_shows_every_pair_once_in_another_order(make_pairs: MakePairs) -> None:
    pairs = list_pairs(make_pairs({f"p{i}": (8, 8) for i in range(7)}), 2)
    means = {read_uint8(pair.lr).sum(): pair.name for pair in pairs}
    samples = samples_of(CropDataset(decode_pairs(pairs), 3, 16, 2, Identity(), seed=0), 7)
    names = [means[sample["lr"].sum()] for sample in samples]
    orders = [names[:7], names[7:14], names[14:]]
    assert all(sorted(order) == [pair.name for pair in pairs] for order in orders)
    assert orders[0] != orders[1] != orders[2]


def test_the_seed_and_the_number_change_the_sample(make_pairs: MakePairs) -> None:
    images = decode_pairs(list_pairs(make_pairs({"a": (30, 30)}), 2))
    first, other = (
        samples_of(CropDataset(images, 2, 16, 2, Identity(), seed=seed), 1) for seed in (0, 1)
    )
    assert not np.array_equal(first[0]["hr"], other[0]["hr"])
    assert not np.array_equal(first[0]["hr"], first[1]["hr"])


@pytest.mark.parametrize("size", [16, 24])
def test_jpeg_is_that_of_a_region_at_a_place_of_the_grid(
    size: int, make_pairs: MakePairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_pairs({"a": (26, 30), "b": (24, 24)})
    pairs, patches = list_pairs(folder, 2), [folder / "LR" / "b.png"]
    degradation = NoiseJPEG((40, 60), "random", "quality", DecodedImages(patches), [])
    seen = []
    dataset = CropDataset(decode_pairs(pairs), 1, 2 * size, 2, degradation, seed=2)
    monkeypatch.setattr(COMPRESS, lambda image, q: seen.append((image, q)) or compress(image, q))
    samples = samples_of(dataset, 30)
    for number, sample in enumerate(samples):
        lr = read_uint8(
            pairs[numpy_generator(2, "epoch", number // 2).permutation(2)[number % 2]].lr
        )
        rng = numpy_generator(2, "sample", number)
        top, left, turn = (
            rng.integers(lr.shape[0] - size + 1),
            rng.integers(lr.shape[1] - size + 1),
            rng.integers(8),
        )
        above, before = rng.integers(16), rng.integers(16)
        side = {16: 32, 24: 48}[size]
        # far mirrored, so that the region lies inside however it is turned
        wide = np.pad(lr, ((50, 50), (50, 50), (0, 0)), mode="symmetric")
        wide = turned(wide[top : top + size + 100, left : left + size + 100])[turn]
        region = wide[50 - above : 50 - above + side, 50 - before : 50 - before + side]
        patch = read_uint8(patches[rng.integers(1)])
        patch = np.pad(patch, ((0, side - 24), (0, side - 24), (0, 0)), mode="symmetric")
        assert [rng.integers(1), rng.integers(1)] == [
            0,
            0,
        ]  # the patch is as large as the region: one place
        levels = np.rint((region.astype(np.float32) / 255 + centre(patch)).clip(0, 1) * 255).astype(
            np.uint8
        )
        quality = rng.integers(40, 61)
        assert np.array_equal(seen[number][0], levels)
        assert seen[number][1] == quality
        crop = compress(levels, int(quality))[above : above + size, before : before + size]
        assert np.array_equal(sample["lr"], crop)


def test_jpeg_blocks_lie_at_all_places_of_the_crop(tmp_path: Path) -> None:
    # A slope goes through JPEG of low quality as 8 x 8 blocks of one level each: what is steep is a block's edge.
    slope = np.broadcast_to(np.linspace(40, 200, 64).astype(np.uint8)[None, :, None], (64, 64, 3))
    for kind, image in (("LR", slope), ("HR", slope.repeat(2, axis=0).repeat(2, axis=1))):
        (tmp_path / kind).mkdir()
        write_uint8(tmp_path / kind / "slope.png", np.ascontiguousarray(image))
    images = decode_pairs(list_pairs(tmp_path, 2))
    phases = Counter()
    for sample in samples_of(
        CropDataset(
            images, 20, 64, 2, NoiseJPEG((2, 2), "random", "quality", DecodedImages([]), []), seed=0
        ),
        20,
    ):
        gray = sample["lr"].astype(int).sum(axis=2)
        for axis in (0, 1):
            edges = np.abs(np.diff(gray, axis=axis)).sum(axis=1 - axis)
            if edges.max() > 300:  # the slope's direction, not the other
                phases[int(np.argmax([edges[phase::8].mean() for phase in range(8)]))] += 1
    assert set(phases) == set(range(8))
    assert max(phases.values()) < 3 * min(phases.values())


def test_what_cannot_be_cut_or_shared_out_is_refused(make_pairs: MakePairs) -> None:
    images = decode_pairs(list_pairs(make_pairs(SIZES), 2))
    with pytest.raises(ValueError, match="crop 30 is not a multiple of the scale 4"):
        CropDataset(images, 4, 30, 4, Identity(), seed=0)
    for part, parts in ((0, 3), (2, 2), (-1, 2)):
        with pytest.raises(
            ValueError, match=f"part {part} of {parts}: expected 0 <= part < parts and a batch"
        ):
            CropDataset(images, 4, 16, 2, Identity(), seed=0, part=part, parts=parts)
