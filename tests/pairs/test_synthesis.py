import numpy as np
import pytest
import torch
from scipy import ndimage

from config_files import config_of
from realsr.core.errors import UserError
from realsr.imaging import read_uint8, resize, shrink_uint8
from realsr.imaging.kernel_shapes import load_kernel, save_kernel
from realsr.pairs.pairs_config import PairsConfig
from realsr.pairs.synthesis import clean_up, degrade
from realsr.provenance.manifest import read_manifest
from realsr.simulation.camera_model import anisotropic_kernel
from stages import make_pairs


@pytest.fixture
def pool(tmp_path):
    """Kernels of each scale; two of each bear one name, as those of two releases may."""
    rng = np.random.default_rng(0)
    names = [
        f"{name}_kernel_x{scale}.mat"
        for scale in (2, 4, 1, 3, 8)
        for name in ("a", "one/b", "two/b", "c")
    ]
    for name in names:
        path = tmp_path / "pool" / "kernels" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sigmas = tuple(rng.uniform(0.8, 3, 2))
        save_kernel(path, anisotropic_kernel(13, sigmas, rng.uniform(0, 180), scale=int(name[-5])))
    return tmp_path / "pool"


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    monkeypatch.setattr("realsr.core.workers.MIN_ITEMS", 1000)  # workers where a test asks for them


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")
    }


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_degrade_written_plainly(scale):
    hr = np.random.default_rng(0).integers(0, 256, (48, 72, 3), dtype=np.uint8)
    kernel = anisotropic_kernel(9, (2.0, 1.0), 30, scale)
    blurred = ndimage.correlate(hr.astype(float), kernel[..., None], mode="reflect")
    assert np.abs(degrade(hr, scale, kernel) - blurred[::scale, ::scale]).max() < 0.5 + 1e-6
    np.testing.assert_array_equal(degrade(hr, scale, None), shrink_uint8(hr, scale))


def test_degrade_matches_golden(golden):
    arrays = golden("kernel_downsample.npz")
    for scale, kernel, lr in ((4, "kernel", "lr_float"), (2, "kernel_x2", "lr_x2_float")):
        difference = degrade(arrays["image_uint8_hwc"], scale, arrays[kernel]) - arrays[lr].clip(
            0, 255
        )
        assert np.abs(difference).max() < 0.5 + 3e-4


@pytest.mark.parametrize(
    ("factor", "scale", "shape"), [(2, 4, (32, 52)), (1, 4, (68, 100)), (3, 2, (22, 34))]
)
def test_clean_up(factor, scale, shape):
    photo = np.random.default_rng(0).integers(0, 256, (69, 103, 3), dtype=np.uint8)
    clean = clean_up(photo, factor, scale)
    expected = (
        resize(torch.from_numpy(photo).permute(2, 0, 1).double(), factor=1 / factor)
        .clamp(0, 255)
        .round()
    )
    np.testing.assert_array_equal(clean, expected.permute(1, 2, 0)[: shape[0], : shape[1]])
    assert clean.shape == (*shape, 3)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("bicubic", [False, True], ids=["kernel", "bicubic"])
def test_the_same_bytes_with_any_number_of_workers_and_threads(
    make_photos, pool, tmp_path, bicubic, scale
):
    source = make_photos({f"p{i}": (170 + i, 231) for i in range(5)})
    threads = torch.get_num_threads()
    for workers in (0, 1, 3):
        try:
            torch.set_num_threads(4)  # in this process: workers have one
            kernels = None if bicubic else pool
            make_pairs(
                source,
                None,
                kernels,
                tmp_path / f"{workers}",
                config_of(PairsConfig),
                scale,
                workers=workers,
            )
        finally:
            torch.set_num_threads(threads)
    assert len(files(tmp_path / "0")) == 10
    assert files(tmp_path / "0") == files(tmp_path / "1") == files(tmp_path / "3")
    sections = [read_manifest(tmp_path / f"{workers}")["pairs"] for workers in (0, 3)]
    assert sections[0]["items"] == sections[1]["items"]
    assert list(sections[0]["items"]) == list(sections[1]["items"])


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_each_lr_can_be_made_again_from_its_hr_and_the_manifest(make_photos, pool, tmp_path, scale):
    source = make_photos({f"p{i:02d}": (70 + i, 101) for i in range(12)})
    make_pairs(source, None, pool, tmp_path / "pairs", config_of(PairsConfig), scale)
    section = read_manifest(tmp_path / "pairs")["pairs"]
    used = set()
    for i in range(12):
        name = f"p{i:02d}"
        item = section["items"][name]
        hr, lr = (read_uint8(tmp_path / "pairs" / kind / f"{name}.png") for kind in ("HR", "LR"))
        assert hr.shape == ((70 + i + 1) // 2 // scale * scale, 51 // scale * scale, 3)
        assert lr.shape == (hr.shape[0] // scale, hr.shape[1] // scale, 3)
        np.testing.assert_array_equal(hr, clean_up(read_uint8(source / f"{name}.png"), 2, scale))
        kernel = load_kernel(
            pool / "kernels" / item["kernel"]
        )  # by its path, since names may repeat
        assert item["kernel"].endswith(f"_x{scale}.mat")
        blurred = np.stack(
            [ndimage.correlate(c, kernel, mode="reflect") for c in hr.transpose(2, 0, 1) / 255.0]
        )
        plain = blurred[:, ::scale, ::scale].transpose(1, 2, 0) * 255
        assert np.abs(lr - plain).max() < 0.5 + 1e-6  # scipy's sum may lie on the other side of .5
        np.testing.assert_array_equal(lr, degrade(hr, scale, kernel))
        assert item["photo"] == f"source/{name}.png"
        assert item["clean_up"] == 2
        assert item["crop"] == list(hr.shape[:2])
        used.add(item["kernel"])
    assert len(used) > 1
    assert f"kernels/{item['kernel']}" in section["inputs"]
    assert section["config"]["scale"] == scale
    assert section["complete"]


def test_a_photo_more_changes_nothing_for_the_others(make_photos, pool, tmp_path):
    sizes = {f"p{i}": (64, 64) for i in range(6)}
    make_pairs(make_photos(sizes), None, pool, tmp_path / "one", config_of(PairsConfig), 4, seed=3)
    more = make_photos({"a_first": (64, 64), "p3b": (80, 64), **sizes}, "more")
    make_pairs(more, None, pool, tmp_path / "two", config_of(PairsConfig), 4, seed=3)
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert len(one) == 12
    assert len(two) == 16
    assert one.items() <= two.items()
    make_pairs(
        make_photos(sizes), None, pool, tmp_path / "three", config_of(PairsConfig), 4, seed=4
    )
    assert files(tmp_path / "three") != one  # the seed draws the kernels


def test_bicubic_pairs_of_source_and_target(make_photos, tmp_path):
    source, target = make_photos({"s": (130, 99)}), make_photos({"t": (67, 90)}, "target")
    config = config_of(PairsConfig, hr=["source", "target"])
    make_pairs(source, target, None, tmp_path / "pairs", config, 4)
    assert read_uint8(tmp_path / "pairs" / "HR" / "s.png").shape == (64, 48, 3)
    hr = read_uint8(tmp_path / "pairs" / "HR" / "t.png")
    np.testing.assert_array_equal(hr, read_uint8(target / "t.png")[:64, :88])  # at its own size
    for name in "st":
        hr, lr = (read_uint8(tmp_path / "pairs" / kind / f"{name}.png") for kind in ("HR", "LR"))
        expected = (
            resize(torch.tensor(hr).permute(2, 0, 1).double(), factor=1 / 4).clamp(0, 255).round()
        )
        np.testing.assert_array_equal(lr, expected.permute(1, 2, 0))
    items = read_manifest(tmp_path / "pairs")["pairs"]["items"]
    assert (items["s"]["clean_up"], items["t"]["clean_up"]) == (2, 1)
    assert items["s"]["kernel"] == items["t"]["kernel"] == "bicubic"


def test_a_name_in_both_source_and_target(make_photos, tmp_path):
    source, target = (
        make_photos({"a": (64, 64), "b": (64, 64)}),
        make_photos({"b": (64, 64)}, "target"),
    )
    config = config_of(PairsConfig, hr=["source", "target"])
    with pytest.raises(UserError, match=r"b is in both data\.source and data\.target; rename"):
        make_pairs(source, target, None, tmp_path / "pairs", config, 4)
    assert not (tmp_path / "pairs").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hr": ["sauce"]}, r"pairs\.hr=\[sauce\]: expected one of source, target"),
        ({"hr": []}, r"pairs\.hr="),
        ({"clean_up": 0}, r"pairs\.clean_up=0: expected 1"),
    ],
)
def test_values_that_mean_nothing_are_quoted(tmp_path, values, message):
    with pytest.raises(UserError, match=message):
        make_pairs(
            tmp_path, None, tmp_path, tmp_path / "pairs", config_of(PairsConfig, **values), 4
        )


def test_kernels_that_are_missing_name_the_command(make_photos, tmp_path):
    with pytest.raises(UserError, match=r"realsr\.estimate_kernels"):
        make_pairs(
            make_photos({"a": (64, 64)}),
            None,
            tmp_path / "pool",
            tmp_path / "pairs",
            config_of(PairsConfig),
            4,
        )


def test_a_bad_photo_does_not_stop_the_others_and_is_made_when_mended(make_photos, pool, tmp_path):
    source = make_photos({"a": (64, 64), "b": (64, 64), "c": (64, 64), "tiny": (6, 64)})
    whole = (source / "b.png").read_bytes()
    (source / "b.png").write_bytes(whole[:300])
    with pytest.raises(
        UserError, match=r"2 of 4(.|\n)*b\.png(.|\n)*tiny\.png: cannot crop 32x3 pixels"
    ):
        make_pairs(source, None, pool, tmp_path / "pairs", config_of(PairsConfig), 4)
    assert files(tmp_path / "pairs").keys() == {"HR/a.png", "LR/a.png", "HR/c.png", "LR/c.png"}
    (source / "b.png").write_bytes(whole)
    (source / "tiny.png").unlink()
    make_pairs(source, None, pool, tmp_path / "pairs", config_of(PairsConfig), 4)
    make_pairs(source, None, pool, tmp_path / "fresh", config_of(PairsConfig), 4)
    assert files(tmp_path / "pairs") == files(tmp_path / "fresh")


def test_again_does_nothing_and_other_kernels_are_told(make_photos, pool, tmp_path, monkeypatch):
    source, config = make_photos({"a": (64, 64)}), config_of(PairsConfig)
    make_pairs(source, None, pool, tmp_path / "pairs", config, 4)
    with monkeypatch.context() as patch:
        patch.setattr("realsr.pairs.synthesis._make_pair", pytest.fail)
        make_pairs(source, None, pool, tmp_path / "pairs", config, 4)
    with pytest.raises(UserError, match="scale: was 4, now 2"):
        make_pairs(source, None, pool, tmp_path / "pairs", config, 2)
    save_kernel(pool / "kernels" / "new_kernel_x4.mat", np.ones((5, 5)))
    with pytest.raises(UserError, match=r"kernels/new_kernel_x4\.mat: new"):
        make_pairs(source, None, pool, tmp_path / "pairs", config, 4)


def test_pairs_made_elsewhere_are_not_mixed_with_ours(make_photos, pool, tmp_path):
    made = make_photos({"x": (64, 64)}, "pairs")
    (made / "HR").mkdir()
    (made / "x.png").rename(made / "HR" / "x.png")
    with pytest.raises(UserError, match="made elsewhere"):
        make_pairs(make_photos({"a": (64, 64)}), None, pool, made, config_of(PairsConfig), 4)
