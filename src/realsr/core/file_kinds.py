"""Identification of a file's kind by its content, with advice if another kind is expected."""

import re
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

HEAD = 4096  # bytes read from the start of a file
MAX_HEADER = 100_000_000  # bytes of a safetensors header; the limit of its library
MAX_QUOTE = 60  # characters of a text in a message

COPY_AGAIN = "Download or copy it again"
DOWNLOAD_FILE = (
    'Download the file itself with the "raw" or "download" link of its page (with /raw/ on GitHub or '
    "/resolve/ on Hugging Face instead of /blob/)"
)
UNPACK = "Unpack it and use the file inside"
STATE_DICT = (
    "In the program that wrote it, save only the weights: torch.save(model.state_dict(), FILE)"
)


@dataclass(frozen=True)
class FileKind:
    """The kind of a file.

    name: the kind with an article, for messages.
    advice: what to do if another kind is expected.
    format: torch, safetensors, ncnn, onnx or mat; empty if the file holds no weights or kernels.
    damaged: the file is damaged, so that its kind is uncertain.
    """

    name: str
    advice: str = ""
    format: str = ""
    damaged: bool = False

    def refuse(self, need: str) -> str:
        """Return the reason to reject the file, for a message that begins with its path.

        need: the kind that is needed, with an article.
        """
        contrast = "" if self.damaged else f", not {need}"
        return f"is {self.name}{contrast}{self.advice and f'. {self.advice}'}"


TORCH = FileKind("a PyTorch file", format="torch")
NCNN = FileKind("an ncnn network", format="ncnn")
ZEROS = FileKind(
    "damaged: it begins with zeros, as after a broken download or a crash", COPY_AGAIN, damaged=True
)
UNKNOWN = FileKind(
    "damaged or of an unknown kind", f"{COPY_AGAIN}, or use another file", damaged=True
)

RAW = "camera raw"
_RAW_SIGNATURES = (b"FUJIFILMCCD-RAW", b"FOVb", b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"\0MRM")
IMAGE_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (  # place, bytes, image format
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    *((0, header, "TIFF") for header in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (8, b"WEBP", "WEBP"),
    (0, b"BM", "BMP"),
    *((0, signature, RAW) for signature in _RAW_SIGNATURES),
    (0, b"II\x1a\0\0\0HEAPCCDR", RAW),
    (0, b"DDS ", "DDS"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"GIF8", "GIF"),
    (0, b"gimp xcf", "GIMP"),
    (0, b"\0\0\x01\0", "icon"),
    (0, b"icns", "icon"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"II\xbc\x01", "JPEG XR"),
    *((0, b"P%c" % letter, "Netpbm") for letter in b"1234567Ff"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"%PDF", "PDF"),
    (0, b"8BPS", "Photoshop"),
    (0, b"%!PS", "PostScript"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript"),
    (0, b"qoif", "QOI"),
    (0, b"#?RADIANCE", "Radiance HDR"),
)
_IMAGE = FileKind("an image")
_PROGRAM = FileKind("a program")
_BINARY_PARAM = FileKind("a binary ncnn .param file", "Use the text form and its .bin")
_SIGNATURES: tuple[tuple[int, bytes, FileKind], ...] = (  # place, bytes, kind
    (0, b"\x93NUMPY", FileKind("a NumPy array")),
    (0, b"\x89HDF\r\n\x1a\n", FileKind("an HDF5 file (as Keras writes)")),
    (4, b"ftyp", FileKind("a video or an image")),
    (0, b"%PDF-", FileKind("a PDF document", DOWNLOAD_FILE)),
    (257, b"ustar", FileKind("a tar archive", UNPACK)),
    (0, b"7z\xbc\xaf\x27\x1c", FileKind("a 7z archive", UNPACK)),
    (0, b"Rar!\x1a\x07", FileKind("a RAR archive", UNPACK)),
    (0, b"\x1f\x8b", FileKind("a gzip archive (.gz, .tar.gz)", UNPACK)),
    (0, b"BZh", FileKind("a bzip2 archive", UNPACK)),
    (0, b"\xfd7zXZ\0", FileKind("an xz archive", UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", FileKind("a Zstandard archive", UNPACK)),
    (0, b"GGUF", FileKind("a GGUF file (a language model)")),
    (4, b"TFL3", FileKind("a TensorFlow Lite network")),
    (0, b"\x7fELF", _PROGRAM),
    (0, b"MZ", _PROGRAM),
    (0, b"\0\5\x16\7", FileKind("a macOS metadata file (._NAME)", "Use the file without ._")),
    (0, struct.pack("<i", 7767517), _BINARY_PARAM),
    (0, b"L119547037146038801333356L\n", TORCH),  # the magic number before PyTorch 1.6, as text
)
_ZIP_MEMBERS = {  # the name of a member -> the kind of its zip file; the first match counts
    "constants.pkl": FileKind("a TorchScript program", STATE_DICT),
    "archive_format": FileKind("a program of torch.export", STATE_DICT),
    "serialized_exported_program.json": FileKind("a program of torch.export", STATE_DICT),
    "data.pkl": TORCH,
}
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
# The version, then another field of a model.
_ONNX_BEGIN = re.compile(rb"\x08[\x01-\x7f][\x12\x1a\x22\x28\x32\x3a\x42]")
_BITMAP = re.compile(rb"BM.{4}\0{4}", re.DOTALL)


def identify_file(path: Path) -> FileKind:
    """Return the kind of a file. Little of it is read, and no code is run. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        return FileKind("empty (0 bytes)", COPY_AGAIN, damaged=True)
    if head[:4] in (b"PK\3\4", b"PK\5\6"):
        return _identify_zip(path)
    # MATLAB 7.3 files are HDF5 after a header of 512 bytes, which is like that of MATLAB 5.
    if head.startswith(b"MATLAB ") or (
        head[126:128] in (b"IM", b"MI") and head[124:126] in (b"\0\1", b"\1\0")
    ):
        return FileKind("a MATLAB file", format="mat")
    for place, magic, kind in _SIGNATURES:
        if head.startswith(magic, place):
            return kind
    if _BITMAP.match(head):
        return _IMAGE
    if _PICKLE.match(head):
        return TORCH
    if not any(head):
        return ZEROS
    if _is_safetensors(head):
        return FileKind("a safetensors file", format="safetensors")
    # A text may begin with the two bytes of a signature.
    if any(
        len(magic) > 2 and head.startswith(magic, place) for place, magic, _ in IMAGE_SIGNATURES
    ):
        return _IMAGE
    if (text := _decode(head)) is not None:
        return _identify_text(text)
    return FileKind("an ONNX network", format="onnx") if _ONNX_BEGIN.match(head) else UNKNOWN


def _identify_zip(path: Path) -> FileKind:
    try:
        with zipfile.ZipFile(path) as content:
            names = {name.rpartition("/")[2] for name in content.namelist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, struct.error):
        name = "truncated or damaged: the end of a PyTorch file or zip archive is missing"
        return FileKind(name, COPY_AGAIN, damaged=True)
    if any(name.endswith(".npy") for name in names):
        return FileKind("a file of NumPy arrays (.npz)")
    kinds = (kind for member, kind in _ZIP_MEMBERS.items() if member in names)
    return next(kinds, FileKind("a zip archive", UNPACK))


def _is_safetensors(head: bytes) -> bool:
    return (
        len(head) > 8 and 2 <= struct.unpack("<Q", head[:8])[0] <= MAX_HEADER and head[8:9] == b"{"
    )


def _decode(head: bytes) -> str | None:
    """Return the start of a file as text, or None if it is binary; invalid bytes are replaced."""
    utf16 = head[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = head.decode("utf-16" if utf16 else "utf-8-sig", "replace")
    letters = text.translate({ord(letter): None for letter in "\t\n\r\f"})
    is_text = text.strip() and letters.isprintable() and text.count("\ufffd") <= len(text) // 4
    return text if is_text else None


def _identify_text(text: str) -> FileKind:
    text = re.sub(r"^(\s|<!--.*?-->)*", "", text, flags=re.DOTALL)
    if text.startswith("version https://git-lfs"):
        size = re.search(r"^size (\d+)", text, re.MULTILINE)
        return FileKind(
            f"a Git LFS pointer{f' for {int(size[1]) / 1e6:.1f} MB' if size else ''}",
            "Fetch its file: git lfs pull in that repository, or the download link of its page",
        )
    if text.split()[:1] == ["7767517"]:
        return NCNN
    if text[:15].lower().startswith(("<!doctype html", "<html", "<head", "<body")):
        return FileKind("a web page (HTML)", DOWNLOAD_FILE)
    if text.startswith("<") and "<net " in text:
        return FileKind("an OpenVINO network", "Use the weights from which it was made")
    line = text.partition("\n")[0]
    line = "".join(letter if letter.isprintable() else " " for letter in line).strip()
    quote = f"{line[:MAX_QUOTE]}{'…' if len(line) > MAX_QUOTE else ''}"
    return FileKind(f'a text (it begins "{quote}")', DOWNLOAD_FILE)
