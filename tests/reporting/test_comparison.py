"""The figure: every image and kernel is in it, and kernels are shown at one scale."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from realsr.reporting.canvas import window_kernel
from realsr.reporting.comparison import ComparisonRow, write_comparison


def test_padding_keeps_the_kernel_around_the_middle() -> None:
    kernel = np.arange(9.0).reshape(3, 3)
    padded = window_kernel(kernel, 7)
    assert padded.shape == (7, 7)
    assert padded[3, 3] == kernel[1, 1]
    assert np.array_equal(padded[2:5, 2:5], kernel)
    assert padded.sum() == kernel.sum()
    assert np.array_equal(window_kernel(kernel, 3), kernel)


def test_even_kernels_keep_index_half_in_the_middle() -> None:
    kernel = np.zeros((4, 4))
    kernel[2, 2] = 1
    assert window_kernel(kernel, 7)[3, 3] == 1


def test_the_picture_shows_the_images_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    red, green = torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)
    red[0], green[1] = 1, 1
    path = tmp_path / "comparison.png"
    write_comparison(path, [ComparisonRow("photo", {"LR": red, "HR": green}, {})], {"true": np.eye(3) / 3})
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert (pixels == (255, 0, 0)).all(axis=1).any()
    assert (pixels == (0, 255, 0)).all(axis=1).any()
    assert [p.name for p in tmp_path.iterdir()] == ["comparison.png"]
