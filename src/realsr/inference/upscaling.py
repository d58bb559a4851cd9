"""Photos upscaled, from file to file: which they are, where each result goes, and the work itself."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from realsr.core.errors import UserError
from realsr.core.files import check_folder_place, check_name, is_disk_full, looks_lost
from realsr.core.progress import Progress
from realsr.imaging import (
    IMAGE_SUFFIXES,
    ImageError,
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
from realsr.inference.tile_layout import Tiles
from realsr.inference.tiling import Advance, upscale_bands

logger = logging.getLogger("realsr")


@dataclass(frozen=True)
class UpscaleTask:
    """A photo, and the file that its result will be."""

    photo: Path
    result: Path


def plan_tasks(
    sources: Sequence[Path], output: str | Path, kind: str | None = None
) -> list[UpscaleTask]:
    """Return the photos of files and of folders with their subfolders, which the results' folder repeats.

    A photo that is named twice, or that lies in a folder that is named too, is returned once.

    Args:
        sources: photos and folders.
        output: of one photo, the file to write, or a folder: one that exists, ends with a slash or has no suffix.
            Of a folder or of several sources, a folder.
        kind: the format of all results, as a suffix with or without its dot; None: `output`'s or each photo's own.

    Raises:
        UserError: without sources, where a result would have no known format, take the place of a photo, or
            that of another result, and where a file has the place of the output's folder.
        ImageError: where a source is missing or has no photo.
    """
    sources = list({_absolute(source): source for source in sources}.values())
    if not sources:
        raise UserError("input=[]: no photo is given: name photos or folders of photos")
    suffix = None if kind is None else f".{kind.removeprefix('.')}"
    if suffix is not None:
        _check_suffix(suffix, f"format={kind}")
    place = Path(output)
    is_folder = str(output).endswith(("/", os.sep)) or place.is_dir()
    to_file = len(sources) == 1 and not sources[0].is_dir() and not is_folder and place.suffix != ""
    if to_file:
        _check_suffix(place.suffix, f"output={output}", "; for a folder, end the name with a slash")
        if suffix not in (None, place.suffix):
            raise UserError(f"output={output} and format={kind} set two formats: leave one out")
    elif place.suffix.lower() in IMAGE_SUFFIXES and not is_folder:
        what = (
            f"{sources[0]} is a folder of photos"
            if len(sources) == 1
            else "several photos are given"
        )
        raise UserError(f"output={output}: {what}, so that output must be a folder, too")
    tasks = []
    for photo, relative in _gather(sources, place).items():
        result = place / relative
        tasks.append(
            UpscaleTask(
                photo, place if to_file else result.with_suffix(suffix) if suffix else result
            )
        )
    check_folder_place("output", place.parent if to_file else place)
    _check_places(tasks)
    return tasks


def skip_finished(tasks: list[UpscaleTask]) -> list[UpscaleTask]:
    """Return the tasks whose result is missing or not whole, and log how many are finished."""
    finished = [task.result for task in tasks if _is_whole(task.result)]
    if finished:
        logger.info(
            "%d of %d results exist and stay as they are, such as %s: overwrite=true replaces them",
            len(finished),
            len(tasks),
            finished[0],
        )
    return [task for task in tasks if task.result not in finished]


def upscale_photos(
    tasks: Sequence[UpscaleTask],
    model: SRModel,
    tiles_for: Callable[[int], Tiles],
    damaged: str = "refuse",
) -> None:
    """Upscale photos, cut into tiles as `choose_tiles` returns; an error of one is logged, and the others are done.

    damaged: see `read_photo`. Raises UserError at the end if there were errors, and OSError at once where the disk is
    full.
    """
    sizes = {task.photo: count_pixels(task.photo) for task in tasks}
    failed, done = list[Path](), 0
    with Progress("upscaled, percent", total=100) as progress:
        for index, task in enumerate(tasks, start=1):
            photo, before = task.photo, done
            note = photo.name + (f", {index} of {len(tasks)}" if len(tasks) > 1 else "")

            def advance(pixels: int, note: str = note) -> None:
                nonlocal done
                done += pixels
                percent = 100 * done // max(1, sum(sizes.values()))
                progress.advance(max(0, min(100, percent) - progress.count), note)

            try:
                upscale_photo(photo, task.result, model, tiles_for, advance, damaged)
                logger.info("%s -> %s", photo, task.result)
                continue
            except ImageError as error:  # which names the photo
                logger.error("%s", error)
            except (UserError, OSError) as error:
                if isinstance(error, OSError) and is_disk_full(error):
                    raise
                logger.error("%s: %s", photo, error)
            except RuntimeError as error:  # another author's network may have demands of its own
                reason = (str(error) or repr(error)).splitlines()[0]
                logger.error("%s: the network fails on this photo (%s)", photo, reason)
            failed.append(photo)
            done, sizes[photo] = before, 0
    if failed:
        names = ", ".join(map(str, failed[:5])) + (", …" if len(failed) > 5 else "")
        raise UserError(
            f"{len(failed)} of {len(tasks)} photos could not be upscaled, see above: {names}"
        )


def upscale_photo(
    photo: Path,
    result: Path,
    model: SRModel,
    tiles_for: Callable[[int], Tiles],
    advance: Advance = lambda pixels: None,
    damaged: str = "refuse",
) -> None:
    """Upscale one photo: bits, gray, alpha, colour profile and EXIF stay, orientation is applied.

    Colours under transparent pixels are replaced by `fill_transparent`. Alpha that is opaque everywhere is left out
    where the result's format has none.

    `advance` is called with LR pixels as they are done. damaged: see `read_photo`. Raises ImageError where the photo
    cannot be read, the result's format cannot hold it, or the result has no place, the latter two before any work;
    OSError where the disk is full; UserError where memory does not suffice, and as `model.run`.
    """
    read = read_photo(photo, damaged)
    samples = read.samples
    if samples.shape[2] in (2, 4) and not holds_alpha(result.suffix) and is_opaque(samples):
        samples = samples[..., :-1]
    height, width, channels = samples.shape
    layout = (model.scale * height, model.scale * width, channels, 8 * samples.itemsize)
    try:
        check_format(result.suffix, *layout)
    except ImageError as error:
        raise ImageError(
            f"{photo}, upscaled: {error} Name output so, or set format=png for a folder."
        ) from error
    _make_place(photo, result)
    if channels in (2, 4):
        samples = np.require(samples, requirements="W")
        fill_transparent(samples)
    with open_photo_writer(result, *layout, read.metadata) as writer:
        for band in upscale_bands(model, samples, tiles_for(width), advance):
            writer.write(band)


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


def _check_suffix(suffix: str, setting: str, advice: str = "") -> None:
    if suffix.lower() not in IMAGE_SUFFIXES:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise UserError(
            f"{setting}: {suffix} is no known image format: expected one of {suffixes}{advice}"
        )


def _check_places(tasks: list[UpscaleTask]) -> None:
    photos = {task.photo.resolve() for task in tasks}
    places = dict[Path, Path]()
    for task in tasks:
        place = task.result.resolve()
        if place in photos:
            raise UserError(
                f"{task.result}: the result would take the place of a photo: choose another output"
            )
        if place in places:
            raise UserError(
                f"{places[place]} and {task.photo} would both become {task.result}: leave format out, rename one, or "
                "upscale them into two folders"
            )
        places[place] = task.photo


def _is_whole(result: Path) -> bool:
    """Tell whether a result exists, and is whole as far as that is seen; where it cannot have a place, it is not."""
    try:
        return result.is_file() and not looks_lost(result, with_end=False)
    except OSError:
        return os.access(result, os.F_OK)  # a file that cannot be read


def _make_place(photo: Path, result: Path) -> None:
    """Make the folder of a result. Raises ImageError where that, or the result's name, is not possible."""
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
            f"{photo} cannot be upscaled into {result.parent} ({reason}): move what is in the way, or choose another "
            "output."
        ) from error
