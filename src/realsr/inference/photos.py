"""Which photos are enlarged, and where each result goes."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from realsr.core.errors import UserError
from realsr.core.files import check_folder_place, looks_lost
from realsr.imaging import IMAGE_SUFFIXES, find_images

logger = logging.getLogger("realsr")


@dataclass(frozen=True)
class Enlargement:
    """A photo, and the file that its enlargement will be."""

    photo: Path
    result: Path


def plan_enlargements(sources: Sequence[Path], output: str | Path, kind: str | None = None) -> list[Enlargement]:
    """Return the photos of files and of folders with their subfolders, which the results' folder repeats.

    A photo that is named twice, or that lies in a folder that is named too, is returned once.

    Args:
        sources: photos and folders.
        output: of one photo, the file to write, or a folder: one that exists, ends with a slash or has no suffix.
            Of a folder or of several sources, a folder.
        kind: the format of all results, as a suffix with or without its dot; None: `output`'s or each photo's own.

    Raises:
        UserError: where no source is given, where a result would have no known format, take the place of a photo, or
            that of another result, and where a file has the place of the output's folder.
        ImageError: where a source is missing or has no photo.
    """
    sources = list({_absolute(source): source for source in sources}.values())
    if not sources:
        raise UserError("input=[]: no photo is given: name photos or folders of photos")
    suffix = None if kind is None else _known_suffix(f".{kind.removeprefix('.')}", f"format={kind}")
    place = Path(output)
    is_folder = str(output).endswith(("/", os.sep)) or place.is_dir()
    if len(sources) > 1 or sources[0].is_dir():
        if place.suffix.lower() in IMAGE_SUFFIXES and not is_folder:
            what = f"{sources[0]} is a folder of photos" if len(sources) == 1 else "several photos are given"
            raise UserError(f"output={output}: {what}, so that output must be a folder, too")
        plan = [
            Enlargement(photo, _in_folder(place / relative, suffix))
            for photo, relative in _gather(sources, place).items()
        ]
        check_folder_place("output", place)
    else:
        [photo] = find_images(sources[0])
        plan = [Enlargement(photo, _single_result(photo, place, is_folder, suffix))]
        check_folder_place("output", plan[0].result.parent)
    _check_places(plan)
    return plan


def leave_results(plan: list[Enlargement]) -> list[Enlargement]:
    """Return the enlargements whose result is not there yet, or not whole, and say how many are."""
    there = [one.result for one in plan if _is_whole(one.result)]
    if there:
        logger.info(
            "%d of %d results are there already and stay as they are, such as %s: overwrite=true makes them anew",
            len(there),
            len(plan),
            there[0],
        )
    return [one for one in plan if one.result not in there]


def _gather(sources: Sequence[Path], output: Path) -> dict[Path, Path]:
    """Return each photo, and its place in the results' folder."""
    photos = dict[Path, Path]()
    paths = set[str]()
    for source in sources:
        if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
            raise UserError(
                f"output={output} lies in the folder of photos, {source}: results would be taken for photos, or take "
                "their places; choose a folder beside it"
            )
        for photo in find_images(source):
            if (path := _absolute(photo)) not in paths:
                paths.add(path)
                photos[photo] = photo.relative_to(source) if source.is_dir() else Path(photo.name)
    return photos


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 (links are not followed: they are photos with names of their own)


def _single_result(photo: Path, output: Path, is_folder: bool, suffix: str | None) -> Path:
    if is_folder or not output.suffix:
        return _in_folder(output / photo.name, suffix)
    own = _known_suffix(output.suffix, f"output={output}", "; for a folder, end the name with a slash")
    if suffix is not None and suffix != own:
        raise UserError(f"output={output} and format={suffix[1:]} say two formats: leave one out")
    return output


def _in_folder(path: Path, suffix: str | None) -> Path:
    return path if suffix is None else path.with_suffix(suffix)


def _known_suffix(suffix: str, given: str, advice: str = "") -> str:
    if suffix.lower() not in IMAGE_SUFFIXES:
        known = " ".join(sorted(IMAGE_SUFFIXES))
        raise UserError(f"{given}: {suffix} is no known image format: expected one of {known}{advice}")
    return suffix


def _check_places(plan: list[Enlargement]) -> None:
    photos = {one.photo.resolve() for one in plan}
    taken = dict[Path, Path]()
    for one in plan:
        place = one.result.resolve()
        if place in photos:
            raise UserError(f"{one.result}: the result would take the place of a photo: choose another output")
        if place in taken:
            raise UserError(
                f"{taken[place]} and {one.photo} would both become {one.result}: leave format out, rename one, or "
                "enlarge them into two folders"
            )
        taken[place] = one.photo


def _is_whole(result: Path) -> bool:
    """Tell whether a result is there, and whole as far as that is seen; where it cannot have a place, it is not."""
    try:
        return result.is_file() and not looks_lost(result, with_end=False)
    except OSError:
        return os.access(result, os.F_OK)  # a file that cannot be read
