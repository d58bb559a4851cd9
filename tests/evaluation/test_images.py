from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from config_files import config_of
from realsr.core.errors import UserError
from realsr.evaluation.images import match_images
from realsr.evaluation.protocol import Protocol
from realsr.imaging import ImageError, resize, to_float, to_uint8, write_uint8


def write(folder: Path, name: str, size: tuple[int, int]) -> np.ndarray:
    folder.mkdir(exist_ok=True)
    image = np.random.default_rng(len(name)).integers(0, 256, (*size, 3), dtype=np.uint8)
    write_uint8(folder / f"{name}.png", image)
    return image


def test_hr_alone_is_cropped_and_shrunk_to_8_bit(tmp_path: Path) -> None:
    original = write(tmp_path, "a", (13, 18))
    image = match_images(tmp_path, None, config_of(Protocol), 4)["a"]()
    hr = to_float(original)[:, :12, :16]
    assert image.hr is not None
    assert torch.equal(image.hr, hr)
    assert torch.equal(image.lr, to_float(to_uint8(resize(hr, factor=0.25))))


def test_vacc_resizes_the_original_twice(tmp_path: Path) -> None:
    original = write(tmp_path, "a", (50, 37))
    image = match_images(tmp_path, None, config_of(Protocol, hr_side=16, lr="area"), 4)["a"]()
    assert image.hr is not None
    for found, side in ((image.hr, 16), (image.lr, 4)):
        assert torch.equal(found, to_float(cv2.resize(original, (side, side), interpolation=cv2.INTER_AREA)))
    image = match_images(tmp_path, None, config_of(Protocol, lr="area"), 4)["a"]()
    assert (image.hr is not None, image.lr.shape) == (True, (3, 12, 9)), "area alone keeps the shape"


def test_lr_from_a_folder_and_photos_without_hr(tmp_path: Path) -> None:
    write(tmp_path / "hr", "0801", (8, 12))
    low = write(tmp_path / "lr", "0801x4", (2, 3))
    images = match_images(tmp_path / "hr", tmp_path / "lr", config_of(Protocol), 4)
    assert list(images) == ["0801"], "DIV2K's names"
    assert torch.equal(images["0801"]().lr, to_float(low))
    photos = match_images(None, tmp_path / "lr", config_of(Protocol), 4)
    assert list(photos) == ["0801x4"]
    assert photos["0801x4"]().hr is None


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    write(tmp_path / "hr", "a", (8, 12))
    write(tmp_path / "hr", "tiny", (1, 1))
    write(tmp_path / "lr", "a", (2, 4))
    write(tmp_path / "lr", "tiny", (1, 1))
    (tmp_path / "hr/broken.png").write_bytes(b"")
    write(tmp_path / "lr", "broken", (1, 1))
    images = match_images(tmp_path / "hr", tmp_path / "lr", config_of(Protocol), 4)
    with pytest.raises(UserError, match=r"lr/a\.png: 4x2 pixels, but its HR has 12x8; at scale=4 it must be 4 times"):
        images["a"]()
    with pytest.raises(ValueError, match="cannot crop 1x1"):
        images["tiny"]()
    with pytest.raises(ImageError, match=r"broken\.png"):
        images["broken"]()
    with pytest.raises(UserError, match=r"data\.hr must be given"):
        match_images(None, None, config_of(Protocol), 4)
