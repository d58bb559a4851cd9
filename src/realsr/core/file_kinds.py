"""What a file is, by its content and not by its name, and what to do where it is not what was expected."""

import io
import pickletools
import re
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HEAD = 4096  # bytes that are looked at
LARGEST_HEADER = 100_000_000  # bytes of a safetensors header; its library's own limit
QUOTE = 60  # characters of a text in a message
PICKLES = 5  # at the begin of a file in PyTorch's form before 1.6; raw numbers follow
LARGEST_PICKLE = 64 * 2**20

AGAIN = "Download or copy it again"
THE_FILE = (
    'Download the file itself by the "raw" or "download" link of its page (the address has /raw/ on GitHub, /resolve/ '
    "on Hugging Face, in place of /blob/)"
)
UNPACK = "Unpack it and give the file inside"
STATE_DICT = "In the program that wrote it, save the weights alone: torch.save(model.state_dict(), FILE)"


@dataclass(frozen=True)
class FileKind:
    """What a file is.

    name: with its article, for a message. advice: what to do where it is not what was expected. format: torch,
    safetensors, ncnn, onnx or mat; empty where the file holds no weights or kernels. damaged: what it was meant to be
    is unknown.
    """

    name: str
    advice: str = ""
    format: str = ""
    damaged: bool = False

    def refuse(self, expected: str) -> str:
        """Return why the file is not taken, for a message that begins with its path."""
        return f"is {self.name}{'' if self.damaged else f', not {expected}'}{self.advice and f'. {self.advice}'}"


TORCH = FileKind("a PyTorch file", format="torch")
SAFETENSORS = FileKind("a safetensors file", format="safetensors")
NCNN = FileKind("an ncnn network", format="ncnn")
ONNX = FileKind("an ONNX network", format="onnx")
MAT = FileKind("a MATLAB file", format="mat")
WEB_PAGE = FileKind("a web page (HTML)", THE_FILE)
TORCHSCRIPT = FileKind("a TorchScript program", STATE_DICT)
EXPORTED = FileKind("a program of torch.export", STATE_DICT)
OLD_TORCH = FileKind("a file of PyTorch before 0.2 (tar)", "Load it with a PyTorch of that time and save it again")
EMPTY = FileKind("empty (0 bytes)", AGAIN, damaged=True)
ZEROS = FileKind("damaged: it begins with zeros, as after a broken download or a crash", AGAIN, damaged=True)
UNKNOWN = FileKind("damaged, or of an unknown kind", f"{AGAIN}, or give another file", damaged=True)

RAW = "camera raw"
IMAGE_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (  # where it stands, the bytes, and the image format
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    *((0, header, "TIFF") for header in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (8, b"WEBP", "WEBP"),
    (0, b"BM", "BMP"),
    *((0, raw, RAW) for raw in (b"FUJIFILMCCD-RAW", b"FOVb", b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"\0MRM")),
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
    *((0, netpbm, "Netpbm") for netpbm in (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"P7", b"PF", b"Pf")),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"%PDF", "PDF"),
    (0, b"8BPS", "Photoshop"),
    (0, b"%!PS", "PostScript"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript"),
    (0, b"qoif", "QOI"),
    (0, b"#?RADIANCE", "Radiance HDR"),
)
IMAGE = FileKind("an image")
PROGRAM = FileKind("a program")
MAGIC: tuple[tuple[int, bytes, FileKind], ...] = (
    (0, b"\x93NUMPY", FileKind("a NumPy array")),
    (0, b"\x89HDF\r\n\x1a\n", FileKind("an HDF5 file (as Keras writes)")),
    (4, b"ftyp", FileKind("a video or an image")),
    (0, b"%PDF-", FileKind("a PDF document", THE_FILE)),
    (0, b"7z\xbc\xaf\x27\x1c", FileKind("a 7z archive", UNPACK)),
    (0, b"Rar!\x1a\x07", FileKind("a RAR archive", UNPACK)),
    (0, b"\x1f\x8b", FileKind("a gzip archive (.gz, .tar.gz)", UNPACK)),
    (0, b"BZh", FileKind("a bzip2 archive", UNPACK)),
    (0, b"\xfd7zXZ\0", FileKind("an xz archive", UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", FileKind("a Zstandard archive", UNPACK)),
    (0, b"GGUF", FileKind("a GGUF file (a language model)")),
    (4, b"TFL3", FileKind("a TensorFlow Lite network")),
    (0, b"\x7fELF", PROGRAM),
    (0, b"MZ", PROGRAM),
    (0, b"\0\5\x16\7", FileKind("a note that macOS adds beside a file (._NAME)", "Give the file itself, without ._")),
    (0, struct.pack("<i", 7767517), FileKind("ncnn's .param in binary form", "Give the text form and its .bin")),
    (0, b"L119547037146038801333356L\n", TORCH),  # the number that PyTorch's form before 1.6 begins with, as text
)
PICKLE = re.compile(rb"\x80[\x02-\x05]")
ONNX_BEGIN = re.compile(rb"\x08[\x01-\x7f][\x12\x1a\x22\x28\x32\x3a\x42]")  # a version, then another field of a model
BITMAP = re.compile(rb"BM.{4}\0{4}", re.DOTALL)


def identify_file(path: Path) -> FileKind:
    """Return what a file is; nothing in it is run, and little of it is read. Raises OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        return EMPTY
    if head[:4] in (b"PK\3\4", b"PK\5\6"):
        return _identify_zip(path, size)
    if head[257:262] == b"ustar":
        return _identify_tar(path)
    # MATLAB 7.3 is HDF5 behind 512 bytes, which begin as MATLAB 5 does.
    if head.startswith(b"MATLAB ") or (head[126:128] in (b"IM", b"MI") and head[124:126] in (b"\0\1", b"\1\0")):
        return MAT
    for place, magic, kind in MAGIC:
        if head.startswith(magic, place):
            return kind
    if BITMAP.match(head):
        return IMAGE
    if PICKLE.match(head):
        return TORCH
    if not any(head):
        return ZEROS
    if _is_safetensors(head):
        return SAFETENSORS
    # Two bytes may be the begin of a text.
    if any(len(magic) > 2 and head.startswith(magic, place) for place, magic, _ in IMAGE_SIGNATURES):
        return IMAGE
    if (text := _decode(head)) is not None:
        return _identify_text(text)
    return ONNX if ONNX_BEGIN.match(head) else UNKNOWN


def list_pickled_names(path: Path) -> list[str] | None:
    """Return the names of Python (module.name) that a PyTorch file refers to, in order; None where it is damaged.

    Nothing is run. Raises OSError.
    """
    names = dict[str, None]()
    try:
        with _open_pickles(path) as content:
            for _ in range(PICKLES):
                names |= dict.fromkeys(_pickled_names(content))
                if content.tell() == len(content.getbuffer()):
                    break
    except OSError:
        raise
    except Exception:  # pickletools and zipfile raise many kinds for damaged data
        return list(names) or None
    return list(names)


def _identify_zip(path: Path, size: int) -> FileKind:
    try:
        with zipfile.ZipFile(path) as content:
            names = content.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, struct.error):
        name = f"cut off or damaged: the end of a PyTorch file or zip archive is missing ({size} bytes are there)"
        return FileKind(name, AGAIN, damaged=True)
    ends = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in ends:
        return TORCHSCRIPT
    if "archive_format" in ends or "serialized_exported_program.json" in ends:
        return EXPORTED
    if "data.pkl" in ends:
        return TORCH
    if names and all(name.endswith(".npy") for name in names):
        return FileKind("a file of NumPy arrays (.npz)")
    if "[Content_Types].xml" in names:
        return FileKind("a document of an office program")
    return FileKind(f"a zip archive ({_list_members(names)})", UNPACK)


def _identify_tar(path: Path) -> FileKind:
    names = list[str]()
    try:
        with tarfile.open(path, "r:") as content:
            while (member := content.next()) is not None and len(names) < 4:
                names.append(member.name)
    except (tarfile.TarError, ValueError, EOFError):  # a damaged archive is one all the same
        pass
    if {"storages", "tensors"} & set(names):
        return OLD_TORCH
    return FileKind(f"a tar archive ({_list_members(names)})", UNPACK)


def _list_members(names: list[str]) -> str:
    files = [name.rpartition("/")[2] for name in names if not name.endswith("/")]
    listing = ", ".join(name[:QUOTE] if name.isprintable() else "?" for name in files[:3])
    return f"of {listing}{', …' if files[3:] else ''}" if files else "without files"


def _is_safetensors(head: bytes) -> bool:
    return len(head) > 8 and 2 <= struct.unpack("<Q", head[:8])[0] <= LARGEST_HEADER and head[8:9] == b"{"


def _decode(head: bytes) -> str | None:
    """Return the begin of a file as text, None where it is none."""
    utf16 = head[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ("utf-16",) if utf16 else ("utf-8-sig", "latin-1"):
        # The last character may be cut.
        text = head.decode(encoding, "replace").removesuffix("\ufffd")
        rest = text.translate({ord(letter): None for letter in "\t\n\r\f"})
        foreign = sum(not letter.isascii() for letter in text) if encoding == "latin-1" else 0
        if "\ufffd" not in rest and rest.isprintable() and text.strip() and foreign <= len(text) // 4:
            return text
    return None


def _identify_text(text: str) -> FileKind:
    text = re.sub(r"^(\s|<!--.*?-->)*", "", text, flags=re.DOTALL)
    begin = text[:15].lower()
    if text.startswith("version https://git-lfs"):
        size = re.search(r"^size (\d+)", text, re.MULTILINE)
        stands = f" for {int(size[1]) / 1e6:.1f} MB" if size else ""
        return FileKind(
            f"a Git LFS pointer{stands}",
            "Fetch the file that it stands for: git lfs pull in that repository, or the download link of its page",
        )
    if text.split()[:1] == ["7767517"]:
        return NCNN
    if begin.startswith(("<!doctype html", "<html", "<head", "<body")):
        return WEB_PAGE
    if begin.startswith("<"):
        if "<net " in text:
            return FileKind("a network of OpenVINO", "Give the weights that it was made of")
        return FileKind(f"an XML text (it begins {_quote(text)})", THE_FILE)
    kind = "a JSON text" if begin.startswith(("{", "[")) else "a text"
    return FileKind(f"{kind} (it begins {_quote(text)})", THE_FILE)


def _quote(text: str) -> str:
    """Return the first line of a text, shortened, in quotation marks."""
    line = "".join(letter if letter.isprintable() else " " for letter in text.strip().partition("\n")[0]).strip()
    return f'"{line[:QUOTE]}{"…" if len(line) > QUOTE else ""}"'


def _open_pickles(path: Path) -> io.BytesIO:
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return io.BytesIO(file.read(LARGEST_PICKLE))
    with zipfile.ZipFile(path) as content:
        name = next(name for name in content.namelist() if name.rpartition("/")[2] == "data.pkl")
        with content.open(name) as file:
            return io.BytesIO(file.read(LARGEST_PICKLE))


def _pickled_names(content: io.BytesIO) -> Iterator[str]:
    texts = list[str]()
    for code, argument, _ in pickletools.genops(content):
        if code.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif code.name == "STACK_GLOBAL":  # its module and name are the two texts before it
            yield ".".join(texts[-2:])
        elif isinstance(argument, str):
            texts = [*texts[-1:], argument]
