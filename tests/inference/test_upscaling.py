import errno
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_images import write_images

from full_disk import full_disk
from realsr.core.errors import UserError
from realsr.imaging import ImageError, Photo, read_photo, resize, write_photo
from realsr.imaging.photo import Metadata
from realsr.inference.model import SRModel
from realsr.inference.tiling import Tiles
from stages import upscale_photo, upscale_photos

CPU = torch.device("cpu")
BICUBIC = SRModel(2, CPU, lambda x: resize(x, factor=2.0))


def tiles_for(height: int, width: int) -> Tiles:
    return Tiles(24, 8)


@pytest.mark.parametrize(
    ("kind", "dtype", "channels"),
    [
        *[("png", dtype, channels) for dtype in (np.uint8, np.uint16) for channels in (1, 2, 3, 4)],
        *[("tif", np.uint16, channels) for channels in (1, 3, 4)],
    ],
)
def test_samples_are_those_of_the_whole_photo(
    channels: int, kind: str, dtype: type, tmp_path: Path
) -> None:
    peak = np.iinfo(dtype).max
    samples = np.random.default_rng(0).integers(0, peak, (31, 50, channels), dtype, endpoint=True)
    if channels in (2, 4):
        samples[..., -1] |= peak // 8  # colours that are nearly transparent would be filled
    write_photo(tmp_path / f"a.{kind}", Photo(samples, Metadata()))
    upscale_photo(tmp_path / f"a.{kind}", tmp_path / f"new/b.{kind}", BICUBIC, tiles_for)
    planes = torch.from_numpy(samples.astype(np.float32)).permute(2, 0, 1) / peak
    expected = (resize(planes, factor=2.0).clamp(0, 1) * peak).round().permute(1, 2, 0).numpy()
    found = read_photo(tmp_path / f"new/b.{kind}").samples
    assert found.dtype == dtype
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1, (
        "sums of tiles may round the other way"
    )
    assert np.mean(found != expected) < 0.02


def test_the_photo_s_turn_profile_and_exif(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "A camera"  # to be turned a quarter clockwise
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(tmp_path / "a.png", exif=exif, icc_profile=profile)
    upscale_photo(tmp_path / "a.png", tmp_path / "b.webp", BICUBIC, tiles_for)
    with Image.open(tmp_path / "b.webp") as result:
        assert result.size == (12, 8)
        assert result.info["icc_profile"] == profile
        assert result.getexif()[0x010F] == "A camera"
        assert result.getexif().get(0x0112, 1) == 1
        turned = np.rot90(np.asarray(image), -1)
        assert np.array_equal(np.asarray(result)[0, 0] > 40, turned[0, 0] > 40)


@pytest.mark.parametrize(
    ("width", "suffix", "message"),
    [(8192, ".webp", "16383 per side"), (32768, ".jpg", "65500 per side")],
)
def test_a_format_s_limit_is_told_before_the_work(
    width: int, suffix: str, message: str, tmp_path: Path
) -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        raise AssertionError("work")

    write_images(str(tmp_path / "a.png"), size=(1, width))
    with pytest.raises(
        ImageError, match=rf"a\.png, upscaled: .+{message}.+, or format=png for a folder"
    ):
        upscale_photo(
            tmp_path / "a.png", tmp_path / f"new/b{suffix}", SRModel(2, CPU, run), tiles_for
        )
    assert not (tmp_path / "new").exists()


def test_photos_that_cannot_be_enlarged_are_told_and_the_others_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_images(*(str(tmp_path / name) for name in ("a.png", "c.png")))
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    (tmp_path / "d.png").write_bytes(b"")
    plan = {tmp_path / f"{name}.png": tmp_path / f"new/{name}.png" for name in "abcd"}
    with pytest.raises(
        UserError, match=r"2 of 4 photos could not be upscaled, see above: .+b\.png, .+d\.png"
    ):
        upscale_photos(plan, BICUBIC, tiles_for)
    assert "d.png is empty (0 bytes)" in caplog.text
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.png", "c.png"]


def test_a_photo_that_the_network_fails_on_is_told_and_the_others_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] < 4:
            raise RuntimeError("Padding size should be less than the input\nmore")
        return BICUBIC.run(x)

    write_images(str(tmp_path / "a.png"), size=(9, 3))
    write_images(str(tmp_path / "b.png"), size=(9, 8))
    plan = {tmp_path / f"{name}.png": tmp_path / f"new/{name}.png" for name in "ab"}
    with pytest.raises(UserError, match="1 of 2 photos"):
        upscale_photos(plan, SRModel(2, CPU, run), tiles_for)
    assert (
        "a.png: the network fails on this photo (Padding size should be less than the input)"
        in caplog.text
    )
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["b.png"]


def test_a_result_without_a_place_is_told_and_the_others_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long, sound = "y" * 251 + ".png", "写" * 83 + ".png"
    write_images(
        *(str(tmp_path / "photos" / name) for name in ("a/1.png", "b.png", "c.png", long, sound))
    )
    new = tmp_path / "new"
    new.mkdir()
    (new / "a").write_text("precious")
    (new / "b.png").mkdir()
    plan = {
        tmp_path / "photos" / name: new / result
        for name, result in (
            ("a/1.png", "a/1.png"),
            ("b.png", "b.png"),
            (long, f"{long[:-4]}.webp"),
            (sound, sound),
            ("c.png", "c.png"),
        )
    }
    with pytest.raises(UserError, match="3 of 5 photos could not be upscaled"):
        upscale_photos(plan, BICUBIC, tiles_for)
    errors = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert re.search(r"photos/a/1\.png cannot be upscaled into .*new/a \(", errors[0])
    assert re.search(
        r"photos/b\.png cannot be upscaled into .*new \(a folder has the name b\.png\): move",
        errors[1],
    )
    assert re.search(
        r"y+\.png cannot be upscaled into .*\(the name .* has 256 bytes.* at most 255", errors[2]
    )
    assert (new / "a").read_text() == "precious"
    assert {path.name for path in new.iterdir() if path.is_file()} == {"a", "c.png", sound}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES])
def test_only_a_full_disk_stops_the_others(
    code: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = {tmp_path / f"{name}.png": tmp_path / f"new/{name}.png" for name in "abc"}
    write_images(*map(str, plan))
    full = code in (errno.ENOSPC, errno.EDQUOT)
    error = (
        pytest.raises(OSError, match=r"says no: .*a\.png")
        if full
        else pytest.raises(UserError, match="3 of 3")
    )
    with full_disk(code), error:
        upscale_photos(plan, BICUBIC, tiles_for)
    lines = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(lines) == (0 if full else 3)
    assert all("cannot be written: the disk says no" in line for line in lines)


def test_progress_ends_at_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    write_images(str(tmp_path / "a.png"), size=(40, 60))
    write_images(str(tmp_path / "b.png"), size=(3, 2))
    plan = {tmp_path / f"{name}.png": tmp_path / f"new/{name}.png" for name in "ab"}
    upscale_photos(plan, BICUBIC, tiles_for)
    assert "upscaled 100 %, " in caplog.text


def test_progress_does_not_count_what_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    write_images(str(tmp_path / "a.png"), str(tmp_path / "b.png"))
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-30])
    plan = {tmp_path / f"{name}.png": tmp_path / f"new/{name}.png" for name in "ab"}
    with pytest.raises(UserError):
        upscale_photos(dict([*plan.items()][:1]), BICUBIC, tiles_for)
    assert "100 of 100" not in caplog.text
    with pytest.raises(UserError):
        upscale_photos(plan, BICUBIC, tiles_for)
    assert "upscaled 100 %" in caplog.text


def test_what_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt

    write_images(str(tmp_path / "a.png"))
    (tmp_path / "b.png").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        upscale_photo(tmp_path / "a.png", tmp_path / "b.png", SRModel(2, CPU, run), tiles_for)
    assert (tmp_path / "b.png").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]
