"""Which photos are enlarged, and where each result goes."""

from dataclasses import dataclass
from pathlib import Path

from realsr.errors import UserError
from realsr.imaging import IMAGE_SUFFIXES, find_images


@dataclass(frozen=True)
class Enlargement:
    """A photo, and the file that its enlargement will be."""

    photo: Path
    result: Path


def plan_enlargements(source: Path, output: Path, kind: str | None = None) -> list[Enlargement]:
    """Return the photos of a file or of a folder and its subfolders, which the results' folder repeats.

    Args:
        source: a photo, or a folder.
        output: of a photo, the file to write or an existing or suffixless folder; of a folder, a folder.
        kind: the format of all results, as a suffix with or without its dot; None: `output`'s or each photo's own.

    Raises:
        UserError: where a result would have no known format, take the place of a photo, or that of another result.
        ImageError: where there is no photo.
    """
    suffix = None if kind is None else _known_suffix(f".{kind.removeprefix('.')}", f"format={kind}")
    if not source.is_dir():
        [photo] = find_images(source)
        plan = [Enlargement(photo, _single_result(source, output, suffix))]
    else:
        if output.suffix.lower() in IMAGE_SUFFIXES and not output.is_dir():
            raise UserError(f"output={output}: {source} is a folder of photos, so that output must be a folder, too")
        if output.resolve().is_relative_to(source.resolve()):
            raise UserError(
                f"output={output} lies in the folder of photos, {source}: results would be taken for photos, or take "
                "their places; choose a folder beside it"
            )
        photos = find_images(source)
        plan = [Enlargement(path, _in_folder(output / path.relative_to(source), suffix)) for path in photos]
    _check_places(plan)
    return plan


def _single_result(source: Path, output: Path, suffix: str | None) -> Path:
    if output.is_dir() or not output.suffix:
        return _in_folder(output / source.name, suffix)
    own = _known_suffix(output.suffix, f"output={output}")
    if suffix is not None and suffix != own:
        raise UserError(f"output={output} and format={suffix[1:]} say two formats: leave one out")
    return output


def _in_folder(path: Path, suffix: str | None) -> Path:
    return path if suffix is None else path.with_suffix(suffix)


def _known_suffix(suffix: str, given: str) -> str:
    if suffix.lower() not in IMAGE_SUFFIXES:
        known = " ".join(sorted(IMAGE_SUFFIXES))
        raise UserError(f"{given}: {suffix} is no known image format: expected one of {known}, or an existing folder")
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
                f"{taken[place]} and {one.photo} would both become {one.result}: leave format out, or rename one"
            )
        taken[place] = one.photo
