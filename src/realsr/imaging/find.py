"""Which images there are."""

from pathlib import Path

from realsr.imaging.formats import IMAGE_SUFFIXES
from realsr.imaging.picture import ImageError


def list_images(folder: Path) -> list[Path]:
    """The images directly in `folder` by suffix, sorted by name; hidden files are left out.

    Raises ImageError if the folder is missing, is a file, cannot be listed, or holds no images.
    """
    folder = Path(folder)
    if not folder.exists():
        raise ImageError(f"the folder {folder} does not exist. Check the path.")
    if not folder.is_dir():
        raise ImageError(f"{folder} is a file, but a folder of images is expected. Give the folder it is in.")
    try:
        entries = _visible(folder)
        images = [path for path in entries if _is_image(path)]
        if not images:
            raise ImageError(_no_images(folder, entries))
    except OSError as error:
        raise ImageError(
            f"the folder {folder} cannot be listed ({error.strerror or error}). Check its permissions."
        ) from error
    return images


def find_images(path: Path) -> list[Path]:
    """Return a file as it is, whatever its suffix; of a folder the images in it and its subfolders, sorted by path.

    Hidden files and folders are left out. Links to folders are followed; no folder is entered twice.

    Raises ImageError if the path does not exist, and for a folder that cannot be listed or holds no images.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.exists():
        raise ImageError(f"{path} does not exist. Check the path, or give a file or a folder of images.")
    images: list[Path] = []
    try:
        _collect(path, images, set())
    except OSError as error:
        raise ImageError(
            f"{error.filename or path} cannot be listed ({error.strerror or error}). Check its permissions."
        ) from error
    if not images:
        raise ImageError(
            f"the folder {path} and its subfolders have no images; expected {' '.join(sorted(IMAGE_SUFFIXES))}."
        )
    return sorted(images)


def _collect(folder: Path, images: list[Path], entered: set[tuple[int, int]]) -> None:
    status = folder.stat()
    if (status.st_dev, status.st_ino) in entered:
        return
    entered.add((status.st_dev, status.st_ino))
    entries = _visible(folder)
    images += [path for path in entries if _is_image(path)]
    # Links come last: a folder is named by where it is, if it is inside.
    for entry in sorted((path for path in entries if path.is_dir()), key=lambda path: (path.is_symlink(), path)):
        _collect(entry, images, entered)


def _visible(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _no_images(folder: Path, entries: list[Path]) -> str:
    others = sum(path.is_file() for path in entries)
    found = "it is empty" if not entries else f"{others} other file{'' if others == 1 else 's'}"
    subfolders = [p.name for p in entries if p.is_dir() and any(_is_image(q) for q in _visible(p))]
    message = f"the folder {folder} has no images ({found}); expected {' '.join(sorted(IMAGE_SUFFIXES))}."
    if subfolders:
        more = " and others" if len(subfolders) > 3 else ""
        message += f" Its subfolders {', '.join(subfolders[:3])}{more} have some: give one of these."
    return message
