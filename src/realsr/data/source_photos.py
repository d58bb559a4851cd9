"""The photos a stage takes in: found, named, and kept apart from what it writes."""

from pathlib import Path

from realsr.core.errors import UserError
from realsr.imaging import list_images

ROLES = {
    "source": "real photos whose look is to be learnt",
    "target": "clean high-resolution photos",
}


def damage_facts(damage: str | None) -> dict[str, str]:
    """Return what a manifest's item tells about its photo's damage: nothing for a sound photo."""
    return {} if damage is None else {"damaged": damage}


def list_photos(folder: Path | None, role: str, output: Path) -> dict[str, Path]:
    """Return the photos directly in `folder` by name without suffix, sorted.

    role: `source` or `target`; output: the folder that the stage writes into.

    Raises UserError where no folder is given or where it is the output folder, or where two photos
    would have one name; ImageError where it is missing or has no images.
    """
    if folder is None:
        raise UserError(f"data.{role} is not given; it is the folder of {ROLES[role]}: say data.{role}=FOLDER")
    if folder.resolve() == output.resolve():
        raise UserError(f"data.{role} and the output folder are the same, {folder}: choose another work_dir")
    photos: dict[str, Path] = {}
    for path in list_images(folder):
        if path.stem in photos:
            raise UserError(
                f"{folder}: {photos[path.stem].name} and {path.name} would both be called {path.stem}; rename one"
            )
        photos[path.stem] = path
    return photos
