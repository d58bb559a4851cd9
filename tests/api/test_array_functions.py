"""Functions of realsr.api that take arrays refuse what they would misread."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from realsr import api
from realsr.core.errors import UserError
from realsr.inference.model import SRModel

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
FLOAT = IMAGE.astype(np.float32) / 255
KERNEL = np.full((3, 3), 1 / 9)


@pytest.fixture
def double() -> SRModel:
    """Nearest-neighbour upscaling as a loaded model."""
    return SRModel(
        2, torch.device("cpu"), lambda x: x.repeat_interleave(2, -1).repeat_interleave(2, -2)
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"strenght": 1}, "strenght: no key for an array: expected ensemble, .*, strength$"),
        ({"ensamble": True}, "ensamble: no key for an array"),
        ({"overwrite": True}, "overwrite: no key for an array"),
        ({"scale": 2}, "scale: the model is already loaded: pass device, .* to load_model"),
        ({"device": "cuda:9"}, "device: the model is already loaded"),
        ({"ensemble": "yes"}, "ensemble=yes: expected true or false"),
        ({"consistency": 1}, "consistency=1: expected true or false"),
        ({"tile": "big"}, "tile=big: expected a whole number"),
        ({"tile": 0}, "tile=0: expected 1 or more"),
        ({"overlap": -1}, "overlap=-1: expected 0 or more"),
        ({"strength": "1"}, "strength=1: expected a number"),
    ],
)
def test_upscale_refuses_other_keys_and_types(
    double: SRModel, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        api.upscale(IMAGE, double, **keys)


def test_weights_by_name_add_the_keys_of_load_model() -> None:
    with pytest.raises(UserError, match=r"strenght: no key for an array: .* strength, device"):
        api.upscale(IMAGE, "bicubic", scale=2, strenght=1)
    assert api.upscale(IMAGE, "bicubic", scale=2).shape == (64, 96, 3)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"scale": "2"}, "scale=2: expected a whole number"),
        ({"allow_custom_code": "false"}, "allow_custom_code=false: expected true or false"),
        ({"interpolate": 2}, "interpolate=2"),
    ],
)
def test_load_model_refuses_other_types(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        api.load_model("bicubic", **keys)


@pytest.mark.parametrize("image", [IMAGE, FLOAT])
def test_numpy_values_and_views_are_accepted(double: SRModel, image: np.ndarray) -> None:
    view = image[::-1, :, ::-1]
    keys = {
        "tile": np.int64(256),
        "overlap": np.int64(8),
        "ensemble": np.bool_(False),
        "strength": np.float32(1),
    }
    expected = view.repeat(2, 0).repeat(2, 1)
    np.testing.assert_allclose(api.upscale(view, double, **keys), expected, atol=1e-6)


@pytest.mark.parametrize("photos", [torch.zeros(3, 8, 8), [IMAGE, IMAGE], 3])
def test_upscale_takes_arrays_or_paths(photos: Any) -> None:
    with pytest.raises(UserError, match=r"upscale: photos of type .*: expected a NumPy array"):
        api.upscale(photos, "bicubic", output="x", scale=2)


IMAGES = [
    (IMAGE.astype(np.int64), r"type int64: expected .* image.astype\(np.uint8\)"),
    (IMAGE[..., 0], r"shape \(32, 48\) .*: repeat gray levels by np.stack"),
    (IMAGE[..., :2], r"shape \(32, 48, 2\)"),
    (IMAGE[:0], r"shape \(0, 48, 3\)"),
    (IMAGE.tolist(), "list: expected .* a NumPy array"),
]
FLOATS = [
    (IMAGE.astype(np.float32), "values 0 to 255: .*: divide levels by 255"),
    (np.full((8, 8, 3), np.nan, np.float32), "values nan to nan"),
]


@pytest.mark.parametrize(("image", "message"), IMAGES + FLOATS)
def test_write_image_refuses_other_arrays(image: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"write_image: .*{message}"):
        api.write_image(tmp_path / "x.png", image)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_write_image_clamps_an_overshoot(kind: type, tmp_path: Path) -> None:
    image = np.linspace(-0.2, 1.2, 8 * 9 * 3).reshape(8, 9, 3).astype(kind)
    api.write_image(tmp_path / "x.png", image)
    np.testing.assert_array_equal(
        api.read_image(tmp_path / "x.png"), np.rint(image.clip(0, 1) * 255).astype(np.uint8)
    )


@pytest.mark.parametrize(("image", "message"), [case for case in IMAGES if case[1][0] != "l"])
def test_upscale_refuses_other_arrays(double: SRModel, image: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"upscale: .*{message}"):
        api.upscale(image, double)


@pytest.mark.parametrize(("image", "message"), FLOATS)
def test_upscale_refuses_floats_of_another_range(
    double: SRModel, image: np.ndarray, message: str
) -> None:
    with pytest.raises(UserError, match=f"upscale: .*{message}"):
        api.upscale(image, double)


@pytest.mark.parametrize(("image", "message"), [*IMAGES, (FLOAT, r"np.uint8\(np.rint\(255")])
def test_degrade_refuses_other_arrays(image: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"degrade: hr: .*{message}"):
        api.degrade(image)
    with pytest.raises(UserError, match=f"degrade: noise: .*{message}"):
        api.degrade(IMAGE, noise=image)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (9 * KERNEL, "sum 9: .*: divide the kernel by its sum"),
        (KERNEL[0], r"shape \(3,\)"),
        (KERNEL[:0], r"shape \(0, 3\)"),
        (KERNEL * np.nan, "nan or infinite"),
        (KERNEL.astype(complex), "complex128"),
        (KERNEL.tolist(), "list: expected a NumPy array"),
    ],
)
def test_degrade_refuses_other_kernels(kernel: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"degrade: kernel: .*{message}"):
        api.degrade(IMAGE, kernel=kernel)


@pytest.mark.parametrize("scale", ["4", 0, 2.0])
def test_degrade_refuses_other_scales(scale: Any) -> None:
    with pytest.raises(UserError, match="degrade: scale="):
        api.degrade(IMAGE, scale)


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (5, 5), (3, 5)])
def test_degrade_accepts_kernels_of_any_size(shape: tuple[int, int]) -> None:
    kernel = np.full(shape, 1 / np.prod(shape), np.float32)
    assert api.degrade(IMAGE, kernel=kernel, noise=IMAGE).shape == (8, 12, 3)
