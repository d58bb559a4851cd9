"""Rebuild one pair from its record in the manifest, byte for byte."""

import difflib
import hashlib
import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from realsr.core.errors import UserError
from realsr.core.files import inside, write_bytes
from realsr.imaging import compressor_name, encode_uint8, encode_zlib_png, read_uint8
from realsr.imaging.kernel_shapes import load_kernel
from realsr.pairs.synthesis import STAGE, check_item, clean_up, degrade, pair_files
from realsr.provenance.fingerprints import fingerprint_file, package_versions
from realsr.provenance.manifest import read_manifest
from realsr.provenance.sections import MANIFEST

logger = logging.getLogger("realsr")


def rebuild_pair(
    name: str,
    source: Path | None,
    target: Path | None,
    pool: Path,
    output: Path,
    damaged: str = "refuse",
) -> list[Path]:
    """Rebuild one pair as the manifest of `output` records it, regardless of the current config.

    LR is computed from the HR file, or from the photo if the HR file is missing or altered; HR is
    then rebuilt too. Missing and altered files are written and returned.

    source, target: folders of photos. pool: folder with `kernels/`. Each is read only if necessary.
    damaged: must be `accept` if the pair was made from a damaged photo, as its item records.

    Raises UserError and writes nothing if the name is not in the manifest, if the photo or the
    kernel differs from the recorded one, or if the result does.
    """
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
    item = section["items"][name]
    try:
        check_item(item)
        scale = section["config"]["scale"]
        names = [file.relative_to(output).as_posix() for file in pair_files(output, name)]
        hashes = {inside(output, file): item["files"][file]["sha256"] for file in names}
        compressor = str(item["compressor"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"{output / MANIFEST}: its item {name} cannot be used ({error})") from error
    encode = _find_encoder(name, compressor)
    folders = {"source": source, "target": target, "kernels": pool / "kernels"}
    hr_file, lr_file = hashes
    contents = {}
    if _hash_file(hr_file) == hashes[hr_file]:
        hr = read_uint8(hr_file)
    else:
        photo = _find_input(item["photo"], folders, section)
        hr = clean_up(read_uint8(photo, damaged), item["clean_up"], scale)
        contents[hr_file] = encode(hr)
    kernel = None
    if item["kernel"] != "bicubic":
        kernel = load_kernel(_find_input(f"kernels/{item['kernel']}", folders, section))
    contents[lr_file] = encode(degrade(hr, scale, kernel))
    for file, content in contents.items():
        if hashlib.sha256(content).hexdigest() != hashes[file]:
            raise UserError(_explain_difference(file, section["versions"]))
    results = []
    for file, content in contents.items():
        if _hash_file(file) == hashes[file]:
            logger.info("%s: rebuilt and identical: sha256 %s", file, hashes[file])
        else:
            file.parent.mkdir(exist_ok=True)
            write_bytes(file, content)
            results.append(file)
            logger.info(
                "%s: rebuilt and written, identical to the record: sha256 %s", file, hashes[file]
            )
    return results


def _find_encoder(name: str, compressor: str) -> Callable[[np.ndarray], bytes]:
    """Return the function that encodes a pair's images with the recorded compressor.

    Raises UserError if this machine compresses to other bytes.
    """
    if compressor == "zlib":
        return encode_zlib_png
    if compressor == compressor_name():
        return partial(encode_uint8, suffix=".png")
    raise UserError(
        f"pair={name}: its files were compressed by {compressor!r}; this machine has "
        f"{compressor_name()!r}, whose bytes differ for the same pixels. Rebuild the pair on a "
        "processor of the recorded kind, or make the pairs again with realsr.make_pairs"
    )


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
