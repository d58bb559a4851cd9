import weakref
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy import io as matlab

import realsr.kernels.estimation as estimation
import realsr.kernels.estimator as estimator
import realsr.kernels.kernelgan as kernelgan
import stages
from config_files import config_of, yaml_values
from realsr.core.errors import UserError
from realsr.core.seeding import derive_seed
from realsr.imaging import read_uint8, write_uint8
from realsr.imaging.kernel_shapes import compose_x4, load_kernel, postprocess
from realsr.kernels.gates import check_health
from realsr.kernels.kernelgan import prepare_photo
from realsr.kernels.kernelgan_training import Estimates, KernelGANConfig, train_kernelgans
from realsr.kernels.spectral import Spectral, fit_photo
from realsr.provenance.manifest import read_manifest
from realsr.provenance.sections import MANIFEST

KERNELGAN = partial(yaml_values, "kernels/kernelgan")
SPECTRUM = partial(yaml_values, "kernels/spectral")
SIZES = {"a": (70, 80), "b.x": (90, 66), "c": (72, 72)}


@pytest.fixture
def config():
    return KERNELGAN(iterations=3, batch=2, gates=None)


def estimate_kernels(*arguments: Any, **rest: Any) -> None:
    """Do the stage, and raise what went wrong, as the command does."""
    stages.estimate_kernels(*arguments, **rest).check()


@pytest.fixture
def pool(tmp_path):
    return tmp_path / "work" / "pool"


def state(pool):
    return {
        path.relative_to(pool).as_posix(): path.stat().st_mtime_ns
        for path in pool.rglob("*")
        if path.is_file()
    }


def names(*photos: str) -> set[str]:
    return {f"kernels/{photo}_kernel_x{scale}.mat" for photo in photos for scale in (2, 4)} | {
        MANIFEST
    }


def losses_of(count: int) -> dict[str, np.ndarray]:
    return {name: np.full(count, 0.25) for name in ("generator", "discriminator", "bicubic")}


def test_files_names_and_contents(make_photos, pool, config):
    source = make_photos(SIZES)
    estimate_kernels(source, pool, config, seed=5)
    assert state(pool).keys() == names(*SIZES)
    raws = []
    for batch in (["a", "b.x"], ["c"]):
        seeds = [derive_seed(5, "kernels", name) for name in batch]
        images = [read_uint8(source / f"{name}.png").copy() for name in batch]
        short = config_of(KernelGANConfig, 3, config["learning_rate"], config["border"])
        photos = [
            prepare_photo(image, short, [seed])[0]
            for image, seed in zip(images, seeds, strict=True)
        ]
        raws += list(train_kernelgans(photos, short, seeds).kernels)
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

    def refuse(path, damaged):
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr(estimator, "read_uint8_and_damage", refuse)
    estimate_kernels(source, pool, config)
    estimate_kernels(
        source, pool, KERNELGAN(iterations=3, batch=7, gates=None)
    )  # batch makes no difference
    assert state(pool) == before


def test_another_config_is_named_and_overwritten_when_asked(make_photos, pool, config):
    source = make_photos({"a": (70, 80)})
    estimate_kernels(source, pool, config)
    before, kernel = state(pool), load_kernel(pool / "kernels" / "a_kernel_x2.mat")
    other = KERNELGAN(iterations=2, batch=2, gates=None)
    with pytest.raises(UserError, match=r"iterations: was 3, now 2(.|\n)*overwrite=true"):
        estimate_kernels(source, pool, other)
    with pytest.raises(UserError, match=r"seed: was 0, now 1"):
        estimate_kernels(source, pool, config, seed=1)
    assert state(pool) == before
    estimate_kernels(source, pool, other, overwrite=True)
    assert state(pool).keys() == before.keys()
    assert read_manifest(pool)["kernels"]["config"]["iterations"] == 2
    assert not np.array_equal(load_kernel(pool / "kernels" / "a_kernel_x2.mat"), kernel)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_kernel_is_the_same_in_any_batch(make_photos, pool, config, tmp_path, batch):
    estimate_kernels(make_photos(SIZES), pool, config)
    few = make_photos({name: SIZES[name] for name in ("b.x", "c")}, "few")
    estimate_kernels(few, tmp_path / "other", KERNELGAN(iterations=3, batch=batch, gates=None))
    kernels = {name: load_kernel(pool / "kernels" / f"{name}_kernel_x2.mat") for name in SIZES}
    for name in ("b.x", "c"):
        np.testing.assert_array_equal(
            load_kernel(tmp_path / "other" / "kernels" / f"{name}_kernel_x2.mat"), kernels[name]
        )
    assert not np.array_equal(kernels["b.x"], kernels["c"])


def test_photos_none_of_which_can_be_read_are_named(make_photos, pool, config):
    source = make_photos(SIZES)
    for path in source.iterdir():
        path.write_bytes(b"no photo")
    with pytest.raises(UserError, match=r"3 of 3 failed:(\n.*is not a supported image.*){3}"):
        estimate_kernels(source, pool, config)


def test_goes_on_after_an_interruption(make_photos, pool, config, monkeypatch):
    source, trained = make_photos(SIZES), []

    def interrupt(path, kernel, **options):
        if path.name == "b.x_kernel_x4.mat":  # in the middle of the second photo
            raise KeyboardInterrupt
        estimation_save(path, kernel, **options)

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
    monkeypatch.setattr(kernelgan, "train_kernelgans", count)
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
    with pytest.raises(
        UserError, match=r"2 of 4(.|\n)*a\.png(.|\n)*small\.png.*200x65 pixels.* at least 66x66"
    ):
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


def blob(centre: float = 6.5, sigma: float = 1.5, total: float = 1) -> np.ndarray:
    row = np.exp(-((np.arange(13) - centre) ** 2) / (2 * sigma**2))
    return total * np.outer(row, row) / row.sum() ** 2


@pytest.fixture
def train(monkeypatch):
    """Lets training yield the given kernels, one after the other; counts its batches."""

    def prepare(*kernels: np.ndarray) -> list[int]:
        queue, sizes = iter(kernels), []

        def pretend(photos, config, seeds, progress, device):
            sizes.append(len(photos))
            return Estimates(np.stack([next(queue) for _ in photos]), losses_of(len(photos)))

        monkeypatch.setattr(kernelgan, "train_kernelgans", pretend)
        return sizes

    return prepare


def test_unsound_kernels_are_kept_apart_and_gates_may_move(make_photos, pool, train, caplog):
    source = make_photos({**SIZES, "d": (70, 70)})
    batches = train(blob(), blob(total=0.01), np.full((13, 13), np.nan), -blob())
    estimate_kernels(source, pool, config := KERNELGAN(batch=4))
    items = read_manifest(pool)["kernels"]["items"]
    files = names("a") | {f"rejected/b.x_kernel_x{scale}.mat" for scale in (2, 4)}
    files |= (
        {f"rejected/d_kernel_x{scale}.mat" for scale in (2, 4)} if items["d"]["files"] else set()
    )
    assert state(pool).keys() == files
    assert items["a"]["rejected"] == []
    assert items["b.x"]["rejected"] == ["sum 0.01 is below min_sum 0.1"]
    assert "no kernel has a positive sum" in items["c"]["rejected"][0]
    assert items["d"]["rejected"]
    assert "3 of 4 photos have no usable kernel" in caplog.text
    assert "b.x: sum 0.01 is below min_sum 0.1" in caplog.text
    assert read_manifest(pool)["kernels"]["complete"]
    assert read_manifest(pool)["kernels"]["notes"]["gates"]["min_sum"] == 0.1
    before = state(pool)
    estimate_kernels(source, pool, config)
    assert state(pool) == before

    lower = KERNELGAN(gates=config["gates"] | {"min_sum": 0.005})
    estimate_kernels(source, pool, lower)
    assert names("a", "b.x") <= state(pool).keys()
    assert read_manifest(pool)["kernels"]["items"]["b.x"]["rejected"] == []
    estimate_kernels(source, pool, config)
    assert read_manifest(pool)["kernels"]["items"] == items
    assert batches == [4], "nothing is estimated again"


def test_a_photo_without_detail_has_no_kernel_and_the_others_have(
    make_photos, pool, config, caplog
):
    source = make_photos({"a": (70, 80)})
    shape, rng = (80, 90, 3), np.random.default_rng(0)
    bad = {
        "black": np.zeros(shape),
        "colour": np.ones(shape) * [200, 30, 77],
        "noise": rng.normal(128, 20, shape),
        "white": np.full(shape, 255),
    }
    for name, pixels in bad.items():
        write_uint8(source / f"{name}.png", pixels.round().clip(0, 255).astype(np.uint8))
    for method, values in (
        ("kernelgan", config),
        ("spectral", SPECTRUM(gates={"min_signal": 0.02})),
    ):
        estimate_kernels(source, pool / method, values)
        items = read_manifest(pool / method)["kernels"]["items"]
        assert not any(items[name]["files"] for name in bad if name != "noise")
        assert all(items[name]["rejected"] for name in bad)
        for name in ("black", "colour", "white"):
            assert f"{name}: the photo is flat" in caplog.text
        caplog.clear()
    assert (
        "only noise"
        in read_manifest(pool / "kernelgan")["kernels"]["items"]["noise"]["rejected"][0]
    )
    before = state(pool)
    estimate_kernels(source, pool / "kernelgan", config)
    assert state(pool) == before


def test_no_sound_kernel_at_all(make_photos, pool, train):
    source, batches = make_photos(SIZES), train(*[blob(total=0.01)] * 3)
    for _ in range(2):
        with pytest.raises(
            UserError, match=r"none of 3 photos has a usable kernel(.|\n)*kernels\.gates=null"
        ):
            estimate_kernels(source, pool, KERNELGAN(batch=4))
    assert read_manifest(pool)["kernels"]["complete"]
    assert batches == [3]


def test_seeds_of_a_photo_share_a_batch_and_its_pixels(make_photos, pool, monkeypatch):
    source, seen = make_photos(SIZES), []

    def watch(photos, config, seeds, progress, device):
        seen.append((photos, list(seeds)))
        return Estimates(
            np.stack([blob(sigma=1.2), blob(sigma=1.6), blob(sigma=1.5)] * (len(photos) // 3)),
            losses,
        )

    losses = {name: np.arange(6) / 10 for name in ("generator", "discriminator", "bicubic")}
    monkeypatch.setattr(kernelgan, "train_kernelgans", watch)
    estimate_kernels(
        source,
        pool,
        KERNELGAN(iterations=3, batch=6, seeds=3, combine="medoid", gates=None),
        seed=4,
    )
    assert [len(seeds) for _, seeds in seen] == [6, 3]
    photos, seeds = seen[0]
    assert len(set(seeds)) == 6
    assert seeds[0] == derive_seed(4, "kernels", "a"), "the seed that it has alone"
    pixels = [photo.pixels.data_ptr() for photo in photos]
    assert len(set(pixels)) == 2
    assert not np.array_equal(photos[0].g_crops, photos[1].g_crops)
    for name in SIZES:
        item = read_manifest(pool)["kernels"]["items"][name]
        assert item["chosen"] == 2
        assert item["health"]["agreement"] > 20
    assert read_manifest(pool)["kernels"]["items"]["b.x"]["health"]["generator"] == pytest.approx(
        0.5
    )
    np.testing.assert_allclose(
        load_kernel(pool / "kernels/a_kernel_x2.mat"), postprocess(blob(sigma=1.5)), atol=1e-12
    )


@pytest.mark.parametrize(("free", "sizes"), [(10**12, [3]), (10**6, [1, 1, 1]), (None, [3])])
def test_a_batch_fits_into_free_memory(make_photos, pool, train, monkeypatch, free, sizes):
    batches = train(*[blob()] * 3)
    monkeypatch.setattr(kernelgan, "free_memory", lambda device: free)
    estimate_kernels(make_photos(SIZES), pool, KERNELGAN())
    assert batches == sizes


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": 0},
        {"batch": 0},
        {"combine": "median"},
        {"iterations": 0},
        {"average_from": 3000},
        {"device": "abacus"},
        {"name": "magic"},
    ],
)
def test_settings_that_mean_nothing(make_photos, pool, change):
    with pytest.raises(UserError, match=f"kernels.{next(iter(change))}"):
        estimate_kernels(make_photos(SIZES), pool, KERNELGAN(**change))
    assert not pool.exists()


def test_recorded_health_is_that_of_the_files(make_photos, pool, train):
    train(blob(6.2, 1.1, 0.9))
    estimate_kernels(make_photos({"a": (70, 80)}), pool, KERNELGAN())
    health = read_manifest(pool)["kernels"]["items"]["a"]["health"]
    assert check_health(health, KERNELGAN()["gates"]) == []
    assert health["sum"] == pytest.approx(0.9)
    assert health["centre_offset"] == pytest.approx(0.3 * 2**0.5, abs=0.05)
    assert "agreement" not in health


def test_photos_are_let_go_before_the_next_are_read(make_photos, pool, train, monkeypatch):
    train(*[blob()] * 3)
    held: list[weakref.ref] = []

    def watch(image, config, seeds):
        assert not [ref for ref in held if ref() is not None]
        photos = prepare_photo(image, config, seeds)
        held.append(weakref.ref(photos[0].pixels))
        return photos

    monkeypatch.setattr(kernelgan, "prepare_photo", watch)
    estimate_kernels(make_photos(SIZES), pool, KERNELGAN(iterations=3, batch=1))
    assert len(held) == 3


SPECTRAL = {"a": (150, 120), "b": (100, 130), "c": (96, 96)}


@pytest.mark.parametrize("workers", [0, 2])
def test_the_spectral_method_in_any_number_of_processes(make_photos, pool, workers):
    source = make_photos(SPECTRAL)
    config = SPECTRUM(gates=None)
    estimate_kernels(source, pool, config, workers=workers)
    assert state(pool).keys() == names(*SPECTRAL)
    items = read_manifest(pool)["kernels"]["items"]
    assert list(items) == sorted(SPECTRAL)
    for name in SPECTRAL:
        spectral = Spectral(
            **{key: value for key, value in config.items() if key not in ("name", "gates")},
            workers=0,
        )
        expected = fit_photo(read_uint8(source / f"{name}.png"), spectral)
        kernel = load_kernel(pool / "kernels" / f"{name}_kernel_x2.mat")
        np.testing.assert_allclose(kernel, expected.kernel(2), rtol=1e-12)
        health = items[name]["health"]
        assert (health["residual"], health["signal"]) == (expected.residual, expected.signal)
        assert "generator" not in health
    before = state(pool)
    estimate_kernels(source, pool, config, seed=0, workers=workers)
    assert state(pool) == before


def test_the_spectral_method_leaves_bad_photos_out(make_photos, pool):
    source = make_photos(SPECTRAL)
    noise = np.random.default_rng(0).normal(128, 3, (200, 200, 3)).round().astype(np.uint8)
    write_uint8(source / "noise.png", noise)
    write_uint8(source / "small.png", noise[:63])
    with pytest.raises(UserError, match=r"1 of 5(.|\n)*small\.png.*200x63 pixels"):
        estimate_kernels(source, pool, SPECTRUM())
    (reason,) = read_manifest(pool)["kernels"]["items"]["noise"]["rejected"]
    assert reason.startswith("signal")
    assert (pool / "rejected" / "noise_kernel_x2.mat").is_file()


def test_methods_are_told_apart_and_what_they_do_not_use_is_not(make_photos, pool):
    source = make_photos(SPECTRAL)
    estimate_kernels(source, pool, SPECTRUM(gates=None))
    assert read_manifest(pool)["kernels"]["config"].keys() == SPECTRUM().keys() - {"gates"}
    other = SPECTRUM(gates=None, exponent=2.4)
    for config in (KERNELGAN(gates=None), other):
        with pytest.raises(UserError, match="overwrite=true"):
            estimate_kernels(source, pool, config)
