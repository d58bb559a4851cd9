import numpy as np
import pytest
from scipy import io as matlab

import realsr.degradation.estimation as estimation
from realsr.degradation.estimation import estimate_kernels
from realsr.degradation.kernelgan import KernelGANConfig, train_kernelgans
from realsr.degradation.kernels import compose_x4, load_kernel, postprocess
from realsr.errors import UserError
from realsr.imaging import read_uint8, to_float
from realsr.manifest import MANIFEST, read_manifest
from realsr.seeding import derive_seed

SIZES = {"a": (70, 80), "b.x": (90, 66), "c": (72, 72)}


@pytest.fixture
def config():
    return KernelGANConfig(iterations=3, batch=2)


@pytest.fixture
def pool(tmp_path):
    return tmp_path / "work" / "pool"


def state(pool):
    return {path.relative_to(pool).as_posix(): path.stat().st_mtime_ns for path in pool.rglob("*") if path.is_file()}


def names(*photos: str) -> set[str]:
    return {f"kernels/{photo}_kernel_x{scale}.mat" for photo in photos for scale in (2, 4)} | {MANIFEST}


def test_files_names_and_contents(make_photos, pool, config):
    source = make_photos(SIZES)
    estimate_kernels(source, pool, config, seed=5)
    assert state(pool).keys() == names(*SIZES)
    raws = []
    for batch in (["a", "b.x"], ["c"]):
        images = [to_float(read_uint8(source / f"{name}.png")) for name in batch]
        raws += list(train_kernelgans(images, config, [derive_seed(5, "kernels", name) for name in batch]))
    for name, raw in zip(SIZES, raws, strict=True):
        x2, x4 = (load_kernel(pool / "kernels" / f"{name}_kernel_x{scale}.mat") for scale in (2, 4))
        np.testing.assert_allclose(x2, postprocess(raw), atol=1e-9)
        np.testing.assert_allclose(x4, compose_x4(x2), atol=1e-12)
        stored = matlab.loadmat(pool / "kernels" / f"{name}_kernel_x4.mat")["Kernel"]
        assert stored.dtype == np.float64
        assert stored.sum() == pytest.approx(1, abs=1e-12)
    section = read_manifest(pool)["kernels"]
    assert section["complete"]
    assert section["seed"] == 5
    assert section["config"]["iterations"] == 3
    assert section["inputs"].keys() == {f"source/{name}.png" for name in SIZES}
    assert section["items"]["b.x"]["source"] == "b.x.png"


def test_again_does_nothing(make_photos, pool, config, monkeypatch):
    source = make_photos(SIZES)
    estimate_kernels(source, pool, config)
    before = state(pool)

    def refuse(path):
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr(estimation, "read_uint8", refuse)
    estimate_kernels(source, pool, config)
    estimate_kernels(source, pool, KernelGANConfig(iterations=3, batch=7))  # batch makes no difference
    assert state(pool) == before


def test_another_config_is_named_and_overwritten_when_asked(make_photos, pool, config):
    source = make_photos({"a": (70, 80)})
    estimate_kernels(source, pool, config)
    before, kernel = state(pool), load_kernel(pool / "kernels" / "a_kernel_x2.mat")
    other = KernelGANConfig(iterations=2, batch=2)
    with pytest.raises(UserError, match=r"iterations: 3 there, 2 now(.|\n)*overwrite=true"):
        estimate_kernels(source, pool, other)
    with pytest.raises(UserError, match=r"seed: 0 there, 1 now"):
        estimate_kernels(source, pool, config, seed=1)
    assert state(pool) == before
    estimate_kernels(source, pool, other, overwrite=True)
    assert state(pool).keys() == before.keys()
    assert read_manifest(pool)["kernels"]["config"]["iterations"] == 2
    assert not np.array_equal(load_kernel(pool / "kernels" / "a_kernel_x2.mat"), kernel)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_photo_gets_the_same_image_and_seed_in_any_batch(make_photos, pool, config, tmp_path, monkeypatch, batch):
    def pretend(images, config, seeds, progress):
        """A kernel that tells its image and seed."""
        rngs = [
            np.random.default_rng([seed, int(image.sum() * 1000)]) for image, seed in zip(images, seeds, strict=True)
        ]
        return np.stack([rng.random((13, 13)) for rng in rngs])

    monkeypatch.setattr(estimation, "train_kernelgans", pretend)
    estimate_kernels(make_photos(SIZES), pool, config)
    few = make_photos({name: SIZES[name] for name in ("b.x", "c")}, "few")
    estimate_kernels(few, tmp_path / "other", KernelGANConfig(iterations=3, batch=batch))
    kernels = {name: load_kernel(pool / "kernels" / f"{name}_kernel_x2.mat") for name in SIZES}
    for name in ("b.x", "c"):
        np.testing.assert_array_equal(
            load_kernel(tmp_path / "other" / "kernels" / f"{name}_kernel_x2.mat"), kernels[name]
        )
    assert not np.array_equal(kernels["b.x"], kernels["c"])


def test_goes_on_after_an_interruption(make_photos, pool, config, monkeypatch):
    source, trained = make_photos(SIZES), []

    def interrupt(path, kernel):
        if path.name == "b.x_kernel_x4.mat":  # in the middle of the second photo
            raise KeyboardInterrupt
        estimation_save(path, kernel)

    def count(images, *rest):
        trained.append(len(images))
        return train_kernelgans(images, *rest)

    estimation_save = estimation.save_kernel
    with monkeypatch.context() as patch:
        patch.setattr(estimation, "save_kernel", interrupt)
        with pytest.raises(KeyboardInterrupt):
            estimate_kernels(source, pool, config)
    before = state(pool)
    assert list(read_manifest(pool)["kernels"]["items"]) == ["a"]
    monkeypatch.setattr(estimation, "train_kernelgans", count)
    estimate_kernels(source, pool, config)
    assert trained == [2]
    after = state(pool)
    assert after.keys() == names(*SIZES)
    for name in ("kernels/a_kernel_x2.mat", "kernels/a_kernel_x4.mat"):
        assert after[name] == before[name]
    assert read_manifest(pool)["kernels"]["complete"]


def test_bad_photos_do_not_stop_the_others(make_photos, pool, config):
    source = make_photos({**SIZES, "small": (65, 200)})
    whole = (source / "a.png").read_bytes()
    (source / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"2 of 4(.|\n)*a\.png(.|\n)*small\.png.*200x65 pixels.* needs 66"):
        estimate_kernels(source, pool, config)
    before = state(pool)
    assert before.keys() == names("b.x", "c")
    (source / "a.png").write_bytes(whole)
    (source / "small.png").unlink()
    estimate_kernels(source, pool, config)
    after = state(pool)
    assert after.keys() == names(*SIZES)
    assert after["kernels/c_kernel_x2.mat"] == before["kernels/c_kernel_x2.mat"]


def test_kernels_made_elsewhere_are_not_mixed_with_ours(make_photos, pool, config):
    (pool / "kernels" / "nested").mkdir(parents=True)
    (pool / "kernels" / "nested" / "x_kernel_x4.mat").touch()
    with pytest.raises(UserError, match="made elsewhere"):
        estimate_kernels(make_photos(SIZES), pool, config)
