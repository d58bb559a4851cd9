import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import io as matlab
from scipy import ndimage

from config_files import yaml_values
from realsr.core.errors import UserError
from realsr.core.mat_variables import MatFileError
from realsr.imaging.kernel_shapes import compose_x4, load_kernel, save_kernel
from realsr.kernels.from_mat import read_mat_kernels
from realsr.pools.contents import list_kernels
from realsr.provenance.manifest import read_manifest
from realsr.simulation.camera_model import anisotropic_kernel
from stages import estimate_kernels


def import_kernels(pool: Path, folder: Path, scale: int, align: bool = True) -> None:
    values = yaml_values("kernels/from_mat", folder=str(folder), align=align)
    estimate_kernels(None, pool, values, scale, key="pool.estimator").check()


def names(pool):
    return sorted(path.name for path in (pool / "kernels").iterdir())


def times(pool):
    return {path.name: path.stat().st_mtime_ns for path in (pool / "kernels").iterdir()}


@pytest.fixture
def kernels():
    return [anisotropic_kernel(size, (1 + size / 10, 1.2), 20 * size, 2) for size in (9, 11, 13)]


@pytest.fixture
def mats(tmp_path, kernels):
    folder = tmp_path / "mats"
    (folder / "deep").mkdir(parents=True)
    cells = np.empty((1, 3), dtype=object)
    cells[0] = [kernel * 3 for kernel in kernels]
    matlab.savemat(
        folder / "cells.mat",
        {"kernels": cells, "note": "text", "count": 3.0, "row": np.ones((1, 4))},
    )
    matlab.savemat(folder / "stack.mat", {"k": np.stack([kernels[0], kernels[0].T], axis=2)})
    matlab.savemat(
        folder / "two.mat", {"a": kernels[1].astype(np.float32), "b": np.stack([kernels[2]] * 4)}
    )
    save_kernel(folder / "deep/photo_kernel_x2.mat", kernels[1])
    save_kernel(folder / "deep/photo_kernel_x4.mat", compose_x4(kernels[1]))
    return folder


def test_every_kernel_of_every_file_is_taken_over_normalised(tmp_path, mats, kernels):
    pool = tmp_path / "pool"
    import_kernels(pool, mats, 2, align=False)
    expected = {
        **{f"cells_{i:03d}": kernel for i, kernel in enumerate(kernels)},
        "stack_000": kernels[0],
        "stack_001": kernels[0].T,
        "two_000": kernels[1],
        **{f"two_{i:03d}": kernels[2] for i in range(1, 5)},
        "deep_photo_000": kernels[1],
    }
    assert names(pool) == sorted(f"{name}_kernel_x2.mat" for name in expected)
    for name, kernel in expected.items():
        found = load_kernel(pool / "kernels" / f"{name}_kernel_x2.mat")
        np.testing.assert_allclose(found, kernel / kernel.sum(), atol=1e-7)
    items = read_manifest(pool)["kernels"]["items"]
    assert items["two"]["source"] == "two.mat"
    assert items["two"]["kernels"] == ["a[0]", "b[0]", "b[1]", "b[2]", "b[3]"]
    assert set(read_manifest(pool)["kernels"]["inputs"]) == {
        f"mat/{n}.mat" for n in ("cells", "stack", "two", "deep_photo")
    }
    before = times(pool)
    import_kernels(pool, mats, 2, align=False)
    assert times(pool) == before


@pytest.mark.parametrize("scale", [2, 4])
def test_kernels_are_moved_to_where_the_scale_has_them(tmp_path, mats, scale):
    import_kernels(tmp_path / "pool", mats, scale)
    for path in list_kernels(tmp_path / "pool", scale):
        kernel = load_kernel(path)
        centre = [side // 2 + (scale - 1) / 2 for side in kernel.shape]
        assert ndimage.center_of_mass(kernel) == pytest.approx(centre, abs=0.05)
        assert kernel.sum() == pytest.approx(1)


def test_one_variable_can_be_named(tmp_path, mats, kernels):
    assert list(read_mat_kernels(mats / "two.mat", "a")) == ["a"]
    with pytest.raises(
        MatFileError,
        match=r"no variable c; the file holds a, b\. Set pool\.estimator\.key to one of them",
    ):
        read_mat_kernels(mats / "two.mat", "c")


def test_bad_files_are_named_and_the_others_done(tmp_path, mats):
    (mats / "torn.mat").write_bytes((mats / "two.mat").read_bytes()[:200])
    matlab.savemat(mats / "text.mat", {"title": "no kernel", "n": 5})
    matlab.savemat(mats / "zero.mat", {"k": np.zeros((5, 5))})
    with pytest.raises(UserError, match="kernels: 3 of 7 failed") as caught:
        import_kernels(tmp_path / "pool", mats, 2)
    for log in (
        "torn.mat: not a readable",
        "text.mat: no kernel; the file holds title, n",
        "zero.mat: variable k: a",
    ):
        assert log in str(caught.value)
    assert len(names(tmp_path / "pool")) == 11
    for name in ("torn", "text", "zero"):
        (mats / f"{name}.mat").unlink()
    import_kernels(tmp_path / "pool", mats, 2)
    assert read_manifest(tmp_path / "pool")["kernels"]["complete"]


def test_folders_that_cannot_be_taken_from(tmp_path, mats):
    for folder, scale, log in (
        (tmp_path / "nowhere", 2, "no such folder"),
        (tmp_path, 2, "written below it"),
        (mats / "deep", 3, r"no \.mat files for scale 3 \(2 files are for another scale\)"),
    ):
        with pytest.raises(UserError, match=log):
            import_kernels(tmp_path / "pool", folder, scale)
    save_kernel(mats / "deep_photo.mat", np.ones((5, 5)))
    with pytest.raises(UserError, match="both get the name deep_photo"):
        import_kernels(tmp_path / "pool", mats, 2)


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_arrays_that_exceed_the_limit_together_are_refused(tmp_path, monkeypatch, version):
    path, array = tmp_path / "arrays.mat", np.ones((64, 64))
    if version == "5":
        matlab.savemat(path, {"a": array, "b": array}, do_compression=True)
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for name in ("a", "b"):
                file.create_dataset(name, data=array, compression="gzip")
    assert list(read_mat_kernels(path)) == ["a", "b"]
    # Each array, and the file with its decompressed content, stays below this limit.
    limit = 2 * array.nbytes - 1
    assert path.stat().st_size < array.nbytes + 1000 < limit
    monkeypatch.setattr("realsr.core.mat_variables.MAX_BYTES", limit)
    message = f"its arrays declare {2 * array.nbytes} bytes, at most {limit} are read"
    with pytest.raises(MatFileError, match=message):
        read_mat_kernels(path)
    monkeypatch.setattr("realsr.core.mat_variables.MAX_BYTES", limit + 1)
    assert list(read_mat_kernels(path)) == ["a", "b"]


def test_matlab_7_3_holds_the_same_the_other_way_round(tmp_path, kernels):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "new.mat"
    rng = np.random.default_rng(0)
    stack = rng.random((5, 5, 3))
    with h5py.File(path, "w", userblock_size=512) as file:
        cells = file.create_dataset("cells", (2, 1), dtype=h5py.ref_dtype)
        cells.attrs["MATLAB_class"] = np.bytes_("cell")
        for index, kernel in enumerate(kernels[:2]):  # MATLAB's columns are HDF5's rows
            node = file.create_dataset(f"#refs#/{index}", data=kernel.T)
            node.attrs["MATLAB_class"] = np.bytes_("double")
            cells[index, 0] = node.ref
        file.create_dataset("stack", data=stack.T).attrs["MATLAB_class"] = np.bytes_("double")
        file.create_dataset("text", data=np.ones((4, 4), np.uint16)).attrs["MATLAB_class"] = (
            np.bytes_("char")
        )
        file.create_group("settings").attrs["MATLAB_class"] = np.bytes_("struct")
    header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    with path.open("r+b") as raw:
        raw.write(header)
    found = read_mat_kernels(path)
    assert list(found) == ["cells", "stack"]
    for kernel, there in zip(kernels[:2], found["cells"], strict=True):
        np.testing.assert_allclose(there, kernel)
    for index, there in enumerate(found["stack"]):
        np.testing.assert_allclose(there, stack[..., index] / stack[..., index].sum())


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "new.mat").write_bytes(
        b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(900)
    )
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MatFileError, match=r"needs h5py: pip install 'realsr\[mat73\]'"):
        read_mat_kernels(tmp_path / "new.mat")
    monkeypatch.undo()
    pytest.importorskip("h5py")
    with pytest.raises(MatFileError, match="not a readable"):
        read_mat_kernels(tmp_path / "new.mat")


def test_published_kernels(shared):
    pytest.importorskip("h5py")
    counts = {"kernels_12": 12, "Levin09": 8, "kernels_bicubicx234": 3}
    for name, count in counts.items():
        (kernels,) = read_mat_kernels(shared(f"data/kernels/{name}.mat")).values()
        assert len(kernels) == count
        assert all(
            kernel.sum() == pytest.approx(1) and kernel.shape[0] == kernel.shape[1]
            for kernel in kernels
        )
