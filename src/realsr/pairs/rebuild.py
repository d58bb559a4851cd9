"""Makes one pair again from its record in the manifest, byte for byte."""

import difflib
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    name: str,
    source: Path | None,
    target: Path | None,
    pool: Path,
    output: Path,
    damaged: str = "refuse",
) -> list[Path]:
    """Make the LR of one pair again as `output`'s manifest records it, whatever the config is now.

    It is made from the HR on disk, or from the photo where that HR is missing or altered; then HR is made again too.
    Missing and altered files are written and returned.

    source, target: the folders of photos; pool: the folder with `kernels/`. Each is read only if it is needed.
    damaged: `accept` where the pair was made of a damaged photo, as its item records.

    Raises UserError, and writes nothing, where the name is not in the manifest, the photo or the kernel is not the
    recorded one, or the result differs from the recorded one.
    """
    section = read_manifest(output).get(STAGE)
    if section is None:
        raise UserError(
            f"{output / MANIFEST}: records no pairs, so none can be made again; make them with: "
            "python -m realsr.make_pairs +track=<track> data.source=FOLDER work_dir=FOLDER"
        )
    if name not in section["items"]:
        near = difflib.get_close_matches(name, section["items"], cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UserError(
            f"pair={name}: not among the {len(section['items'])} pairs of {output}{hint}"
        )
    item = section["items"][name]
    try:
        check_item(item)
        scale = section["config"]["scale"]
        names = [file.relative_to(output).as_posix() for file in pair_files(output, name)]
        recorded = {inside(output, file): item["files"][file]["sha256"] for file in names}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"{output / MANIFEST}: its item {name} cannot be used ({error})") from error
    folders = {"source": source, "target": target, "kernels": pool / "kernels"}
    hr_file, lr_file = recorded
    contents = {}
    if _hash_file(hr_file) == recorded[hr_file]:
        hr = read_uint8(hr_file)
    else:
        photo = _find_input(item["photo"], folders, section)
        hr = clean_up(read_uint8(photo, damaged), item["clean_up"], scale)
        contents[hr_file] = encode_uint8(hr, ".png")
    kernel = None
    if item["kernel"] != "bicubic":
        kernel = load_kernel(_find_input(f"kernels/{item['kernel']}", folders, section))
    contents[lr_file] = encode_uint8(degrade(hr, scale, kernel), ".png")
    for file, content in contents.items():
        if hashlib.sha256(content).hexdigest() != recorded[file]:
            raise UserError(_explain_difference(file, section["versions"]))
    results = []
    for file, content in contents.items():
        if _hash_file(file) == recorded[file]:
            logger.info("%s: made again, unchanged: sha256 %s", file, recorded[file])
        else:
            file.parent.mkdir(exist_ok=True)
            write_bytes(file, content)
            results.append(file)
            logger.info(
                "%s: made again and written, byte for byte that of the manifest: sha256 %s",
                file,
                recorded[file],
            )
    return results


def _find_input(name: str, folders: Mapping[str, Path | None], section: Mapping[str, Any]) -> Path:
    """Return the path of a recorded input, `<role>/<file>`. Raises UserError where its content is another."""
    role, _, file = name.partition("/")
    if role not in folders:
        raise UserError(
            f"{MANIFEST}: names the photo {name}; expected source/<file> or target/<file>"
        )
    folder = folders[role]
    if folder is None:
        raise UserError(
            f"data.{role} is not given; it is the folder of the photo {file}: set data.{role}=FOLDER"
        )
    try:
        path = inside(folder, file, follow_links=True)  # the user's own links may lead elsewhere
    except ValueError as error:
        raise UserError(f"{MANIFEST}: {error}; remove it if it is not yours") from error
    recorded, current = section["inputs"][name]["sha256"], _hash_file(path)
    if current != recorded:
        what = "there is no such file" if current is None else f"has sha256 {current}"
        raise UserError(
            f"{path}: {what}, but the pair was made from {name} of sha256 {recorded}: put that file there"
        )
    return path


def _hash_file(path: Path) -> str | None:
    """Return the SHA-256 of a file, None where there is none."""
    return str(fingerprint_file(path)["sha256"]) if path.is_file() else None


def _explain_difference(file: Path, recorded: Mapping[str, str]) -> str:
    """Return that the result is not the recorded one, and which packages may be the cause."""
    current = package_versions()
    changed = [
        f"\n  {package}: {recorded.get(package, 'none')} then, {current.get(package, 'none')} now"
        for package in sorted(recorded.keys() | current.keys())
        if recorded.get(package) != current.get(package)
    ]
    text = f"{file}: cannot be made as it was, nothing is written; "
    if changed:
        return f"{text}these packages differ, install the recorded versions:{''.join(changed)}"
    return text + "all packages are of the same version, so this program itself has changed since"
