"""Makes one pair again from what the manifest tells of it, byte for byte."""

import difflib
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from realsr.core.errors import UserError
from realsr.core.files import inside, write_bytes
from realsr.imaging import encode_uint8, read_uint8
from realsr.imaging.kernel_shapes import load_kernel
from realsr.pairs.synthesis import STAGE, check_item, clean_up, degrade, pair_files
from realsr.provenance.fingerprints import fingerprint_file, package_versions
from realsr.provenance.manifest import read_manifest
from realsr.provenance.sections import MANIFEST

logger = logging.getLogger("realsr")


def rebuild_pair(
    name: str, source: Path | None, target: Path | None, pool: Path, output: Path, damaged: str = "refuse"
) -> list[Path]:
    """Make the LR of one pair again, as `output`'s manifest says it was made, whatever the config says now.

    It is made from the HR on disk, or from the photo where that HR is missing or altered; then HR is made again too.
    What is missing or altered is written; the files written are returned.

    source, target: the folders of photos; pool: the folder with `kernels/`. Each is read only if it is needed.
    damaged: `accept` where the pair was made of a damaged photo; the manifest's item tells it.

    Raises UserError, and then writes nothing, where the name is not in the manifest, where the photo or the kernel is
    not the recorded one, and where what comes out is not what is recorded.
    """
    section = read_manifest(output).get(STAGE)
    if section is None:
        raise UserError(
            f"{output / MANIFEST}: tells of no pairs, so none can be made again; make them with: "
            "python -m realsr.make_pairs +track=<track> data.source=FOLDER work_dir=FOLDER"
        )
    if name not in section["items"]:
        near = difflib.get_close_matches(name, section["items"], cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UserError(f"pair={name}: not among the {len(section['items'])} pairs of {output}{hint}")
    item = section["items"][name]
    try:
        check_item(item)
        scale = section["config"]["scale"]
        names = [file.relative_to(output).as_posix() for file in pair_files(output, name)]
        recorded = {inside(output, file): item["files"][file]["sha256"] for file in names}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"{output / MANIFEST}: its item {name} cannot be used ({error})") from error
    hr_file, lr_file = recorded
    contents = {}
    if _hash_file(hr_file) == recorded[hr_file]:
        hr = read_uint8(hr_file)
    else:
        photo = _find_photo(item["photo"], {"source": source, "target": target})
        hr = clean_up(read_uint8(_expect(photo, item["photo"], section), damaged), item["clean_up"], scale)
        contents[hr_file] = encode_uint8(hr, ".png")
    contents[lr_file] = encode_uint8(degrade(hr, scale, _find_kernel(item["kernel"], pool, section)), ".png")
    for file, content in contents.items():
        if hashlib.sha256(content).hexdigest() != recorded[file]:
            raise UserError(_unlike(file, section["versions"]))
    written = []
    for file, content in contents.items():
        if _hash_file(file) == recorded[file]:
            logger.info("%s: made again, unchanged: sha256 %s", file, recorded[file])
        else:
            file.parent.mkdir(exist_ok=True)
            write_bytes(file, content)
            written.append(file)
            logger.info(
                "%s: made again and written, byte for byte that of the manifest: sha256 %s", file, recorded[file]
            )
    return written


def _find_photo(photo: str, folders: Mapping[str, Path | None]) -> Path:
    role, _, file = photo.partition("/")
    if role not in folders:
        raise UserError(f"{MANIFEST}: names the photo {photo}; expected source/<file> or target/<file>")
    folder = folders[role]
    if folder is None:
        raise UserError(f"data.{role} is not given; it is the folder of the photo {file}: say data.{role}=FOLDER")
    return _inside(folder, file)


def _find_kernel(kernel: str, pool: Path, section: Mapping[str, Any]) -> np.ndarray | None:
    if kernel == "bicubic":
        return None
    return load_kernel(_expect(_inside(pool / "kernels", kernel), f"kernels/{kernel}", section))


def _inside(folder: Path, name: str) -> Path:
    """Return the path of an input. Links in the user's own folder of photos or kernels may lead elsewhere."""
    try:
        return inside(folder, name, follow_links=True)
    except ValueError as error:
        raise UserError(f"{MANIFEST}: {error}; remove it if it is not yours") from error


def _expect(path: Path, name: str, section: Mapping[str, Any]) -> Path:
    """Return the path if its content is that of the recorded input; else raise UserError."""
    recorded, found = section["inputs"][name]["sha256"], _hash_file(path)
    if found != recorded:
        what = "there is no such file" if found is None else f"has sha256 {found}"
        raise UserError(f"{path}: {what}, but the pair was made from {name} of sha256 {recorded}: put that file there")
    return path


def _hash_file(path: Path) -> str | None:
    """Return the SHA-256 of a file, None where there is none."""
    return str(fingerprint_file(path)["sha256"]) if path.is_file() else None


def _unlike(file: Path, recorded: Mapping[str, str]) -> str:
    """Say that what came out is not what is recorded, and which packages may be why."""
    now = package_versions()
    changed = [
        f"  {package}: {recorded.get(package, 'none')} then, {now.get(package, 'none')} now"
        for package in sorted(recorded.keys() | now.keys())
        if recorded.get(package) != now.get(package)
    ]
    why = "these packages differ, install those of then:\n" + "\n".join(changed)
    return f"{file}: cannot be made as it was, nothing is written; " + (
        why if changed else "all packages are of the same version, so this program itself has changed since"
    )
