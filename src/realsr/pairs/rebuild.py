"""Rebuild one pair from its record in the manifest.

Equal pixels may have other bytes on another kind of processor, since ISA-L depends on it. So the
hash of the pixels decides, if it is recorded. Earlier versions recorded only that of the file, and
compressed by zlib.
"""

import difflib
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from realsr.core.errors import UserError
from realsr.core.files import inside, write_bytes
from realsr.imaging import ImageError, encode_uint8, encode_zlib_png, read_uint8
from realsr.imaging.kernel_shapes import load_kernel
from realsr.pairs.synthesis import STAGE, check_item, clean_up, degrade, hash_pixels, pair_files
from realsr.provenance.fingerprints import fingerprint_file, package_versions
from realsr.provenance.manifest import read_manifest
from realsr.provenance.sections import MANIFEST

logger = logging.getLogger("realsr")


@dataclass(frozen=True)
class PairFile:
    """A file of a pair as recorded: SHA-256 of its bytes, and of its pixels if recorded."""

    path: Path
    sha256: str
    pixels: str | None

    def is_intact(self) -> bool:
        """Return whether the file exists with the recorded bytes or pixels."""
        if self.pixels is None:
            return _hash_file(self.path) == self.sha256
        try:
            return hash_pixels(read_uint8(self.path)) == self.pixels
        except ImageError:
            return False

    def restore(self, content: bytes) -> bool:
        """Write the file unless it is intact, log its hash, and return whether it was written."""
        is_new = not self.is_intact()
        if is_new:
            self.path.parent.mkdir(exist_ok=True)
            write_bytes(self.path, content)
        action = "rebuilt and written" if is_new else "rebuilt"
        if _hash_file(self.path) == self.sha256:
            text = f"identical to the record: sha256 {self.sha256}"
        else:
            text = (
                "with the pixels of the record, but compressed to other bytes: "
                f"sha256 of the pixels {self.pixels}"
            )
        logger.info("%s: %s, %s", self.path, action, text)
        return is_new


def rebuild_pair(
    name: str, source: Path | None, target: Path | None, pool: Path, output: Path, damaged: str
) -> list[Path]:
    """Rebuild one pair as the manifest of `output` records it, regardless of the current config.

    LR is computed from the HR file, or from the photo if the HR file is missing or altered; HR is
    then rebuilt too. Missing and altered files are written and returned. A file is altered if its
    pixels differ from the record; of earlier versions, which recorded no pixels, if its bytes do.

    source, target: folders of photos. pool: folder with `kernels/`. Each is read only if necessary.
    damaged: must be `accept` if the pair was made from a damaged photo, as its item records.

    Raises UserError and writes nothing if the name is not in the manifest, if the photo or the
    kernel differs from the recorded one, or if the result does.
    """
    section, item, hr_file, lr_file = _read_item(output, name)
    folders = {"source": source, "target": target, "kernels": pool / "kernels"}
    images = {}
    if hr_file.is_intact():
        hr = read_uint8(hr_file.path)
    else:
        photo = _find_input(item["photo"], folders, section)
        hr = images[hr_file] = clean_up(read_uint8(photo, damaged), item["clean_up"], item["scale"])
    kernel = None
    if item["kernel"] != "bicubic":
        kernel = load_kernel(_find_input(f"kernels/{item['kernel']}", folders, section))
    images[lr_file] = degrade(hr, item["scale"], kernel)
    encode = partial(encode_uint8, suffix=".png") if item["pixels"] else encode_zlib_png
    contents = {file: encode(image) for file, image in images.items()}
    for file, image in images.items():
        is_identical = hashlib.sha256(contents[file]).hexdigest() == file.sha256
        if not is_identical and hash_pixels(image) != file.pixels:
            raise UserError(_explain_difference(file.path, section["versions"]))
    return [file.path for file, content in contents.items() if file.restore(content)]


def _read_item(
    output: Path, name: str
) -> tuple[dict[str, Any], dict[str, Any], PairFile, PairFile]:
    """Return the section of the pairs, the item of a pair with its scale, and its HR and LR files."""
    section = read_manifest(output).get(STAGE)
    if section is None:
        raise UserError(
            f"{output / MANIFEST}: records no pairs to rebuild. Make them with: "
            "python -m realsr.make_pairs +track=<track> data.source=FOLDER work_dir=FOLDER"
        )
    if name not in section["items"]:
        suggestions = difflib.get_close_matches(name, section["items"], cutoff=0.5)
        hint = f"; did you mean {' or '.join(suggestions)}?" if suggestions else ""
        raise UserError(
            f"pair={name}: not among the {len(section['items'])} pairs of {output}{hint}"
        )
    try:
        item = section["items"][name] | {"scale": section["config"]["scale"]}
        check_item(item)
        names = [file.relative_to(output).as_posix() for file in pair_files(output, name)]
        pixels = item["pixels"] or dict.fromkeys(names)
        hr_file, lr_file = (
            PairFile(inside(output, file), item["files"][file]["sha256"], pixels[file])
            for file in names
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"{output / MANIFEST}: its item {name} cannot be used ({error})") from error
    return section, item, hr_file, lr_file


def _find_input(name: str, folders: Mapping[str, Path | None], section: Mapping[str, Any]) -> Path:
    """Return the path of a recorded input `<role>/<file>`.

    Raises UserError if the file is missing or has another content.
    """
    role, _, file = name.partition("/")
    if role not in folders:
        raise UserError(
            f"{MANIFEST}: lists the photo {name}; expected source/<file> or target/<file>"
        )
    folder = folders[role]
    if folder is None:
        raise UserError(
            f"data.{role} is not set; set data.{role}=FOLDER to the folder of the photo {file}"
        )
    try:
        path = inside(folder, file, follow_links=True)  # the user's own links may lead elsewhere
    except ValueError as error:
        raise UserError(f"{MANIFEST}: {error}; remove the manifest if it is not yours") from error
    old_hash, new_hash = section["inputs"][name]["sha256"], _hash_file(path)
    if new_hash != old_hash:
        problem = "no such file" if new_hash is None else f"has sha256 {new_hash}"
        raise UserError(
            f"{path}: {problem}; the pair was made from {name} with sha256 {old_hash}. "
            "Restore that file"
        )
    return path


def _hash_file(path: Path) -> str | None:
    """Return the SHA-256 of a file, None if it does not exist."""
    return str(fingerprint_file(path)["sha256"]) if path.is_file() else None


def _explain_difference(file: Path, old: Mapping[str, str]) -> str:
    """Return a message that the result differs, with the packages whose versions differ."""
    new = package_versions()
    differences = [
        f"\n  {package}: was {old.get(package, 'missing')}, now {new.get(package, 'missing')}"
        for package in sorted(old.keys() | new.keys())
        if old.get(package) != new.get(package)
    ]
    text = f"{file}: the result differs from the record, and nothing is written. "
    if differences:
        return f"{text}Install the recorded versions of these packages:{''.join(differences)}"
    return text + "All package versions are equal, so this program itself has changed"
