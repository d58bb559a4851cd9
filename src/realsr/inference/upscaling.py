"""Upscaling of photo files: the places of the results, and the work itself."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from realsr.core.errors import UserError, first_line
from realsr.core.files import check_folder_place, check_name, is_disk_full, looks_lost
from realsr.core.progress import Progress
from realsr.imaging import (
    IMAGE_SUFFIXES,
    ImageError,
    Layout,
    check_format,
    count_pixels,
    fill_transparent,
    find_images,
    holds_alpha,
    is_opaque,
    open_photo_writer,
    read_photo,
)
from realsr.inference.model import SRModel
from realsr.inference.tiling import Advance, Tiles, upscale_bands

logger = logging.getLogger("realsr")


def plan_results(
    sources: Sequence[Path], output: str | Path, kind: str | None = None
) -> dict[Path, Path]:
    """Return the file of the result by photo, for photos and all photos in folders and subfolders.

    The output folder repeats the subfolders. A photo that occurs twice in the sources is one.

    Args:
        sources: photos and folders.
        output: for one photo, the file to write or a folder (which exists, ends with a slash or has
            no suffix). For a folder or several sources, a folder.
        kind: the format of all results, as a suffix with or without its dot; None for that of
            `output` or of each photo.

    Raises:
        UserError: without sources; if a result would have no supported format or overwrite a photo
            or another result; if a file is in the place of the output folder.
        ImageError: if a source is missing or has no photo.
    """
    sources = list({_absolute(source): source for source in sources}.values())
    if not sources:
        raise UserError("input=[] has no photo: set input to photos or folders of photos")
    suffix = None if kind is None else f".{kind.removeprefix('.')}"
    if suffix is not None:
        _check_suffix(suffix, f"format={kind}")
    place = Path(output)
    is_folder = str(output).endswith(("/", os.sep)) or place.is_dir()
    to_file = len(sources) == 1 and not sources[0].is_dir() and not is_folder and place.suffix != ""
    if to_file:
        _check_suffix(place.suffix, f"output={output}", "; for a folder, end the name with a slash")
        if suffix not in (None, place.suffix):
            raise UserError(f"output={output} and format={kind} set two formats: set only one")
    elif place.suffix.lower() in IMAGE_SUFFIXES and not is_folder:
        reason = "input has several photos"
        if len(sources) == 1:
            reason = f"{sources[0]} is a folder of photos"
        raise UserError(f"output={output}: {reason}, so output must be a folder, too")
    results = dict[Path, Path]()
    for photo, relative in _gather(sources, place).items():
        result = place / relative.with_suffix(suffix or relative.suffix)
        results[photo] = place if to_file else result
    check_folder_place("output", place.parent if to_file else place)
    _check_places(results)
    return results


def skip_finished(results: Mapping[Path, Path]) -> dict[Path, Path]:
    """Return the results that are missing or incomplete, and log the number of the others."""
    rest = {photo: result for photo, result in results.items() if not _is_complete(result)}
    if complete := [result for photo, result in results.items() if photo not in rest]:
        logger.info(
            "%d of %d results exist and are skipped, such as %s: "
            "set overwrite=true to redo them with these weights",
            len(complete),
            len(results),
            complete[0],
        )
    return rest


def upscale_photos(
    results: Mapping[Path, Path],
    model: SRModel,
    tiles_for: Callable[[int, int], Tiles],
    damaged: str,
) -> None:
    """Upscale photos. An error of one photo is logged, and the others are upscaled.

    results: see `plan_results`. tiles_for: as returned by `choose_tiles`. damaged: see `read_photo`.

    Raises UserError at the end if there were errors, and OSError immediately if the disk is full.
    """
    sizes = {photo: count_pixels(photo) for photo in results}
    failures, count = list[Path](), 0
    with Progress("upscaled", total=100, percent=True) as progress:
        for index, (photo, result) in enumerate(results.items(), start=1):
            before = count
            note = photo.name + (f", {index} of {len(results)}" if len(results) > 1 else "")

            def advance(pixels: int, note: str = note) -> None:
                nonlocal count
                count += pixels
                percent = 100 * count // max(1, sum(sizes.values()))
                progress.advance(max(0, min(100, percent) - progress.count), note)

            try:
                upscale_photo(photo, result, model, tiles_for, damaged, advance)
                logger.info("%s -> %s", photo, result)
                continue
            except ImageError as error:  # its message names the photo
                logger.error("%s", error)
            except (UserError, OSError) as error:
                if isinstance(error, OSError) and is_disk_full(error):
                    raise
                logger.error("%s: %s", photo, error)
            except RuntimeError as error:  # other authors' networks may have other requirements
                reason = first_line(error)
                logger.error("%s: the network fails on this photo (%s)", photo, reason)
            failures.append(photo)
            count, sizes[photo] = before, 0
    if failures:
        names = ", ".join(map(str, failures[:5])) + (", …" if len(failures) > 5 else "")
        raise UserError(
            f"{len(failures)} of {len(results)} photos could not be upscaled, see above: {names}"
        )


def upscale_photo(
    photo: Path,
    result: Path,
    model: SRModel,
    tiles_for: Callable[[int, int], Tiles],
    damaged: str,
    advance: Advance = lambda pixels: None,
) -> None:
    """Upscale one photo, preserving bit depth, gray, alpha, colour profile and EXIF.

    The orientation is applied. `fill_transparent` replaces the colours of transparent pixels. Alpha
    is dropped if all pixels are opaque and the result's format does not support it.

    damaged: see `read_photo`. advance: called with numbers of LR pixels as they are upscaled.

    Raises ImageError if the photo cannot be read, and before any work if the result's format cannot
    hold it or the result cannot be written to its place; OSError if the disk is full; UserError if
    memory does not suffice, and as `model.run` does.
    """
    content = read_photo(photo, damaged)
    samples = content.samples
    if samples.shape[2] in (2, 4) and not holds_alpha(result.suffix) and is_opaque(samples):
        samples = samples[..., :-1]
    height, width, channels = samples.shape
    layout = Layout(model.scale * height, model.scale * width, channels, 8 * samples.itemsize)
    try:
        check_format(result.suffix, layout)
    except ImageError as error:
        raise ImageError(
            f"{photo}, upscaled: {error} Set output to such a name, or format=png for a folder."
        ) from error
    _make_place(photo, result)
    if channels in (2, 4):
        samples = np.require(samples, requirements="W")
        fill_transparent(samples)
    with open_photo_writer(result, layout, content.metadata) as writer:
        for band in upscale_bands(model, samples, tiles_for(height, width), advance):
            writer.write(band)


def _gather(sources: Sequence[Path], output: Path) -> dict[Path, Path]:
    """Return all photos of the sources, each with its path relative to the output folder."""
    photos = dict[Path, Path]()
    paths = set[str]()
    for source in sources:
        if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
            raise UserError(
                f"output={output} is in the folder of photos {source}: results would be taken for "
                "photos or overwrite them; set output to a folder outside it"
            )
        for photo in find_images(source):
            if (path := _absolute(photo)) not in paths:
                paths.add(path)
                photos[photo] = photo.relative_to(source) if source.is_dir() else Path(photo.name)
    return photos


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 (links are not followed, to keep their names)


def _check_suffix(suffix: str, setting: str, advice: str = "") -> None:
    if suffix.lower() not in IMAGE_SUFFIXES:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise UserError(
            f"{setting}: {suffix} is not a supported output format: expected one of {suffixes}"
            f"{advice}"
        )


def _check_places(results: Mapping[Path, Path]) -> None:
    photos = {photo.resolve() for photo in results}
    places = dict[Path, Path]()
    for photo, result in results.items():
        place = result.resolve()
        if place in photos:
            raise UserError(f"{result}: the result would overwrite a photo: set another output")
        if place in places:
            raise UserError(
                f"{places[place]} and {photo} would have the same result {result}: omit format, "
                "rename one of them, or upscale them into two folders"
            )
        places[place] = photo


def _is_complete(result: Path) -> bool:
    """Return whether a result exists and looks complete."""
    try:
        return result.is_file() and not looks_lost(result, with_end=False)
    except OSError:
        return os.access(result, os.F_OK)  # a file that cannot be read


def _make_place(photo: Path, result: Path) -> None:
    """Make the folder of a result. Raises ImageError if it or a file of that name is impossible."""
    try:
        check_name(result.name)
        if result.is_dir():
            raise ValueError(f"a folder has the name {result.name}")
        result.parent.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        if isinstance(error, OSError) and is_disk_full(error):
            raise
        reason = getattr(error, "strerror", None) or error
        raise ImageError(
            f"{photo} cannot be upscaled into {result.parent} ({reason}): move what is "
            "in the way, or set another output."
        ) from error
