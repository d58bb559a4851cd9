from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from config_files import config_of
from realsr.core.errors import UserError
from realsr.deployment.check import EVALUATION_PHOTOS, load_evaluation_sets
from realsr.deployment.export import check_photos
from realsr.deployment.quantise import CALIBRATION_PHOTOS, check_calibration, load_calibration
from realsr.evaluation.protocol import Protocol
from realsr.imaging import ImageError, crop_to_multiple, resize, to_float, write_uint8
from realsr.simulation.camera_model import load_photograph

PROTOCOL = config_of(Protocol, "x", 0, ["psnr"])


def write_noise(path: Path, height: int, width: int, seed: int = 0) -> np.ndarray:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(exist_ok=True)
    write_uint8(path, image)
    return image


def test_no_photo_serves_both_purposes() -> None:
    assert len({*CALIBRATION_PHOTOS, *EVALUATION_PHOTOS}) == len(CALIBRATION_PHOTOS) + len(
        EVALUATION_PHOTOS
    )
    contents = [
        load_photograph(name, "x", "onnx").tobytes()
        for name in (*CALIBRATION_PHOTOS, *EVALUATION_PHOTOS)
    ]
    assert len(set(contents)) == len(contents)


def test_a_folder_is_taken_as_it_is_from_its_middle(tmp_path: Path) -> None:
    wide = write_noise(tmp_path / "photos/a.png", 21, 40)
    small = write_noise(tmp_path / "photos/b.png", 9, 10)
    first, second = load_calibration(tmp_path / "photos", 16, 4, "refuse")
    assert torch.equal(first[0], to_float(wide[2:18, 12:28]))
    assert torch.equal(second[0], to_float(small))
    assert first.is_contiguous()
    assert first.dtype == torch.float32
    with pytest.raises(ImageError, match="nowhere"):
        load_calibration(tmp_path / "nowhere", 16, 4, "refuse")


def test_scikit_images_photos_are_shrunk_by_the_scale() -> None:
    found = dict(zip(CALIBRATION_PHOTOS, load_calibration(None, 96, 4, "refuse"), strict=True))
    assert all(photo.shape[1] == 3 and max(photo.shape[2:]) == 96 for photo in found.values())
    camera = crop_to_multiple(to_float(load_photograph("camera", "x", "onnx")), 4)
    lr = resize(camera, factor=1 / 4).clamp(0, 1)
    top, left = (lr.shape[1] - 96) // 2, (lr.shape[2] - 96) // 2
    wanted = lr[:, top : top + 96, left : left + 96]
    assert (found["camera"][0] - wanted).abs().max() <= 0.5 / 255 + 1e-6  # rounded to 8 bit
    assert all(float(photo.min()) >= 0 and float(photo.max()) <= 1 for photo in found.values())


def test_photos_in_both_folders_are_found_by_what_they_show(tmp_path: Path) -> None:
    write_noise(tmp_path / "one/a.png", 8, 8, seed=1)
    write_noise(tmp_path / "one/b.png", 8, 8, seed=2)
    write_noise(tmp_path / "two/other_name.png", 8, 8, seed=2)
    write_noise(tmp_path / "two/a.png", 8, 8, seed=3)  # a name says nothing
    with pytest.raises(UserError, match=r"^b\.png: both in int8\.photos and in data\.hr"):
        check_photos(tmp_path / "one", tmp_path / "two")
    check_photos(tmp_path / "one", None)


def test_files_are_judged_by_a_folder_or_by_four_photos(tmp_path: Path) -> None:
    image = write_noise(tmp_path / "hr/a.png", 13, 18)
    (read,) = load_evaluation_sets(tmp_path / "hr", {"x": PROTOCOL}, 4, "refuse")["x"][0].values()
    sides = {"x": PROTOCOL, "y": replace(PROTOCOL, hr_side=512)}
    assert load_evaluation_sets(None, sides, 3, "refuse").keys() == {"x"}
    assert load_evaluation_sets(None, sides, 8, "refuse").keys() == {"x", "y"}
    assert torch.equal(read().hr, to_float(image[:12, :16]))
    assert read().lr.shape == (3, 3, 4)
    found, border = load_evaluation_sets(None, {"x": PROTOCOL}, 2, "refuse")["x"]
    assert border == 0
    assert tuple(found) == EVALUATION_PHOTOS
    image = found["chelsea"]()
    assert image.hr.shape == (3, 300, 450)
    assert image.lr.shape == (3, 150, 225)


def test_without_scikit_image_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "skimage", None)
    with pytest.raises(
        UserError,
        match=r"export without folders of photos needs skimage: pip install 'realsr\[onnx\]'",
    ):
        load_calibration(None, 96, 4, "refuse")


def middle_grey(spread: float, count: int = 5) -> list[torch.Tensor]:
    """Photos of levels in a normal distribution around 0.5."""
    rng = np.random.default_rng(0)
    values = (0.5 + rng.normal(0, spread, (count, 1, 3, 40, 40))).clip(0, 1).astype(np.float32)
    return list(torch.from_numpy(values))


def test_photos_that_carry_nothing_are_refused() -> None:
    bright = torch.zeros(1, 3, 40, 40)
    bright[..., 3, 3] = 1
    for photos in (
        [torch.zeros(1, 3, 40, 40)] * 9,
        [torch.ones(1, 3, 40, 40)],
        [bright],
        middle_grey(10 / 255),
    ):
        with pytest.raises(
            UserError, match=r"^int8\.photos=x: these photos cover \d+ of 255 levels, expected 64"
        ):
            check_calibration(photos, "int8.photos=x")


def test_few_or_pale_photos_are_warned_of() -> None:
    assert check_calibration(load_calibration(None, 96, 4, "refuse"), "x") == []
    assert check_calibration(middle_grey(0.2), "x") == []
    few, pale = check_calibration(middle_grey(0.07, count=1), "x")
    assert "calibrated on few photos (1)" in few
    assert "of 255 levels" in pale
    assert len(check_calibration(middle_grey(0.2, count=4), "x")) == 1
    grey = [photo[:, :1].expand(-1, 3, -1, -1) for photo in middle_grey(0.2)]
    assert ["without colour" in warning for warning in check_calibration(grey, "x")] == [True]
    black_and_white = [torch.zeros(1, 3, 40, 40)] * 3 + [torch.ones(1, 3, 40, 40)] * 3
    assert len(check_calibration(black_and_white, "x")) == 1, "levels of all photos together count"
