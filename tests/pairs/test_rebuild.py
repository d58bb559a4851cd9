import hashlib
import json
import logging

import numpy as np
import pytest

from config_files import config_of
from realsr.core.errors import UserError
from realsr.imaging import encode_zlib_png, read_uint8, write_uint8
from realsr.imaging.kernel_shapes import save_kernel
from realsr.pairs.pairs_config import PairsConfig
from realsr.simulation.camera_model import anisotropic_kernel
from stages import make_pairs, rebuild_pair


@pytest.fixture(params=["pool", "bicubic"])
def work(make_photos, tmp_path, request):
    """Pairs of three photos; what they were made from is beside them."""
    for name in "abc":
        path = tmp_path / "pool" / "kernels" / "sub" / f"{name}_kernel_x4.mat"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_kernel(path, anisotropic_kernel(13, (2.0, 1.0 + ord(name) / 100), 30, 4))
    source = make_photos({"0801": (90, 131), "p1": (66, 80), "p2": (64, 64)})
    pool = tmp_path / "pool" if request.param == "pool" else None
    make_pairs(source, None, pool, tmp_path / "pairs", config_of(PairsConfig), 4, seed=3)
    return tmp_path


def rebuild(work, name="0801", source="source"):
    return rebuild_pair(
        name, work / source if source else None, None, work / "pool", work / "pairs"
    )


def contents(work):
    return {path: path.read_bytes() for path in (work / "pairs").rglob("*") if path.is_file()}


@pytest.mark.parametrize("lost", [("LR",), ("HR",), ("HR", "LR")])
@pytest.mark.parametrize("how", ["missing", "altered"])
def test_what_is_lost_comes_back_byte_for_byte(work, lost, how):
    before = contents(work)
    for kind in lost:
        path = work / "pairs" / kind / "0801.png"
        path.unlink() if how == "missing" else write_uint8(path, read_uint8(path) ^ 1)
    assert set(rebuild(work)) == {work / "pairs" / kind / "0801.png" for kind in lost}
    assert contents(work) == before


def test_the_hr_on_disk_is_enough(work):
    before = contents(work)
    (work / "pairs/LR/0801.png").unlink()
    rebuild(work, source=None)
    assert contents(work) == before
    (work / "pairs/HR/0801.png").unlink()
    with pytest.raises(UserError, match=r"data\.source is not set.*0801\.png"):
        rebuild(work, source=None)


def test_what_is_there_is_left_alone_and_said(work, caplog):
    times = {path: path.stat().st_mtime_ns for path in contents(work)}
    with caplog.at_level(logging.INFO, "realsr"):
        assert rebuild(work) == []
    assert {path: path.stat().st_mtime_ns for path in contents(work)} == times
    manifest = json.loads((work / "pairs/manifest.json").read_text())["pairs"]["items"]["0801"][
        "files"
    ]
    assert f"identical to the record: sha256 {manifest['LR/0801.png']['sha256']}" in caplog.text


def test_an_unknown_name_is_told_with_near_ones(work):
    with pytest.raises(
        UserError, match=r"pair=0802: not among the 3 pairs of .*did you mean 0801\?"
    ):
        rebuild(work, "0802")


def test_other_inputs_than_those_recorded_are_refused(work):
    (work / "pairs/HR/0801.png").unlink()
    photo = work / "source/0801.png"
    write_uint8(photo, read_uint8(photo) ^ 1)
    before = contents(work)
    with pytest.raises(UserError, match=r"0801\.png: has sha256 .* source/0801\.png with sha256"):
        rebuild(work)
    photo.unlink()
    with pytest.raises(UserError, match=r"0801\.png: no such file"):
        rebuild(work)
    assert contents(work) == before


@pytest.mark.parametrize("work", ["pool"], indirect=True)
def test_another_kernel_than_the_recorded_is_refused(work):
    section = json.loads((work / "pairs/manifest.json").read_text())["pairs"]
    kernel = work / "pool/kernels" / section["items"]["0801"]["kernel"]
    save_kernel(kernel, np.ones((3, 3)))
    with pytest.raises(
        UserError, match=r"_kernel_x4\.mat: has sha256 .* kernels/sub/._kernel_x4\.mat with sha256"
    ):
        rebuild(work)


def test_a_result_unlike_the_record_is_not_written_and_versions_are_told(work):
    path = work / "pairs/manifest.json"
    manifest = json.loads(path.read_text())
    item = manifest["pairs"]["items"]["0801"]
    item["files"]["LR/0801.png"]["sha256"] = item["pixels"]["LR/0801.png"] = "0" * 64
    path.write_text(json.dumps(manifest))
    before = contents(work)
    with pytest.raises(
        UserError,
        match=r"LR/0801\.png: the result differs from the record.*this program itself has changed",
    ):
        rebuild(work)
    manifest["pairs"]["versions"]["pillow"] = "1.0"
    path.write_text(json.dumps(manifest))
    before[path] = path.read_bytes()
    with pytest.raises(
        UserError,
        match=r"LR/0801\.png: the result differs(.|\n)*pillow: was 1\.0, now \d+\.\d+\S*$",
    ):
        rebuild(work)
    assert contents(work) == before


def test_after_a_pair_is_made_again_the_stage_has_nothing_to_do(work):
    before = contents(work)
    (work / "pairs/LR/p1.png").unlink()
    rebuild(work, "p1")
    kernel = json.loads((work / "pairs/manifest.json").read_text())["pairs"]["config"]["kernel"]
    pool = work / "pool" if kernel == "pool" else None
    result = make_pairs(
        work / "source", None, pool, work / "pairs", config_of(PairsConfig), 4, seed=3
    )
    assert (result.count, result.new_count) == (3, 0)
    assert contents(work) == before


def test_without_a_manifest_the_command_is_named(tmp_path):
    with pytest.raises(UserError, match=r"records no pairs.*python -m realsr\.make_pairs"):
        rebuild_pair("a", None, None, tmp_path, tmp_path)


def test_pairs_of_an_earlier_version_are_rebuilt_by_its_compressor(work):
    path = work / "pairs/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["pairs"]["format"] = 4
    for item in manifest["pairs"]["items"].values():
        del item["pixels"]
        for file, content in item["files"].items():
            data = encode_zlib_png(read_uint8(work / "pairs" / file))
            (work / "pairs" / file).write_bytes(data)
            content |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    path.write_text(json.dumps(manifest))
    before = contents(work)
    for kind in ("HR", "LR"):
        (work / "pairs" / kind / "0801.png").unlink()
    assert len(rebuild(work)) == 2
    assert contents(work) == before


def test_equal_pixels_that_compress_to_other_bytes_are_accepted(work, monkeypatch, caplog):
    before = contents(work)
    pixels = {path: read_uint8(path) for path in before if path.suffix == ".png"}
    for kind in ("HR", "LR"):
        (work / "pairs" / kind / "0801.png").unlink()
    monkeypatch.setattr("realsr.imaging.row_encoders.isal_zlib", None)
    with caplog.at_level(logging.INFO, "realsr"):
        paths = rebuild(work)
    assert len(paths) == 2
    hr_file = work / "pairs/HR/0801.png"
    assert hr_file.read_bytes() != before[hr_file]
    assert f"{hr_file}: rebuilt and written, with the pixels of the record" in caplog.text
    for path, image in pixels.items():
        np.testing.assert_array_equal(read_uint8(path), image)
    assert rebuild(work, source=None) == []  # HR has the pixels of the record


def test_other_pixels_are_refused_although_the_bytes_may_differ(work, monkeypatch):
    (work / "pairs/LR/0801.png").unlink()
    monkeypatch.setattr("realsr.imaging.row_encoders.isal_zlib", None)
    monkeypatch.setattr("realsr.pairs.rebuild.degrade", lambda hr, scale, kernel: hr[::4, ::4])
    with pytest.raises(UserError, match=r"LR/0801\.png: the result differs from the record"):
        rebuild(work)
    assert not (work / "pairs/LR/0801.png").exists()
