"""The images of a folder."""

from pathlib import Path

from realsr.core.errors import ImageError
from realsr.core.file_names import list_files
from realsr.imaging.formats import IMAGE_SUFFIXES, RAW, UNREAD_SUFFIXES, describe_unread


def list_images(folder: Path) -> list[Path]:
    """Return the images directly in `folder`, by suffix, sorted by name, as `list_files` does.

    Raises ImageError if the folder is missing, is a file, cannot be listed, or holds no images.
    """
    folder = Path(folder)
    if not folder.exists():
        raise ImageError(f"the folder {folder} does not exist. Check the path.")
    if not folder.is_dir():
        raise ImageError(f"{folder} is a file, but a folder of images is expected. Give the folder it is in.")
    images = _list(folder, recursive=False)
    if not images:
        raise ImageError(_explain_none(folder))
    return images


def find_images(path: Path) -> list[Path]:
    """Return a file as it is, whatever its suffix; of a folder the images in it and its subfolders, sorted by path.

    Folders are listed as `list_files` does. Raises ImageError if the path does not exist, for a camera's
    raw file, and for a folder that cannot be listed or holds no images.
    """
    path = Path(path)
    if path.is_file():
        if UNREAD_SUFFIXES.get(path.suffix.lower()) == RAW:  # most are TIFF files of a small preview
            raise ImageError(describe_unread(str(path), RAW))
        return [path]
    if not path.exists():
        raise ImageError(f"{path} does not exist. Check the path, or give a file or a folder of images.")
    images = _list(path, recursive=True)
    if not images:
        raise ImageError(
            f"the folder {path} and its subfolders have no images; expected {' '.join(sorted(IMAGE_SUFFIXES))}."
        )
    return images


def _list(folder: Path, recursive: bool) -> list[Path]:
    try:
        return list_files(folder, IMAGE_SUFFIXES, recursive, UNREAD_SUFFIXES)
    except OSError as error:
        place, reason = error.filename or folder, error.strerror or error
        raise ImageError(f"the folder {place} cannot be listed ({reason}). Check its permissions.") from error


def _explain_none(folder: Path) -> str:
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    unread = sum(path.is_file() and path.suffix.lower() in UNREAD_SUFFIXES for path in entries)
    others = sum(path.is_file() for path in entries) - unread
    content = "it is empty" if not entries else f"{others} other file{'' if others == 1 else 's'}"
    content += f", {unread} image{'' if unread == 1 else 's'} of formats that are not read" if unread else ""
    message = f"the folder {folder} has no images ({content}); expected {' '.join(sorted(IMAGE_SUFFIXES))}."
    subfolders = [path.name for path in entries if path.is_dir() and any(map(_has_suffix, path.iterdir()))]
    if subfolders:
        more = " and others" if len(subfolders) > 3 else ""
        message += f" Its subfolders {', '.join(subfolders[:3])}{more} have some: give one of these."
    return message


def _has_suffix(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES
