import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from realsr.core.errors import UserError
from realsr.data.cache import DecodedImages
from realsr.data.degradations.degradation import (
    OnlineDegradation,
    build_degradation,
    to_batch,
    to_images,
)
from realsr.data.degradations.noise import Noise, centre, draw_patch
from realsr.data.degradations.noise_jpeg import NoiseJPEG, compress
from realsr.imaging import write_uint8

COMPRESS = "realsr.data.degradations.noise_jpeg.compress"
NO_PATCHES = DecodedImages([])


def degrade(degradation: OnlineDegradation, lr_uint8: np.ndarray, seed: int) -> np.ndarray:
    """A whole LR image (h, w, 3) as float, degraded."""
    arrays = degradation.prepare(lr_uint8, 0, 2, np.random.default_rng(seed))
    return (
        degradation.apply(to_batch(arrays, np.zeros((2, 2, 3), np.uint8)))[0]
        .permute(1, 2, 0)
        .numpy()
    )


def make_jpeg(quality: tuple[int, int], patches: DecodedImages) -> NoiseJPEG:
    return NoiseJPEG(quality, "random", "quality", patches, [])


def patch_of(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(90, 130, (height, width, 3), dtype=np.uint8)


def test_noise_is_a_crop_of_the_patch_less_its_mean_per_channel() -> None:
    patch = patch_of(0, 20, 24)
    seen = set()
    for seed in range(100):
        noise = centre(draw_patch([patch], (18, 23), np.random.default_rng(seed)))
        assert np.abs(noise.mean(axis=(0, 1), dtype=np.float64)).max() < 1e-5
        matches = []
        for top in range(3):
            for left in range(2):
                crop = patch[top : top + 18, left : left + 23].astype(np.float64) / 255
                if np.allclose(noise, crop - crop.mean(axis=(0, 1)), atol=1e-5):
                    matches.append((top, left))
        assert len(matches) == 1
        seen |= set(matches)
    assert len(seen) == 6, "every place of the patch is drawn"


def test_a_small_patch_is_mirrored() -> None:
    patch = patch_of(1, 5, 6)
    noise = centre(draw_patch([patch], (8, 12), np.random.default_rng(0)))
    rows, columns = [0, 1, 2, 3, 4, 4, 3, 2], [0, 1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 0]
    expected = patch[rows][:, columns].astype(np.float64) / 255
    np.testing.assert_allclose(noise, expected - expected.mean(axis=(0, 1)), atol=1e-5)


def test_noise_is_added_from_all_patches_of_the_pool_and_clamped(tmp_path: Path) -> None:
    paths = []
    for index in range(2):  # patches that are told apart by their size of variation
        patch = np.full((8, 8, 3), 100, np.uint8)
        patch[::2] += 10 * (index + 1)
        write_uint8(tmp_path / f"{index}.png", patch)
        paths.append(tmp_path / f"{index}.png")
    noise, lr = Noise("random", DecodedImages(paths)), np.full((8, 8, 3), 128, np.uint8)
    seen = set()
    for seed in range(20):
        seen.add(round(float(np.ptp(degrade(noise, lr, seed))) * 255))
    assert seen == {10, 20}
    assert (lr == 128).all(), "the image given is left as it is"
    white = degrade(noise, np.full((8, 8, 3), 255, np.uint8), seed=0)
    assert white.max() == 1
    assert white.min() < 1
    assert white.dtype == np.float32


def test_nothing_asked_for_is_nothing_done() -> None:
    lr = patch_of(0, 8, 9)
    options = {"noise": {"match": "random"}, "noise_model": {}, "identity": {}}
    for name, values in options.items():
        degradation = build_degradation({"name": name, **values}, 2)
        assert np.array_equal(degrade(degradation, lr, seed=0), lr.astype(np.float32) / 255)


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_jpeg_is_pillow_s_round_trip(quality: int) -> None:
    image = np.kron(
        np.random.default_rng(0).integers(0, 256, (4, 5, 3)), np.ones((8, 8, 1), int)
    ).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    # The two libraries may round colour conversion apart by a level or two.
    difference = np.abs(compress(image, quality).astype(int) - np.asarray(Image.open(buffer)))
    assert difference.max() <= 3
    assert difference.mean() < 0.5


def test_qualities_are_drawn_from_the_whole_range(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(COMPRESS, lambda image, quality: drawn.append(quality) or image)
    jpeg = make_jpeg((93, 95), NO_PATCHES)
    for seed in range(40):
        degrade(jpeg, np.zeros((8, 8, 3), np.uint8), seed)
    assert set(drawn) == {93, 94, 95}


def test_jpeg_comes_after_the_noise(tmp_path: Path) -> None:
    write_uint8(tmp_path / "n.png", patch_of(2, 16, 16))
    lr, patches = np.full((16, 16, 3), 128, np.uint8), DecodedImages([tmp_path / "n.png"])
    both = degrade(make_jpeg((20, 20), patches), lr, seed=5)
    noisy = degrade(Noise("random", patches), lr, seed=5)
    assert not np.allclose(both, noisy)
    np.testing.assert_array_equal(
        both, compress(np.rint(noisy * 255).astype(np.uint8), 20).astype(np.float32) / 255
    )


@pytest.mark.parametrize("side", [7, 32])
def test_noise_on_the_device_is_equation_5_in_float(side: int) -> None:
    rng = np.random.default_rng(0)
    lr, noise = (rng.integers(0, 256, (3, side, side, 3), dtype=np.uint8) for _ in range(2))
    hr = rng.integers(0, 256, (3, 2 * side, 2 * side, 3), dtype=np.uint8)
    batch = {
        "lr": torch.from_numpy(lr),
        "hr": torch.from_numpy(hr),
        "noise": torch.from_numpy(noise),
    }
    noise_on = Noise("random", NO_PATCHES)
    seen, clean = noise_on.apply(batch), to_images(batch["hr"])
    expected = []
    for image, patch in zip(lr / 255, noise / 255, strict=True):
        expected.append((image + patch - patch.mean(axis=(0, 1))).clip(0, 1).transpose(2, 0, 1))
    np.testing.assert_allclose(seen.numpy(), expected, atol=1e-6)
    inside = seen[(seen > 0) & (seen < 1)].double() * 255
    assert (inside - inside.round()).abs().max() > 0.1, "what lies between two levels stays there"
    assert np.array_equal((clean * 255).round().numpy().astype(np.uint8), hr.transpose(0, 3, 1, 2))
    for images in (seen, clean):
        assert images.dtype == torch.float32
        assert images.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(batch["lr"].numpy(), lr), "the batch given is left as it is"
    plain = noise_on.apply({"lr": batch["lr"], "hr": batch["hr"]})
    assert torch.equal(plain, torch.from_numpy(lr).permute(0, 3, 1, 2) / 255)


def test_noise_is_the_same_on_the_device_as_before_jpeg() -> None:
    lr, patch = patch_of(4, 24, 24), patch_of(3, 24, 24)
    on_device = degrade(Noise("random", [patch]), lr, seed=0)
    np.testing.assert_allclose(
        on_device, (lr.astype(np.float32) / 255 + centre(patch)).clip(0, 1), atol=1e-6
    )


@pytest.mark.parametrize(
    ("quality", "expected"),
    [
        ([95, 30], r"expected \[lowest,highest\] between 1 and 100"),
        ([0, 50], "expected from 1 to 100"),
        ([50, 101], "expected from 1 to 100"),
        ([50], "expected a list in brackets of 2"),
        ([1, 2, 3], "expected a list in brackets of 2"),
    ],
)
def test_a_bad_range_of_qualities_is_refused(quality: list[int], expected: str) -> None:
    with pytest.raises(UserError, match=rf"online_degradation\.quality=.*{expected}"):
        build_degradation(
            {"name": "noise_jpeg", "quality": quality, "match": "random", "jpeg": "quality"},
            2,
        )
