from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from realsr.core.errors import UserError
from realsr.data.cache import DecodedImages
from realsr.data.degradations.identity import Identity
from realsr.data.degradations.noise import Noise
from realsr.data.degradations.noise_jpeg import NoiseJPEG
from realsr.data.pairs import list_pairs
from realsr.data.validation_images import load_validation
from realsr.imaging import ImageError, read_uint8, resize, to_float, to_uint8, write_uint8
from stages import load_validation_folder, read_folders

MakePairs = Callable[..., Path]


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    write_uint8(tmp_path / "noise.png", rng.integers(90, 130, (30, 30, 3), dtype=np.uint8))
    return tmp_path / "noise.png"


def test_images_are_cut_to_their_centre(make_pairs: MakePairs) -> None:
    pairs = list_pairs(make_pairs({"a": (12, 17), "b": (5, 6), "c": (9, 9)}), 2)
    first, second = load_validation(pairs, 2, Identity(), seed=0, largest=17, most=2)
    assert first.name == "a"
    lr = to_float(read_uint8(pairs[0].lr))
    assert torch.equal(first.lr, lr[:, 2:10, 4:12]), (
        "8x8, the centre; 17 HR pixels have room for 8 LR pixels"
    )
    assert torch.equal(first.hr, first.lr.repeat_interleave(2, 1).repeat_interleave(2, 2))
    assert second.lr.shape == (3, 5, 6), "a smaller one is taken whole"


def test_the_degradation_is_fixed_and_independent_of_the_other_images(
    make_pairs: MakePairs, noise: Path
) -> None:
    pairs = list_pairs(make_pairs({"a": (12, 12), "b": (12, 12), "c": (12, 12)}), 2)
    degradation = NoiseJPEG((30, 95), "random", "quality", DecodedImages([noise]), [])
    together = load_validation(pairs, 2, degradation, seed=0, largest=512, most=9)
    alone = load_validation(pairs[1:2], 2, degradation, seed=0, largest=512, most=9)
    assert torch.equal(together[1].lr, alone[0].lr)
    clean = load_validation(pairs, 2, Identity(), seed=0, largest=512, most=9)
    differences = [noisy.lr - image.lr for noisy, image in zip(together, clean, strict=True)]
    assert all(difference.abs().max() > 1 / 255 for difference in differences)
    assert not torch.allclose(differences[0], differences[1]), "each image has its own"
    assert all(
        torch.equal(noisy.hr, image.hr) for noisy, image in zip(together, clean, strict=True)
    )


def test_folders_of_hr_alone_get_bicubic_lr_rounded_to_8_bit(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (13, 18, 3), dtype=np.uint8)
    write_uint8(tmp_path / "a.png", image)
    (read,) = read_folders(tmp_path, None, 4)
    hr = to_float(image)[:, :12, :16]
    assert torch.equal(read.hr, hr)
    expected = resize(hr, factor=0.25)
    assert torch.equal(read.lr, to_float(to_uint8(expected)))
    assert (read.lr - expected.clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-6


def test_folders_with_lr_are_taken_as_they_are(make_pairs: MakePairs) -> None:
    folder = make_pairs({"a": (6, 7), "b": (8, 8)})
    images = list(read_folders(folder / "HR", folder / "LR", 2))
    assert [image.name for image in images] == ["a", "b"]
    for image in images:
        assert torch.equal(image.hr, image.lr.repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_wrong_names_and_sizes_are_told(make_pairs: MakePairs) -> None:
    folder = make_pairs({"a": (6, 7), "b": (8, 8)})
    with pytest.raises(
        UserError,
        match=r"LR/a\.png: 7x6 pixels, but HR is 14x12, prepared as 12x12; at scale=4",
    ):
        list(read_folders(folder / "HR", folder / "LR", 4))
    (folder / "LR" / "a.png").unlink()
    with pytest.raises(UserError, match=r"do not match: only .*HR has a\."):
        list(read_folders(folder / "HR", folder / "LR", 2))


def test_an_empty_folder_and_a_damaged_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no images"):
        list(read_folders(tmp_path, None, 2))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nhalf")
    with pytest.raises(ImageError, match=r"a\.png"):
        list(read_folders(tmp_path, None, 2))


def test_the_validation_folder_s_lr_is_degraded_where_it_is_made_only(
    make_pairs: MakePairs, noise: Path
) -> None:
    folder = make_pairs({"a": (12, 12), "b": (12, 12)})
    degradation = Noise("random", DecodedImages([noise]))
    both = load_validation_folder(folder, 2, degradation, seed=0, largest=16, most=1)
    assert len(both) == 1
    assert torch.equal(both[0].lr, to_float(read_uint8(folder / "LR" / "a.png"))[:, 2:10, 2:10])
    made = load_validation_folder(folder / "HR", 2, degradation, seed=0, largest=16, most=5)
    clean = load_validation_folder(folder / "HR", 2, Identity(), seed=0, largest=16, most=5)
    assert [image.name for image in made] == ["a", "b"]
    assert made[0].lr.shape == (3, 8, 8)
    assert (made[0].lr - clean[0].lr).abs().max() > 1 / 255
    assert torch.equal(made[0].hr, clean[0].hr)
    (folder / "LR").rename(folder / "elsewhere")
    with pytest.raises(ImageError, match="LR does not exist"):
        load_validation_folder(folder, 2, degradation, seed=0, largest=16, most=5)


def test_validation_images_of_published_names_or_by_a_template(
    make_pairs: MakePairs, noise: Path
) -> None:
    folder, degradation = make_pairs({"a": (12, 12)}), Noise("random", DecodedImages([noise]))
    plain = load_validation_folder(folder, 2, degradation, seed=0, largest=16, most=5)
    (folder / "LR" / "a.png").rename(folder / "LR" / "low_a.png")
    named = load_validation_folder(
        folder, 2, degradation, seed=0, largest=16, most=5, lr_name="low_{}"
    )
    together = folder.parent / "together"
    together.mkdir()
    (folder / "HR" / "a.png").rename(together / "a_HR.png")
    (folder / "LR" / "low_a.png").rename(together / "a_LR2.png")
    mixed = load_validation_folder(together, 2, degradation, seed=0, largest=16, most=5)
    for images in (named, mixed):
        assert len(images) == 1
        assert torch.equal(images[0].lr, plain[0].lr)
        assert torch.equal(images[0].hr, plain[0].hr)


def test_a_damaged_photo_of_the_validation_folder_is_refused_or_accepted(tmp_path, caplog):
    pixels = np.random.default_rng(0).normal(128, 20, (64, 80, 3)).clip(0, 255).astype(np.uint8)
    path = tmp_path / "a.jpg"
    Image.fromarray(pixels).save(path, quality=95)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(60) + data[len(data) // 2 + 60 :])
    with pytest.raises(ImageError, match=r"a\.jpg: damaged"):
        load_validation_folder(tmp_path, 2, Identity(), seed=0, largest=64, most=1)
    (image,) = load_validation_folder(
        tmp_path, 2, Identity(), seed=0, largest=64, most=1, damaged="accept"
    )
    assert image.hr.shape == (3, 64, 64)
    assert caplog.text.count("damaged (") == 1
