"""Images of two folders, put together by name."""

from collections.abc import Iterable
from pathlib import Path

from realsr.errors import UserError
from realsr.imaging import list_images

SHOWN = 20  # names in a message


def list_by_name(folder: Path) -> dict[str, Path]:
    """Return the images directly in a folder by name without suffix, sorted.

    Raises UserError where two have one name, ImageError where the folder is missing or has no images.
    """
    images: dict[str, Path] = {}
    for path in list_images(folder):
        if path.stem in images:
            raise UserError(
                f"{folder}: {images[path.stem].name} and {path.name} would both be called {path.stem}; remove one"
            )
        images[path.stem] = path
    return images


def match_folders(hr: Path, lr: Path | None, scale: int) -> dict[str, tuple[Path, Path | None]]:
    """Return the HR and LR file of each image, by the name of HR; of LR None where no folder is given.

    LR may have HR's name with the scale behind it, as DIV2K has: 0801.png and 0801x4.png. Raises UserError, with the
    names, where one folder has names that the other has not; else as `list_by_name` does.
    """
    high = list_by_name(hr)
    if lr is None:
        return {name: (path, None) for name, path in high.items()}
    found, low = list_by_name(lr), dict[str, Path]()
    for name, path in found.items():
        plain = name.removesuffix(f"x{scale}")
        low[plain if name not in high and plain in high and plain not in found else name] = path
    kinds = {hr: high.keys() - low.keys(), lr: low.keys() - high.keys()}
    if unmatched := [f"only {folder} has {_some(names)}" for folder, names in kinds.items() if names]:
        raise UserError(
            f"{hr} and {lr} do not have the same names: {'; '.join(unmatched)}. Each HR needs an LR of its name, which "
            f"may end in x{scale}: 0801.png and 0801x{scale}.png"
        )
    return {name: (path, low[name]) for name, path in high.items()}


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more
