"""XMP and IPTC go from file to file, and one log line names all that does not."""

import struct
from itertools import product

import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from realsr.imaging import (
    ImageError,
    Metadata,
    Photo,
    count_pixels,
    read_photo,
    read_uint8,
    write_photo,
)

SUFFIXES = [".jpg", ".png", ".webp", ".tif"]
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description xmp:Rating="4" tiff:Orientation="%d" tiff:ImageWidth="%d"'
    b' tiff:ImageLength="%d"><exif:PixelXDimension>%d</exif:PixelXDimension><exif:PixelYDimension>%d'
    b"</exif:PixelYDimension>%s</rdf:Description></x:xmpmeta>"
)
IPTC = b"\x1c\x02\x69\0\x08Headline\x1c\x02\x50\0\x09A. Person"
PREVIEW = b"<xmp:Thumbnails><rdf:Alt>/9j/4AAQ\nSkZJ</rdf:Alt></xmp:Thumbnails>"


def xmp(orientation: int, width: int, height: int, more: bytes = b"") -> bytes:
    return XMP % (orientation, width, height, width, height, more)


def lines(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "realsr"]


@pytest.mark.parametrize(("source", "target"), [*product(SUFFIXES, SUFFIXES)])
def test_xmp_goes_everywhere_upright_and_with_the_new_sizes(tmp_path, caplog, source, target):
    exif = Image.Exif()
    exif[274] = 6
    packet = xmp(6, 9, 6, PREVIEW)
    options = {"tiffinfo": {700: packet, 274: 6}} if source == ".tif" else {"xmp": packet}
    if source == ".png":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode())
        options = {"pnginfo": info}
    Image.new("RGB", (9, 6)).save(tmp_path / f"a{source}", exif=exif, **options)
    photo = read_photo(tmp_path / f"a{source}")
    assert photo.samples.shape == (9, 6, 3)
    assert photo.metadata.xmp == xmp(1, 6, 9)
    large = photo.samples.repeat(4, 0).repeat(4, 1)
    write_photo(tmp_path / f"b{target}", Photo(large, photo.metadata))
    with Image.open(tmp_path / f"b{target}") as image:
        image.load()
        content = image.tag_v2[700] if target == ".tif" else image.info["xmp"]
    assert content == xmp(1, 24, 36)
    again = read_photo(tmp_path / f"b{target}")
    assert again.samples.shape == large.shape
    assert again.metadata.xmp == xmp(1, 24, 36)
    assert lines(caplog) == []


@pytest.mark.parametrize(("source", "target"), [*product([".jpg", ".tif"], SUFFIXES)])
def test_iptc_goes_between_jpeg_and_tiff(tmp_path, caplog, source, target):
    samples = np.zeros((6, 9, 3), np.uint8)
    write_photo(tmp_path / f"a{source}", Photo(samples, Metadata(iptc=IPTC)))
    with Image.open(tmp_path / f"a{source}") as image:
        content = image.tag_v2[33723] if source == ".tif" else image.info["photoshop"][0x404]
    assert content == IPTC
    photo = read_photo(tmp_path / f"a{source}")
    assert photo.metadata.iptc == IPTC
    assert lines(caplog) == []
    path = tmp_path / f"b{target}"
    write_photo(path, photo)
    holds = target in (".jpg", ".tif")
    assert read_photo(path).metadata.iptc == (IPTC if holds else None)
    assert lines(caplog) == ([] if holds else [f"{path}: left out: IPTC"])


def test_one_line_names_all_that_is_left_out(tmp_path, caplog):
    path, info = tmp_path / "a.png", PngInfo()
    info.add_text("Software", "a program")
    info.add_text("Title", "a hill")
    info.add(b"gAMA", struct.pack(">I", 100_000))
    frames = [Image.new("RGB", (9, 6), (level, 0, 0)) for level in (1, 2)]
    first = Image.new("RGB", (9, 6))
    first.save(
        path,
        save_all=True,
        append_images=frames,
        pnginfo=info,
        icc_profile=bytes(16) + b"CMYK" + bytes(200),
    )
    photo = read_photo(path)
    (line,) = lines(caplog)
    assert line.startswith(f"{path}: left out: 2 further frames, ")
    assert line.endswith("texts, CMYK colour profile, which does not fit RGB")
    assert photo.omissions[0] == "2 further frames"


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".bmp"])
def test_one_line_names_all_that_a_format_cannot_hold(tmp_path, caplog, suffix):
    exif = b"II*\0\x08\0\0\0" + struct.pack("<HHHI4sI", 1, 271, 2, 3, b"Me\0", 0)
    metadata = Metadata(
        bytes(16) + b"RGB " + bytes(9),
        exif + bytes(70_000),
        xmp(1, 9, 6) + b" " * 70_000,
        IPTC * 3000,
    )
    path = tmp_path / f"a{suffix}"
    write_photo(path, Photo(np.zeros((6, 9, 3), np.uint8), metadata))
    sizes = [
        f"{name}, whose {size} bytes do not fit a JPEG"
        for name, size in (("EXIF", 70026), ("XMP", 70252))
    ]
    omissions = {
        ".bmp": "colour profile, EXIF, XMP, IPTC",
        ".jpg": ", ".join([*sizes, "IPTC, whose 81000 bytes do not fit a JPEG"]),
        ".png": "IPTC",
        ".webp": "IPTC",
        ".tif": None,
    }[suffix]
    assert lines(caplog) == ([f"{path}: left out: {omissions}"] if omissions else [])
    again = read_photo(path).metadata
    assert again.icc == (None if suffix == ".bmp" else metadata.icc)
    assert (again.xmp is None) == (suffix in (".jpg", ".bmp"))


def test_the_resolution_of_files_without_exif_is_kept(tmp_path):
    for suffix, target in product([".jpg", ".png"], SUFFIXES):
        Image.new("RGB", (9, 6)).save(tmp_path / f"a{suffix}", dpi=(300, 150))
        write_photo(tmp_path / f"b{target}", read_photo(tmp_path / f"a{suffix}"))
        with Image.open(tmp_path / f"b{target}") as image:
            exif = image.getexif()
        scale = 2.54 if exif[296] == 3 else 1
        assert (round(exif[282] * scale), round(exif[283] * scale)) == (300, 150)


def test_metadata_that_nobody_asks_for_are_not_logged(tmp_path, caplog):
    path = tmp_path / "a.tif"
    Image.new("RGB", (9, 6)).save(path, save_all=True, append_images=[Image.new("RGB", (9, 6))])
    read_uint8(path)
    assert lines(caplog) == []
    read_photo(path)
    assert lines(caplog) == [f"{path}: left out: 1 further page"]


def test_the_size_of_a_tiff_is_told_whatever_its_layout(tmp_path):
    path = tmp_path / "a.tif"
    planes = np.zeros((2, 30, 20), np.uint16)
    tifffile.imwrite(
        path, planes, photometric="minisblack", planarconfig="separate", extrasamples=["unassalpha"]
    )
    assert count_pixels(path) == 600
    tifffile.imwrite(path, np.zeros((30, 20), np.float32))
    assert count_pixels(path) == 0  # it is refused when it is read
    with pytest.raises(
        ImageError, match=r"holds floating-point samples, which realsr does not read\. Save it as"
    ):
        read_photo(path)
