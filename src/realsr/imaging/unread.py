"""Image formats that are not read: how they are known by name and by content, and what to do about them."""

from pathlib import PurePath

RAW = "camera raw"
_SUFFIXES = {
    RAW: ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 "
    ".rwl .sr2 .srf .srw .x3f",
    "AVIF": ".avif .avifs",
    "DDS": ".dds",
    "DICOM": ".dcm",
    "FITS": ".fit .fits",
    "GIF": ".gif",
    "GIMP": ".xcf",
    "HEIC": ".heic .heif .hif",
    "icon": ".ico .icns",
    "JPEG 2000": ".j2c .j2k .jp2 .jpc .jpf .jpx",
    "JPEG XL": ".jxl",
    "JPEG XR": ".jxr .wdp",
    "Netpbm": ".pam .pbm .pfm .pgm .pnm .ppm",
    "OpenEXR": ".exr",
    "PCX": ".pcx",
    "PDF": ".pdf",
    "Photoshop": ".psb .psd",
    "PostScript": ".ai .eps",
    "QOI": ".qoi",
    "Radiance HDR": ".hdr",
    "SVG": ".svg .svgz",
    "TGA": ".tga",
}
UNREAD_SUFFIXES = {suffix: name for name, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}
_SIGNATURES = {
    b"FUJIFILMCCD-RAW": RAW,
    b"FOVb": RAW,
    b"IIU\0": RAW,
    b"IIRO": RAW,
    b"IIRS": RAW,
    b"MMOR": RAW,
    b"\0MRM": RAW,
    b"II\x1a\0\0\0HEAPCCDR": RAW,
    b"DDS ": "DDS",
    b"SIMPLE  =": "FITS",
    b"GIF8": "GIF",
    b"gimp xcf": "GIMP",
    b"\0\0\x01\0": "icon",
    b"icns": "icon",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"II\xbc\x01": "JPEG XR",
    **dict.fromkeys((b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"P7", b"PF", b"Pf"), "Netpbm"),
    b"\x76\x2f\x31\x01": "OpenEXR",
    b"%PDF": "PDF",
    b"8BPS": "Photoshop",
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"qoif": "QOI",
    b"#?RADIANCE": "Radiance HDR",
}
_BRANDS = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"crx ": RAW,
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"mif1"), "HEIC"),  # mif1: of AVIF too, beside its own
}


def explain_unread(name: str, data: bytes, formats: tuple[str, ...]) -> str:
    """Return the message for a file that no decoder knows.

    name: what the message calls the file, its path; data: its contents; formats: those that are read.
    """
    if (kind := _identify(data) or UNREAD_SUFFIXES.get(PurePath(name).suffix.lower())) is not None:
        return describe_unread(name, kind)
    return (
        f"{name} is not an image that can be read: expected {', '.join(formats)}. "
        "It may be damaged or of another kind; convert it, copy it again, or remove it."
    )


def describe_unread(name: str, kind: str) -> str:
    """Return the message for a file of a format that is not read."""
    return f"{name} is of the format {kind}, which is not read. Convert it to PNG or TIFF."


def _identify(data: bytes) -> str | None:
    """Return the name of the format that a file's first bytes tell."""
    if data[4:8] == b"ftyp":  # ISO base media: its brand, a version, compatible brands
        size = int.from_bytes(data[:4], "big")
        brands = [data[8:12], *(data[at : at + 4] for at in range(16, min(size, 128), 4))]
        return next((kind for brand, kind in _BRANDS.items() if brand in brands), None)
    if b"<svg" in data[:1024]:
        return "SVG"
    return next((kind for signature, kind in _SIGNATURES.items() if data.startswith(signature)), None)
