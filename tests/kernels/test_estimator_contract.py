"""What every option of the group `kernels` promises, and what an estimator of the user's own may do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from config_files import yaml_values
from realsr.config.options import list_options
from realsr.core.errors import UserError
from realsr.imaging.kernel_shapes import load_kernel, save_kernel
from realsr.kernels.estimation import KernelPool
from realsr.kernels.estimator import PhotoTags, SourcePhoto
from realsr.pools.contents import list_kernels
from realsr.provenance.manifest import Shard, read_manifest
from realsr.simulation.camera_model import anisotropic_kernel
from stages import estimate_kernels, make_estimator

SIZES = {"a": (150, 120), "b": (100, 130), "c": (96, 96)}
SMALL: dict[str, dict[str, Any]] = {
    "camera": {"draws": 2, "gates": None},
    "from_mat": {"folder": "mats"},
    "gaussian": {"count": 3},
    "gaussian_isotropic": {"count": 3},
    "kernelgan": {"iterations": 3, "gates": None},
    "kernelgan_steady": {"iterations": 3, "average_from": 1, "gates": None},
    "spectral": {"gates": None},
}


@pytest.fixture
def source(
    make_photos: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, angle in (("x", 10), ("y", 50)):
        (tmp_path / "mats").mkdir(exist_ok=True)
        save_kernel(
            tmp_path / f"mats/{name}.mat", anisotropic_kernel(21, (2.0, 1.2), angle, scale=2)
        )
    return make_photos(SIZES)


def contents(pool: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (pool / "kernels").iterdir()}


def make(option: str, source: Path, pool: Path, scale: int = 2, **rest: Any) -> KernelPool:
    made = estimate_kernels(
        source, pool, yaml_values(f"kernels/{option}", **SMALL[option]), scale, **rest
    )
    made.check()
    return made


def test_every_option_is_tested() -> None:
    assert sorted(SMALL) == list_options("kernels")


@pytest.mark.parametrize("option", SMALL)
def test_kernels_sum_to_one_and_are_aligned_at_their_scale(
    option: str, source: Path, tmp_path: Path
) -> None:
    values = yaml_values(f"kernels/{option}", **SMALL[option])
    scales = (1, 2, 3, 4, 8)
    if option != "from_mat":
        scales = make_estimator(values, "kernels", 2)[0].scales
    for scale in scales:
        pool = tmp_path / f"pool_x{scale}"
        made = make(option, source, pool, scale)
        assert (made.error, made.rejects, made.has_changes) == (None, {}, True)
        assert (
            read_manifest(pool)["kernels"]["config"]["name"]
            == yaml_values(f"kernels/{option}")["name"]
        )
        for path in list_kernels(pool, scale):
            kernel = load_kernel(path)
            assert kernel.dtype == np.float64
            assert kernel.sum() == pytest.approx(1)
            assert np.isfinite(kernel).all()
            if not option.startswith("kernelgan"):  # whose three iterations have made no kernel yet
                centre = [side // 2 + (scale - 1) / 2 for side in kernel.shape]
                assert ndimage.center_of_mass(kernel) == pytest.approx(centre, abs=0.15)


@pytest.mark.parametrize("option", sorted(SMALL.keys() - {"from_mat"}))
def test_a_finished_pool_gets_the_files_of_a_further_scale(
    option: str, source: Path, tmp_path: Path
) -> None:
    pool, new = tmp_path / "pool", tmp_path / "new"
    count = 3 * SMALL[option].get("draws", 1)
    make(option, source, pool, 4)
    before = contents(pool)
    assert {name[-7:] for name in before} == {"_x2.mat", "_x4.mat"}
    assert make(option, source, pool, 8).has_changes
    make(option, source, new, 8)
    after = contents(pool)
    assert after == contents(new), "whether derived at once or later"
    assert {name: after[name] for name in before} == before
    assert {name[-7:] for name in after.keys() - before.keys()} == {"_x8.mat"}
    for scale in (2, 4, 8):
        assert not make(option, source, pool, scale).has_changes
        assert len(list_kernels(pool, scale)) == count
    make(option, source, pool, 1)
    assert {name[-7:] for name in contents(pool).keys() - after.keys()} == {"_x1.mat"}
    list_kernels(pool, 1)[0].unlink()
    assert make(option, source, pool, 1).has_changes
    assert len(list_kernels(pool, 1)) == count
    for index in (1, 0):
        make(option, source, tmp_path / "parts", 8, shard=Shard(index, 2))
    make(option, source, tmp_path / "parts", 8)
    assert contents(tmp_path / "parts") == after


def test_kernelgan_refuses_scale_3_and_names_who_makes_it(source: Path, tmp_path: Path) -> None:
    values = yaml_values("kernels/kernelgan", **SMALL["kernelgan"])
    expected = (
        r"scale=3: kernels\.name=kernelgan makes kernels for scales 1, 2, 4 and 8; "
        r"set kernels=spectral, pool=gaussian or pool=from_mat"
    )
    with pytest.raises(UserError, match=expected):
        estimate_kernels(source, tmp_path / "pool", values, 3)
    assert not (tmp_path / "pool").exists()
    with pytest.raises(UserError, match=r"scale=5: .* 3, 4 and 8; set pool=from_mat"):
        make_estimator(yaml_values("kernels/spectral"), "kernels", 5)


@pytest.mark.parametrize("option", SMALL)
def test_a_result_depends_neither_on_order_nor_on_workers_nor_on_shards(
    option: str, source: Path, tmp_path: Path
) -> None:
    make(option, source, tmp_path / "whole", seed=3)
    make(option, source, tmp_path / "workers", seed=3, workers=2)
    for index in (1, 0):
        make(option, source, tmp_path / "parts", seed=3, shard=Shard(index, 2))
    assert not make(option, source, tmp_path / "parts", seed=3).rejects
    expected = contents(tmp_path / "whole")
    assert contents(tmp_path / "workers") == expected
    assert contents(tmp_path / "parts") == expected
    assert make(option, source, tmp_path / "whole", seed=3).has_changes is False


@pytest.mark.parametrize("option", SMALL)
def test_what_is_reported_is_declared_and_gates_are_of_it(
    option: str, source: Path, tmp_path: Path
) -> None:
    estimator, _ = make_estimator(yaml_values(f"kernels/{option}", **SMALL[option]), "kernels", 2)
    assert estimator.runtime_only <= yaml_values(f"kernels/{option}").keys()
    for item in make(option, source, tmp_path / "pool").items.values():
        assert set(item.get("health", {})) <= set(estimator.numbers)
    values = yaml_values(f"kernels/{option}", **SMALL[option]) | {"gates": {"max_x": 9}}
    with pytest.raises(
        UserError,
        match=r"kernels\.gates\.max_x: expected min_ or max_ and the name of a reported number ",
    ):
        estimate_kernels(source, tmp_path / "refused", values, 2)
    assert not (tmp_path / "refused").exists()


JOINT = '''
import numpy as np

from realsr.imaging import ImageError
from realsr.kernels.estimator import KernelEstimate, NoKernelError, Observation
from realsr.simulation.camera_model import anisotropic_kernel


class Camera:
    """Three draws a photo: round kernels as wide as the photos of its width differ, all photos at once."""

    inputs, joint, scales, steps, unit = "source", True, (2, 4), 1, ""
    numbers = ("widest",)
    runtime_only = frozenset({"log"})

    def __init__(self, draws: int, log: str, scale: int):
        self.draws, self.log = draws, log

    def observe(self, photos, seed, advance):
        for photo in photos:
            with open(self.log, "a") as file:
                file.write(photo.name + "\\n")
            advance(1)
            try:
                pixels, damage = photo.read()
            except ImageError as error:
                yield {photo.name: error}
                continue
            if pixels.std() == 0:
                yield {photo.name: NoKernelError("it is flat")}
            else:
                yield {photo.name: Observation({"spread": pixels.std(), "width": photo.tags.width}, damage)}

    def estimate(self, observations, seed):
        mean = np.mean([values.values["spread"] for values in observations.values()])
        estimates = {}
        for name, observation in observations.items():
            widths = [1 + draw / 4 + observation.values["spread"] / mean / 4 for draw in range(self.draws)]
            kernels = {s: [anisotropic_kernel(33, (w, w), 0, scale=s) for w in widths] for s in (2, 4)}
            estimates[name] = KernelEstimate(kernels, {"widest": widths[-1]})
        return estimates
'''


@pytest.fixture
def camera(own_modules: Path) -> Callable[..., KernelPool]:
    (own_modules / "own_camera.py").write_text(JOINT)

    def run(source: Path, pool: Path, **rest: Any) -> KernelPool:
        gates = rest.pop("gates", None)
        values = {
            "name": "own_camera.Camera",
            "draws": rest.pop("draws", 3),
            "log": str(pool) + ".log",
            "gates": gates,
        }
        return estimate_kernels(source, pool, values, **rest)

    return run


def log(pool: Path) -> list[str]:
    return Path(f"{pool}.log").read_text().split()


def test_an_own_joint_estimator_sees_all_photos_and_gives_several_kernels(
    camera: Callable[..., KernelPool], source: Path, tmp_path: Path
) -> None:
    pool = tmp_path / "pool"
    made = camera(source, pool)
    made.check()
    names = [f"{name}_{draw:03d}_kernel_x4.mat" for name in "abc" for draw in range(3)]
    assert [path.name for path in list_kernels(pool, 4)] == names
    assert log(pool) == ["a", "b", "c"]
    assert set(read_manifest(pool)) == {"observations", "kernels"}
    assert set(read_manifest(pool)["kernels"]["inputs"]) == {
        f"observations/{name}.npz" for name in "abc"
    }
    assert read_manifest(pool)["kernels"]["config"] == {
        "name": "own_camera.Camera",
        "draws": 3,
        "scale": 4,
    }
    (tmp_path / "few").mkdir()
    for name in "ab":
        (tmp_path / "few" / f"{name}.png").write_bytes((source / f"{name}.png").read_bytes())
    camera(tmp_path / "few", tmp_path / "other").check()
    assert (
        contents(tmp_path / "other")["a_000_kernel_x2.mat"] != contents(pool)["a_000_kernel_x2.mat"]
    )
    assert made.items["a"]["health"]["widest"] > 1


def test_an_own_joint_estimator_goes_on_and_can_be_shared_out(
    camera: Callable[..., KernelPool], source: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    camera(source, whole).check()
    assert not camera(source, whole).has_changes
    assert log(whole) == ["a", "b", "c"], "nothing is observed twice"
    for index in range(2):
        assert not camera(source, parts, shard=Shard(index, 2)).items
    assert not (parts / "kernels").exists()
    camera(source, parts).check()
    assert sorted(log(parts)) == ["a", "b", "c"]
    assert contents(parts) == contents(whole)
    (whole / "kernels/b_001_kernel_x2.mat").unlink()
    camera(source, whole).check()
    assert log(whole) == ["a", "b", "c"], "kernels are made again from what is stored"
    assert contents(parts) == contents(whole)


def test_an_own_joint_estimator_has_gates_and_photos_without_a_kernel(
    camera: Callable[..., KernelPool], source: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (90, 90), "white").save(source / "flat.png")
    (source / "torn.png").write_bytes(b"no photo")
    with pytest.raises(UserError, match=r"observations: 1 of 5 failed(.|\n)*torn\.png"):
        camera(source, tmp_path / "pool")
    assert not (tmp_path / "pool/kernels").exists(), "kernels of some photos would be others"
    (source / "torn.png").unlink()
    made = camera(source, tmp_path / "pool", gates={"max_widest": 1})
    assert made.items["flat"]["rejected"] == ["it is flat"]
    assert "is above max_widest 1" in made.items["a"]["rejected"][0]
    with pytest.raises(UserError, match="none of 4 photos has a usable kernel"):
        made.check()
    made = camera(source, tmp_path / "pool")
    made.check()
    assert set(made.rejects) == {"flat"}
    assert len(list_kernels(tmp_path / "pool", 2)) == 9
    with pytest.raises(UserError, match="draws: was 3, now 2"):
        camera(source, tmp_path / "pool", draws=2)


def test_tags_of_a_photo(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0110], exif[0x0112] = "Phone 3", 6
    exif.get_ifd(0x8769).update({0xA434: "back lens", 0x920A: 3.85})
    Image.new("RGB", (80, 60)).save(tmp_path / "a.jpg", exif=exif)
    tags = SourcePhoto("a", tmp_path / "a.jpg", "refuse").tags
    assert tags == PhotoTags("Phone 3", "back lens", pytest.approx(3.85), 6, 80, 60)
    Image.new("RGB", (80, 60)).save(tmp_path / "b.png")
    assert SourcePhoto("b", tmp_path / "b.png", "refuse").tags == PhotoTags(
        None, None, None, 1, 80, 60
    )
