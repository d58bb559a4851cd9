"""What every online degradation promises: each file of conf/online_degradation, and an HR degradation of a user."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from config_files import yaml_values
from realsr.config.options import list_options
from realsr.core.errors import UserError
from realsr.core.seeding import numpy_generator
from realsr.data.cache import DecodedImages, PairImages, decode_pairs
from realsr.data.dataset import CropDataset
from realsr.data.degradations.degradation import (
    OnlineDegradation,
    build_degradation,
    to_batch,
    try_degradation,
)
from realsr.data.loading import load_batches
from realsr.data.pairs import list_pairs
from realsr.data.pool_files import (
    JPEG_TABLES,
    NOISE_MODEL,
    CameraNoise,
    JpegTables,
    write_jpeg_tables,
    write_noise_model,
)
from realsr.data.validation_images import load_validation
from realsr.imaging import read_uint8
from realsr.imaging.kernel_shapes import save_kernel
from stages import load_validation_folder
from toy_degradation import Drift

MakePairs = Callable[..., Path]
SIZES = {"a": (40, 51), "b": (21, 30), "c": (16, 18)}
DRIFT = {"name": "toy_degradation.Drift", "margin": 5, "gain": 0.1}
ALL = [
    yaml_values(f"online_degradation/{option}") for option in list_options("online_degradation")
] + [
    {"name": "noise", "match": "brightness"},
    {"name": "noise_jpeg", "quality": [30, 95], "match": "brightness", "jpeg": "source"},
    DRIFT,
]

every_degradation = pytest.mark.parametrize(
    "values",
    ALL,
    ids=lambda values: "-".join(
        str(value) for value in values.values() if value not in ("random", "quality")
    ),
)
each_scale = pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])


@pytest.fixture
def patches(tmp_path: Path, make_pairs: MakePairs) -> DecodedImages:
    return DecodedImages([make_pairs({"n": (30, 33)}, folder="noise") / "LR" / "n.png"])


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """The pool's noise model, JPEG tables and kernels."""
    flat = np.full((3, 2), 4 / 255, np.float32)
    kernels = np.eye(3, dtype=np.float32)[..., None, None]
    write_noise_model(tmp_path / NOISE_MODEL, CameraNoise(flat, kernels, np.ones(1, np.float32)))
    table = tuple(range(1, 65))
    write_jpeg_tables(tmp_path / JPEG_TABLES, [JpegTables(table, table, "4:2:2")])
    for number, side in enumerate((9, 12)):
        blur = np.random.default_rng(number).random((side, side))
        save_kernel(tmp_path / f"{number}_kernel_x4.mat", blur)
    return [tmp_path / NOISE_MODEL, tmp_path / JPEG_TABLES, *sorted(tmp_path.glob("*.mat"))]


def open_pairs(make_pairs: MakePairs, scale: int) -> PairImages:
    return decode_pairs(list_pairs(make_pairs(SIZES, scale), scale))


@each_scale
@every_degradation
def test_lr_has_its_shape_and_range_whatever_the_number_of_workers(
    values: dict[str, Any],
    scale: int,
    make_pairs: MakePairs,
    patches: DecodedImages,
    files: list[Path],
) -> None:
    degradation = build_degradation(values, scale, files, patches)
    dataset = CropDataset(open_pairs(make_pairs, scale), 3, 16 * scale, scale, degradation, seed=1)
    here, there = (list(load_batches(dataset, 0, 4, workers)) for workers in (0, 1))
    for batch, again in zip(here, there, strict=True):
        assert batch.keys() == again.keys()
        assert all(torch.equal(batch[key], again[key]) for key in batch)
        assert (
            sum(value.nbytes for value in batch.values())
            == len(batch.memory)
            == dataset.batch_bytes
        )
        before = {key: value.clone() for key, value in batch.items()}
        lr = degradation.apply(batch)
        assert lr.shape == (3, 3, 16, 16)
        assert lr.dtype == torch.float32
        assert lr.min() >= 0
        assert lr.max() <= 1
        assert torch.equal(lr, degradation.apply(batch)), "nothing is random on the device"
        assert all(torch.equal(batch[key], before[key]) for key in batch)


@each_scale
@every_degradation
def test_all_chance_comes_from_the_generator(
    values: dict[str, Any], scale: int, patches: DecodedImages, files: list[Path]
) -> None:
    degradation = build_degradation(values, scale, files, patches)
    side = (16 * scale if degradation.reads == "hr" else 16) + 2 * degradation.margin
    crop = np.random.default_rng(0).integers(60, 200, (side, side, 3), dtype=np.uint8)
    crop.flags.writeable = False

    def degrade(seed: int) -> torch.Tensor:
        arrays = degradation.prepare(crop, degradation.margin, scale, np.random.default_rng(seed))
        return degradation.apply(to_batch(arrays, np.zeros((16 * scale, 16 * scale, 3), np.uint8)))

    np.random.seed(0)  # noqa: NPY002 (a generator of everyone's is not used)
    first = degrade(3)
    np.random.seed(1)  # noqa: NPY002
    assert torch.equal(first, degrade(3))
    assert torch.equal(first, degrade(4)) == (values["name"] == "identity")


@each_scale
@every_degradation
def test_validation_images_are_degraded_by_their_names(
    values: dict[str, Any],
    scale: int,
    make_pairs: MakePairs,
    patches: DecodedImages,
    files: list[Path],
) -> None:
    folder = make_pairs(SIZES, scale)
    pairs, degradation = list_pairs(folder, scale), build_degradation(values, scale, files, patches)
    images = load_validation(pairs, scale, degradation, 0, 20 * scale, 9)
    (alone,) = load_validation(pairs[1:2], scale, degradation, 0, 20 * scale, 9)
    assert torch.equal(images[1].lr, alone.lr)
    made = load_validation_folder(folder / "HR", scale, degradation, 0, 20 * scale, 9)
    for image in images + made:
        assert image.lr.shape[1:] == tuple(side // scale for side in image.hr.shape[1:])
        assert image.lr.is_contiguous()
        assert 0 <= image.lr.min() <= image.lr.max() <= 1
    if degradation.reads == "hr":
        assert all(torch.equal(a.lr, b.lr) for a, b in zip(images, made, strict=True)), (
            "whatever the LR on disk is"
        )


@each_scale
def test_a_degradation_of_hr_reads_real_pixels_around_the_crop_where_there_are_any(
    scale: int, make_pairs: MakePairs
) -> None:
    pairs, margin, size = list_pairs(make_pairs(SIZES, scale), scale), 5, 16
    degradation = Drift(margin, 0.0, scale)
    dataset = CropDataset(decode_pairs(pairs), 1, size * scale, scale, degradation, seed=2)
    room = {1: 5, 2: 3, 3: 2, 4: 2, 8: 1}[scale]
    for number in range(24):
        hr = read_uint8(
            pairs[numpy_generator(2, "epoch", number // 3).permutation(3)[number % 3]].hr
        )
        rng = numpy_generator(2, "sample", number)
        # A side of 16 or 18 LR pixels has no room for the margin, so that HR is mirrored.
        fits = [room if side // scale >= size + 2 * room else 0 for side in hr.shape[:2]]
        places = zip(hr.shape[:2], fits, strict=True)
        top, left = (own + rng.integers(side // scale - size - 2 * own + 1) for side, own in places)
        turn = rng.integers(8)
        wide = np.pad(hr, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric")
        side = size * scale + 2 * margin
        crop = wide[top * scale : top * scale + side, left * scale : left * scale + side]
        crop = crop.transpose(1, 0, 2) if turn & 4 else crop
        crop = crop[:: -1 if turn & 3 in (1, 2) else 1, :: -1 if turn & 3 in (1, 3) else 1]
        batch = dataset[number]
        assert np.array_equal(batch["around"][0], crop)
        assert np.array_equal(batch["hr"][0], crop[margin:-margin, margin:-margin])
        for axis, own, place in zip((0, 1), fits, (top, left), strict=True):
            inside = own == 0 or own <= place <= hr.shape[axis] // scale - size - own
            assert inside, "no pixel is mirrored where the image is large enough"
        shift, gain = batch["shift"][0].tolist(), float(batch["gain"][0])
        lr = crop[shift[0] :: scale, shift[1] :: scale][:size, :size]
        assert gain == 1
        assert torch.allclose(
            degradation.apply(batch)[0] * 255, torch.tensor(lr.copy()).permute(2, 0, 1).float()
        )


class Wrong:
    """A user's mistakes."""

    reads, margin = "hr", 2

    def __init__(self, mistake: str):
        self._mistake = mistake
        if mistake == "attributes":
            self.reads = "HR"
        self._calls = 0

    def prepare(self, crop, margin, scale, rng):
        self._calls += 1
        if self._mistake == "code":
            return {"x": crop[0, 0, 7]}
        if self._mistake == "type":
            return {"x": crop.astype(np.float64)}
        if self._mistake == "missing" and self._calls == 3:
            return {}
        return {"x": crop[self._calls :] if self._mistake == "unequal" else crop}

    def apply(self, batch):
        shape = (
            (1, 3, 9, 9)
            if self._mistake == "shape"
            else (1, 3, *(side // 2 for side in batch["hr"].shape[1:3]))
        )
        return torch.zeros(shape)


class Misspelt(OnlineDegradation):
    """Degrades nothing, since its method has another name."""

    def Prepare(self, crop, margin, scale, rng):
        return {"lr": crop}


class Half(OnlineDegradation):
    """Draws a gain that nothing applies."""

    def prepare(self, crop, margin, scale, rng):
        return {"lr": crop, "gain": np.ones(1, np.float32)}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "Misspelt",
            r"name=test_degradation_contract\.Misspelt: defines neither prepare nor apply",
        ),
        ("Half", r"Half does not define apply, but prepare returned lr, gain: expected lr alone"),
    ],
)
def test_a_subclass_that_would_degrade_nothing_is_refused(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    with pytest.raises(UserError, match=message):
        try_degradation(build_degradation({"name": f"test_degradation_contract.{name}"}, 2), 32, 2)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (
            "attributes",
            r"name=test_degradation_contract\.Wrong: has reads='HR' and margin=2: expected",
        ),
        (
            "code",
            r"Wrong fails on a crop of 32x32: IndexError.*test_degradation_contract\.py, line \d+",
        ),
        ("type", r"Wrong\.prepare returned x of float64: expected uint8 or float32"),
        (
            "shape",
            r"Wrong\.apply returned \(1, 3, 9, 9\) torch\.float32: expected \(1, 3, 16, 16\)",
        ),
        ("missing", r"Wrong\.prepare returned no x, unlike before"),
        ("unequal", r"Wrong\.prepare returned \(33, 36, 3\) uint8 for x, unlike before"),
    ],
)
def test_the_user_s_mistakes_are_told(
    mistake: str,
    message: str,
    make_pairs: MakePairs,
    monkeypatch: pytest.MonkeyPatch,
    patches: DecodedImages,
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    values = {"name": "test_degradation_contract.Wrong", "mistake": mistake}

    def build() -> OnlineDegradation:
        degradation = build_degradation(values, 2, patches=patches)
        try_degradation(degradation, 32, 2)
        return degradation

    if mistake not in ("unequal", "missing"):
        with pytest.raises(UserError, match=message):
            build()
        return
    dataset = CropDataset(open_pairs(make_pairs, 2), 1, 32, 2, build(), seed=0)
    with pytest.raises(UserError, match=message):
        dataset[0]
