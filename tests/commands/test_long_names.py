"""Photos with names as long as file systems allow: done, or named with the reason, and the others are done."""

from pathlib import Path

import pytest
from small_work import TINY, Command, files, write_photos

from realsr.core.seeding import numpy_generator
from realsr.imaging.kernel_shapes import save_kernel
from realsr.kernels.gaussian import draw_div2krk

LONG, WIDE = "y" * 251, "写" * 83


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = write_photos(tmp_path / "photos", "a")
    for name in (LONG, WIDE):
        (folder / f"{name}.png").write_bytes((folder / "a.png").read_bytes())
    return folder


@pytest.mark.parametrize(
    ("name", "arguments", "made"),
    [
        ("collect_noise", (), "pool/noise/a_000.png"),
        ("estimate_kernels", ("kernels=spectral",), "pool/kernels/a_kernel_x4.mat"),
    ],
)
def test_names_that_become_too_long_are_told_and_the_others_done(
    name: str, arguments: tuple[str, ...], made: str, command: Command, photos: Path, tmp_path: Path
) -> None:
    tiny = [item for item in TINY if not item.startswith("kernels.")] + ["kernels.gates=null"]
    outcome = command(
        name, "+track=dped", "data.source=photos", "work_dir=out", "workers=0", *tiny, *arguments
    )
    assert outcome.code == 1
    assert "2 of 3 failed" in outcome.log
    for photo, size in ((LONG, 251), (WIDE, 249)):
        suffix = made.rpartition("/a")[2]
        assert f"{photo}.png: the name '{photo[0] * 10}" in outcome.log
        assert f"has {size + len(suffix)} bytes, at most 255 are allowed: shorten it" in outcome.log
    assert made in files(tmp_path / "out")


def test_pairs_and_saved_images_have_room(command: Command, photos: Path, tmp_path: Path) -> None:
    outcome = command(
        "make_pairs",
        "+track=df2k",
        "pairs.hr=[source]",
        "data.source=photos",
        "work_dir=out",
        *TINY,
    )
    assert outcome.code == 0, outcome.log
    assert {f"pairs/HR/{name}.png" for name in ("a", LONG, WIDE)} <= files(tmp_path / "out").keys()
    outcome = command(
        "evaluate", "weights=[bicubic]", "data.hr=photos", "output=scores", "save_images=true"
    )
    assert outcome.code == 0, outcome.log
    assert {f"images/bicubic/{name}.png" for name in ("a", LONG, WIDE)} <= files(
        tmp_path / "scores"
    ).keys()


def test_kernels_whose_folders_make_a_long_name(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "mats" / ("f" * 200) / ("g" * 100)
    folder.mkdir(parents=True)
    kernel = draw_div2krk(numpy_generator(0, "kernel"), True, (0.6, 5.0), 0.0)
    save_kernel(folder / "k.mat", kernel)
    save_kernel(tmp_path / "mats" / "k.mat", kernel)
    outcome = command(
        "estimate_kernels",
        "+track=dped",
        "pool=from_mat",
        "pool.estimator.folder=mats",
        "work_dir=out",
    )
    assert outcome.code == 1
    assert "1 of 2 failed" in outcome.log
    assert "at most 255 are allowed: shorten it" in outcome.log
    assert "pool/kernels/k_000_kernel_x4.mat" in files(tmp_path / "out")
