"""Photos enlarged, from file to file."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from realsr.core.errors import UserError
from realsr.core.files import check_name, is_disk_full
from realsr.core.progress import Progress
from realsr.imaging import (
    ImageError,
    check_format,
    count_pixels,
    fill_transparent,
    holds_alpha,
    is_opaque,
    open_photo_writer,
    read_photo,
)
from realsr.inference.model import SRModel
from realsr.inference.photos import Enlargement
from realsr.inference.plan import Tiles
from realsr.inference.tiling import Advance, upscale_bands

logger = logging.getLogger("realsr")


def upscale_photos(
    plan: Sequence[Enlargement], model: SRModel, tiles_for: Callable[[int], Tiles], damaged: str = "refuse"
) -> None:
    """Enlarge photos, cut into tiles as `choose_tiles` says; those that cannot be are named, and the others are done.

    damaged: see `read_photo`. Raises UserError at the end if there were any that cannot be enlarged, and OSError at
    once where the disk is full.
    """
    sizes = {one.photo: count_pixels(one.photo) for one in plan}
    failed, done = list[Path](), 0
    with Progress("enlarged, percent", total=100) as progress:
        for index, one in enumerate(plan, start=1):
            note = one.photo.name + (f", {index} of {len(plan)}" if len(plan) > 1 else "")

            def advance(pixels: int, note: str = note) -> None:
                nonlocal done
                done += pixels
                percent = 100 * done // max(1, sum(sizes.values()))
                progress.advance(max(0, min(100, percent) - progress.count), note)

            before = done
            try:
                upscale_photo(one.photo, one.result, model, tiles_for, advance, damaged)
                logger.info("%s -> %s", one.photo, one.result)
            except ImageError as error:  # which names the photo
                logger.error("%s", error)
                failed.append(one.photo)
            except UserError as error:
                logger.error("%s: %s", one.photo, error)
                failed.append(one.photo)
            except OSError as error:
                if is_disk_full(error):
                    raise
                logger.error("%s: %s", one.photo, error)
                failed.append(one.photo)
            except RuntimeError as error:  # another author's network may have demands of its own
                reason = (str(error) or repr(error)).splitlines()[0]
                logger.error("%s: the network fails on this photo (%s)", one.photo, reason)
                failed.append(one.photo)
            if one.photo in failed:
                done, sizes[one.photo] = before, 0
    if failed:
        names = ", ".join(map(str, failed[:5])) + (", …" if len(failed) > 5 else "")
        raise UserError(f"{len(failed)} of {len(plan)} photos could not be enlarged, see above: {names}")


def upscale_photo(
    photo: Path,
    result: Path,
    model: SRModel,
    tiles_for: Callable[[int], Tiles],
    advance: Advance = lambda pixels: None,
    damaged: str = "refuse",
) -> None:
    """Enlarge one photo: bits, gray, alpha, colour profile and EXIF are kept, orientation is applied.

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
        raise ImageError(f"{photo}, enlarged: {error} Name output so, or say format=png for a folder.") from error
    _make_place(photo, result)
    if channels in (2, 4):
        samples = np.require(samples, requirements="W")
        fill_transparent(samples)
    with open_photo_writer(result, *layout, read.metadata) as writer:
        for band in upscale_bands(model, samples, tiles_for(width), advance):
            writer.write(band)


def _make_place(photo: Path, result: Path) -> None:
    """Make the folder of a result. Raises ImageError where that, or the result's name, is not possible."""
    try:
        check_name(result.name)
    except ValueError as error:
        raise ImageError(f"{photo} cannot be enlarged into {result.parent}: {error}.") from error
    if result.is_dir():
        raise ImageError(f"{photo}: its result {result} is a folder: move it, or choose another output.")
    try:
        result.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if is_disk_full(error):
            raise
        reason = error.strerror or error
        raise ImageError(
            f"{photo}: the folder of its result, {result.parent}, cannot be made ({reason}): move what is in the way, "
            "or choose another output."
        ) from error
