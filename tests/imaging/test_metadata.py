"""What a photo's file tells besides its pixels goes into the file that is written. Pillow makes and reads the files."""

import contextlib
import io
import logging
import struct

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms
from PIL.TiffImagePlugin import IFDRational

from realsr.imaging import (
    Layout,
    Metadata,
    Photo,
    open_photo_writer,
    read_photo,
    row_encoders,
    write_photo,
)
from realsr.imaging.exif import exif_from_tiff, sized_exif, upright_exif

SUFFIXES = [".jpg", ".png", ".webp", ".tif"]
RGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GRAY_PROFILE = RGB_PROFILE[:16] + b"GRAY" + RGB_PROFILE[20:]
CMYK_PROFILE = RGB_PROFILE[:16] + b"CMYK" + RGB_PROFILE[20:]

Base, GPS, IFD = ExifTags.Base, ExifTags.GPS, ExifTags.IFD
MAKER_NOTE = b"Maker\0" + bytes(range(90))
FIRST = {
    Base.Make: "Maker",
    Base.Model: "Model 1",
    Base.DateTime: "2026:01:02 03:04:05",
    Base.Artist: "A. Person",
    Base.Copyright: "Somebody",
    Base.ImageDescription: "A hill",
    Base.XResolution: IFDRational(300, 1),
    Base.YResolution: IFDRational(300, 1),
    Base.ResolutionUnit: 2,
}
CAMERA = {
    Base.ExposureTime: IFDRational(1, 250),
    Base.ISOSpeedRatings: 100,
    Base.DateTimeOriginal: "2026:01:02 03:04:05",
    Base.MakerNote: MAKER_NOTE,
    Base.LensModel: "Lens",
    Base.ExifImageWidth: 9,
    Base.ExifImageHeight: 6,
}
PLACE = {
    GPS.GPSLatitudeRef: "N",
    GPS.GPSLatitude: (IFDRational(48), IFDRational(51), IFDRational(5, 2)),
}


def camera_exif(order: str = ">", orientation: int = 6, thumbnail: bool = True) -> bytes:
    """An EXIF block of Pillow's making, with a copyright that is not ASCII and a thumbnail put in."""
    exif = Image.Exif()
    exif.endian = order
    exif.update(FIRST)
    exif[Base.Orientation] = orientation
    exif[Base.ImageWidth], exif[Base.ImageLength] = 9, 6
    exif.get_ifd(IFD.Exif).update(CAMERA)
    exif.get_ifd(IFD.Exif)[IFD.Interop] = {1: "R98", 4097: 9, 4098: 6}
    exif.get_ifd(IFD.GPSInfo).update(PLACE)
    block = bytearray(exif.tobytes()[6:])
    block = block.replace(b"Somebody", "© Ünal".encode())  # of the same length
    if thumbnail:
        (count,) = struct.unpack_from(order + "H", block, 8)
        start = len(block) + len(block) % 2
        struct.pack_into(order + "I", block, 10 + 12 * count, start)
        jpeg = io.BytesIO()
        Image.new("RGB", (16, 12)).save(jpeg, "JPEG")
        entries = [(513, 4, 1, start + 30), (514, 4, 1, len(jpeg.getvalue()))]
        block = block.ljust(start, b"\0") + struct.pack(order + "H", 2)
        block += (
            b"".join(struct.pack(order + "HHII", *entry) for entry in entries)
            + bytes(4)
            + jpeg.getvalue()
        )
    return bytes(block)


def tell(path) -> tuple[dict, dict, dict, dict]:
    """What Pillow finds in a file: first directory, camera, place, interoperability."""
    with Image.open(path) as image:
        exif = image.getexif()
        inner = {IFD.Exif, IFD.GPSInfo}
        first = {tag: value for tag, value in exif.items() if tag not in inner}
        camera = {tag: v for tag, v in exif.get_ifd(IFD.Exif).items() if tag != IFD.Interop}
        return first, camera, dict(exif.get_ifd(IFD.GPSInfo)), dict(exif.get_ifd(IFD.Interop))


def check(path, width: int, height: int) -> None:
    """The file holds all of FIRST, CAMERA and PLACE, with these sizes, upright, without a thumbnail."""
    first, camera, place, interoperability = tell(path)
    for tag, value in FIRST.items():
        # Pillow reads text as Latin-1.
        assert first[tag] == (
            "© Ünal".encode().decode("latin-1") if tag == Base.Copyright else value
        ), tag
    assert camera == CAMERA | {Base.ExifImageWidth: width, Base.ExifImageHeight: height}
    assert place == PLACE
    assert interoperability == {1: "R98", 4097: width, 4098: height}
    assert first.get(Base.Orientation, 1) == 1
    assert first.get(Base.ImageWidth, width) == width
    assert first.get(Base.ImageLength, height) == height
    with Image.open(path) as image:
        assert image.size == (width, height)
        assert image.format == "TIFF" or not image.getexif().get_ifd(IFD.IFD1)


def photo_file(path, orientation: int = 6, order: str = ">", **options):
    pixels = np.kron(
        np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8), np.ones((8, 8, 1), np.uint8)
    )
    exif = b"Exif\0\0" + camera_exif(order, orientation)
    Image.fromarray(pixels).save(
        path, exif=exif, icc_profile=RGB_PROFILE, quality=100, subsampling=0, **options
    )
    return pixels


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("source", [".jpg", ".png", ".webp"])
def test_a_turned_photo_is_written_upright_with_all_that_it_tells(tmp_path, source, suffix, order):
    pixels = photo_file(tmp_path / f"a{source}", 6, order, lossless=True)
    photo = read_photo(tmp_path / f"a{source}")
    upright = np.rot90(pixels, -1)
    assert np.abs(photo.samples.astype(int) - upright).max() <= (4 if source == ".jpg" else 0)
    assert photo.metadata.icc == RGB_PROFILE

    large = photo.samples.repeat(4, 0).repeat(4, 1)
    path = tmp_path / f"large{suffix}"
    write_photo(path, Photo(large, photo.metadata))
    check(path, 6 * 8 * 4, 9 * 8 * 4)
    again = read_photo(path)
    assert again.samples.shape == large.shape
    assert again.metadata.icc == RGB_PROFILE
    with Image.open(path) as image:
        assert image.info["icc_profile"] == RGB_PROFILE


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("big", [False, True])
def test_what_a_tiff_tells_goes_into_every_format(tmp_path, monkeypatch, suffix, big):
    photo_file(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    with monkeypatch.context() as patch:
        if big:
            patch.setattr(row_encoders, "_LIMIT", 0)
        deep = Photo(photo.samples.astype(np.uint16) * 257, photo.metadata)
        write_photo(tmp_path / "b.tif", deep)
    check(tmp_path / "b.tif", 48, 72)
    again = read_photo(tmp_path / "b.tif")
    np.testing.assert_array_equal(again.samples, deep.samples)
    small = np.ascontiguousarray(photo.samples[:33, :20])
    write_photo(tmp_path / f"c{suffix}", Photo(small, again.metadata))
    check(tmp_path / f"c{suffix}", 20, 33)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_of_pillows_with_a_wrong_position(tmp_path, order):
    """Pillow copies the position of the interoperability directory without the directory."""
    exif = b"Exif\0\0" + camera_exif(order, 3)
    Image.new("RGB", (9, 6)).save(tmp_path / "a.tif", exif=exif, icc_profile=RGB_PROFILE)
    photo = read_photo(tmp_path / "a.tif")
    assert photo.metadata.icc == RGB_PROFILE
    write_photo(tmp_path / "b.jpg", photo)
    first, camera, place, _ = tell(tmp_path / "b.jpg")
    for tag in FIRST.keys() - {Base.Copyright}:  # Pillow wrote that as question marks
        assert first[tag] == FIRST[tag]
    assert first.get(Base.Orientation, 1) == 1
    assert camera == CAMERA
    assert place == PLACE


def test_tifffile_reads_the_tags(tmp_path):
    photo_file(tmp_path / "a.jpg")
    write_photo(tmp_path / "a.tif", read_photo(tmp_path / "a.jpg"))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        tags = file.pages[0].tags
        assert tags["Make"].value == "Maker"
        assert tags["Copyright"].value == "© Ünal"
        assert tags["XResolution"].value == (300, 1)
        assert tags["InterColorProfile"].value == RGB_PROFILE
        assert tags["ExifTag"].value["ISOSpeedRatings"] == 100
        assert tags["ExifTag"].value["MakerNote"] == MAKER_NOTE
        assert tags["GPSTag"].value["GPSLatitudeRef"] == "N"


def test_nothing_moves_in_an_exif_block():
    """Makers' notes tell positions from the block's beginning."""
    block = camera_exif()
    upright = upright_exif(b"Exif\0\0" + block)
    assert len(upright) < len(block)  # the thumbnail came last
    changed = [i for i in range(len(upright)) if upright[i] != block[i]]
    assert len(changed) <= 3  # the orientation, and where the thumbnail's directory is
    assert sized_exif(upright, 6, 9).index(MAKER_NOTE) == block.index(MAKER_NOTE)
    assert b"\xff\xd8" not in upright
    inside = upright_exif(block + b"more")
    assert len(inside) == len(block) + 4
    assert b"\xff\xd8\xff" not in inside


def test_a_size_over_16_bits_fits_a_short_entry():
    block = sized_exif(upright_exif(camera_exif(thumbnail=False)), 70000, 90000)
    exif = Image.Exif()
    exif.load(block)
    assert exif.get_ifd(IFD.Exif)[Base.ExifImageWidth] == 90000
    assert exif[Base.ImageLength] == 70000


@pytest.mark.parametrize("length", range(0, 500, 7))
def test_exif_that_is_cut_short_or_altered_is_an_error_or_readable(length):
    block = camera_exif()
    noise = np.random.default_rng(length)
    damaged = bytearray(block)
    for position in noise.integers(0, len(block), 20):
        damaged[position] = noise.integers(256)
    for bad in (block[:length], bytes(damaged)):
        for change in (upright_exif, lambda b: sized_exif(b, 1, 1), lambda b: exif_from_tiff(b, 8)):
            with contextlib.suppress(ValueError):
                change(bad)


def test_exif_that_cannot_be_read_is_left_out_and_said(tmp_path, caplog):
    Image.new("RGB", (5, 4)).save(tmp_path / "a.png", exif=b"Exif\0\0nonsense")
    with caplog.at_level(logging.WARNING, "realsr"):
        photo = read_photo(tmp_path / "a.png")
    assert photo.metadata.exif is None
    assert [record.getMessage().split(": ")[0] for record in caplog.records] == [
        str(tmp_path / "a.png")
    ]
    assert photo.samples.shape == (4, 5, 3)


def test_exif_as_imagemagick_wrote_it_into_png(tmp_path):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    data = b"Exif\0\0" + camera_exif()
    info.add_text("Raw profile type exif", f"\nexif\n    {len(data)}\n{data.hex()}\n", zip=True)
    Image.new("RGB", (9, 6)).save(tmp_path / "a.png", pnginfo=info)
    photo = read_photo(tmp_path / "a.png")
    assert photo.samples.shape == (9, 6, 3)
    write_photo(tmp_path / "b.png", photo)
    check(tmp_path / "b.png", 6, 9)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".bmp"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("profile", [RGB_PROFILE, GRAY_PROFILE, CMYK_PROFILE, b"short"])
def test_a_profile_is_written_only_where_it_fits(tmp_path, caplog, suffix, channels, profile):
    path = tmp_path / f"a{suffix}"
    with caplog.at_level(logging.WARNING, "realsr"):
        write_photo(path, Photo(np.zeros((5, 4, channels), np.uint8), Metadata(icc=profile)))
    written_channels = 3 if suffix == ".webp" else channels
    fits = suffix != ".bmp" and profile == (RGB_PROFILE if written_channels == 3 else GRAY_PROFILE)
    with Image.open(path) as image:
        image.load()
        assert image.info.get("icc_profile") == (profile if fits else None)
    assert len(caplog.records) == (0 if fits else 1)
    if not fits:
        assert str(path) in caplog.text


def test_the_profile_of_a_cmyk_photo_goes_with_its_colour_space(tmp_path, caplog):
    Image.new("CMYK", (16, 16)).save(tmp_path / "a.jpg", icc_profile=CMYK_PROFILE)
    with caplog.at_level(logging.WARNING, "realsr"):
        photo = read_photo(tmp_path / "a.jpg")
    assert photo.samples.shape == (16, 16, 3)
    assert photo.metadata.icc is None
    assert "CMYK" in caplog.text


def test_a_large_profile_and_exif_too_large_for_jpeg(tmp_path, caplog):
    profile = RGB_PROFILE + bytes(200_000)
    exif = upright_exif(camera_exif(thumbnail=False)) + bytes(70_000)
    photo = Photo(np.zeros((100, 40, 3), np.uint8), Metadata(profile, exif))
    for suffix in SUFFIXES:
        write_photo(tmp_path / f"a{suffix}", photo)
        again = read_photo(tmp_path / f"a{suffix}")
        assert again.metadata.icc == profile
        assert (again.metadata.exif is None) == (suffix == ".jpg")
    assert "70" in caplog.text
    assert "do not fit" in caplog.text


def test_a_file_without_metadata_has_none(tmp_path):
    for suffix in [*SUFFIXES, ".bmp"]:
        Image.new("L", (5, 4)).save(tmp_path / f"a{suffix}")
        assert read_photo(tmp_path / f"a{suffix}").metadata == Metadata()
        with open_photo_writer(tmp_path / f"b{suffix}", Layout(4, 5, 1, 8)) as writer:
            writer.write(np.zeros((4, 5, 1), np.uint8))
        assert read_photo(tmp_path / f"b{suffix}").metadata == Metadata()
