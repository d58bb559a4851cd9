from pathlib import Path

import pytest

from realsr.core.errors import UserError
from realsr.pools.contents import list_degradation_files, list_kernels, list_noise


def make(pool, *names):
    for name in names:
        (pool / name).parent.mkdir(parents=True, exist_ok=True)
        (pool / name).touch()


def test_kernels_of_a_scale_are_found_sorted_and_nested(tmp_path):
    make(
        tmp_path,
        *(
            f"kernels/{n}"
            for n in ("b_kernel_x4.mat", "b_kernel_x2.mat", "a/a_kernel_x4.mat", "c_x4.txt")
        ),
    )
    make(tmp_path, "elsewhere/d_kernel_x4.mat", "kernels/deep/er/0_kernel_x2.mat")
    found = {
        s: [p.relative_to(tmp_path / "kernels").as_posix() for p in list_kernels(tmp_path, s)]
        for s in (2, 4)
    }
    assert found[4] == ["a/a_kernel_x4.mat", "b_kernel_x4.mat"]
    assert found[2] == ["b_kernel_x2.mat", "deep/er/0_kernel_x2.mat"]


def test_noise_is_found_sorted_and_nested(tmp_path):
    make(tmp_path, "noise/b_000.png", "noise/a/a_001.png", "noise/a/a_000.png", "noise/a.jpg")
    found = [path.relative_to(tmp_path / "noise").as_posix() for path in list_noise(tmp_path)]
    assert found == ["a/a_000.png", "a/a_001.png", "b_000.png"]


def test_what_is_missing_names_the_command_that_makes_it(tmp_path):
    make(tmp_path, "kernels/a_kernel_x2.mat", "kernels/b/b_kernel_x2.mat", "noise/readme.txt")
    with pytest.raises(UserError, match=r"no kernels for scale 4.*2 other .mat files") as caught:
        list_kernels(tmp_path, 4)
    assert "python -m realsr.estimate_kernels +track=" in str(caught.value)
    assert str(tmp_path / "kernels") in str(caught.value)
    with pytest.raises(UserError, match=r"python -m realsr\.collect_noise \+track="):
        list_noise(tmp_path)
    for find in (lambda folder: list_kernels(folder, 2), list_noise):
        with pytest.raises(UserError, match="Make them"):
            find(tmp_path / "nowhere")


def test_the_files_of_an_online_degradation(tmp_path: Path) -> None:
    jpeg = {"name": "noise_jpeg", "jpeg": "source"}
    for values, noise, name in (
        ({"name": "noise"}, True, "noise"),
        ({"name": "noise_model"}, True, "noise_model.json"),
        (jpeg, False, "jpeg_tables.json"),
        ({"name": "toy_degradation.Blocks"}, False, "jpeg_tables.json"),
    ):
        with pytest.raises(UserError, match=rf"{name}: .*[Mm]ake .*realsr\.collect_noise"):
            list_degradation_files(tmp_path, noise, values, 4, None)
    for name in ("noise/a.png", "noise_model.json", "jpeg_tables.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for values, noise, names in (
        ({"name": "noise"}, True, ["a.png"]),
        ({"name": "noise"}, False, []),
        ({"name": "noise_model"}, True, ["noise_model.json"]),
        ({"name": "noise_model"}, False, []),
        (jpeg, True, ["a.png", "jpeg_tables.json"]),
        (jpeg | {"jpeg": "quality"}, True, ["a.png"]),
        ({"name": "identity"}, True, ["a.png"]),
        ({"name": "toy_degradation.Blocks"}, True, ["a.png", "jpeg_tables.json"]),
        ({"name": "toy_degradation.Blocks"}, False, ["jpeg_tables.json"]),
        ({"name": "toy_degradation.Mixture"}, True, ["a.png", "noise_model.json"]),
        ({"name": "toy_degradation.Mixture"}, False, []),
    ):
        files = list_degradation_files(tmp_path, noise, values, 4, None)
        assert [path.name for path in files] == names
