"""Pages: images are placed pixel by pixel, and whatever a name holds can be written."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import realsr.reporting
from realsr.reporting.drawing import (
    FRAME,
    GAP,
    Page,
    Tile,
    center_kernel,
    choose_evenly,
    colour_values,
    draw_tiles,
    repeat_pixels,
    shorten,
    stack,
)


def test_kernels_keep_their_middle_in_the_middle() -> None:
    kernel = np.arange(9.0).reshape(3, 3)
    padded = center_kernel(kernel, 7)
    assert padded.shape == (7, 7)
    assert padded[3, 3] == kernel[1, 1]
    assert np.array_equal(padded[2:5, 2:5], kernel)
    assert padded.sum() == kernel.sum()
    assert np.array_equal(center_kernel(kernel, 3), kernel)
    even = np.zeros((4, 4))
    even[2, 2] = 1
    assert center_kernel(even, 7)[3, 3] == 1


def test_values_are_chosen_evenly() -> None:
    names = [f"{i:04}" for i in range(5614)]
    chosen = choose_evenly(names, 400)
    assert len(chosen) == len(set(chosen)) == 400
    assert (chosen[0], chosen[-1]) == (names[0], names[-1])
    steps = np.diff([int(name) for name in chosen])
    assert steps.max() - steps.min() <= 1
    assert choose_evenly(names[:400], 400) == names[:400]
    assert choose_evenly(names[:3], 400) == names[:3]
    assert choose_evenly(names, 1) == names[:1]
    assert choose_evenly([], 9) == []


def test_names_are_cut_in_the_middle() -> None:
    name = "a name that is far too long for its place"
    assert shorten(name, 1000) == name
    cut = shorten(name, 60)
    assert len(cut) < 12
    assert "…" in cut
    assert (cut[0], cut[-1]) == (name[0], name[-1])
    assert shorten("a\nb", 1000) == r"a\nb"


@pytest.mark.parametrize("side", [3, 17, 100, 128, 256])
@pytest.mark.parametrize("size", [(1, 1), (13, 11), (299, 613)])
def test_images_are_placed_pixel_by_pixel(side: int, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(side).integers(0, 256, (side, side + 1, 3), dtype=np.uint8)
    page = Page(side + size[1], side + size[0])
    page.show(pixels, size[1] - 1, size[0])
    picture = page.render()
    assert picture.shape == (side + size[0], side + size[1], 3)
    np.testing.assert_array_equal(picture[size[0] :, size[1] - 1 :], pixels)
    assert (picture[: size[0]] == 255).all()


def test_pixels_are_repeated_a_whole_number_of_times() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (15, 17, 3), dtype=np.uint8)
    large = repeat_pixels(pixels, 136)
    assert large.shape == (120, 136, 3)
    np.testing.assert_array_equal(large[4::8, 4::8], pixels)
    np.testing.assert_array_equal(repeat_pixels(pixels, 4), pixels)


def test_tiles_are_whole_and_in_order_with_their_frames_and_text() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 200, (40, 50, 3), dtype=np.uint8) for _ in range(5)]
    tiles = [
        Tile(image, [("name", "#0000ff")] * index, "#ff0000") for index, image in enumerate(images)
    ]
    sheet = draw_tiles(tiles, 2, 50, "a title")
    assert sheet.shape[1] == 2 * 50 + GAP + 2 * FRAME
    red = (sheet == (255, 0, 0)).all(2)
    assert red.sum() == 5 * (46 * 56 - 40 * 50)
    tops = np.flatnonzero(np.diff(red[:, 0].astype(int)) == 1) + 1 + FRAME
    for index, image in enumerate(images):
        top, left = tops[index // 2], FRAME + index % 2 * (50 + GAP)
        np.testing.assert_array_equal(sheet[top : top + 40, left : left + 50], image)
    assert tops[2] - tops[1] > tops[1] - tops[0], "a row is as high as its longest text"
    assert (sheet[: tops[0] - FRAME] < 100).any()
    assert stack([sheet, sheet]).shape[0] == 2 * len(sheet) + 48


def test_names_of_any_length_and_kind() -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lines = [
            (text, "black")
            for text in ("写真 of a very long name " * 9, r"$\frac$ $", "\udcff\x1b\n", "")
        ]
        assert (
            draw_tiles([Tile(pixels, lines)], 3, 30, "a title " * 40).shape[1]
            == 3 * 30 + 2 * GAP + 2 * FRAME
        )
    assert colour_values(np.array([[-1.0, 0.0, 1.0, 2.0]])).tolist()[0][0] == [0, 0, 3]


def test_the_modules_import_no_matplotlib() -> None:
    names = [path.stem for path in Path(realsr.reporting.__file__ or "").parent.glob("*.py")]
    imports = "".join(f"import realsr.reporting.{name}\n" for name in names if name != "__init__")
    subprocess.run(
        [sys.executable, "-c", f"import sys\n{imports}assert 'matplotlib' not in sys.modules"],
        check=True,
    )
