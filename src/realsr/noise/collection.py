"""The stage that collects noise patches: flat tiles of source photos that contain only noise."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from realsr.core.errors import UserError
from realsr.core.files import check_folder_place, check_name, write_bytes
from realsr.core.progress import Progress
from realsr.core.ranges import check_ranges
from realsr.core.workers import count_workers, map_items
from realsr.data.folders import damage_facts, list_photos
from realsr.imaging import ImageError, encode_uint8, log_damage, read_uint8
from realsr.noise.noise_config import NoiseConfig
from realsr.noise.tiles import (
    CONSTANT,
    TILES,
    DuplicateFilter,
    cut,
    judge_tiles,
    list_drop_reasons,
    make_signature,
    mask_tiles,
    measure_photo,
    remove_shading,
)
from realsr.provenance.manifest import name_inputs, open_stage, refuse_foreign
from realsr.provenance.sections import StageRecord

STAGE = "noise"
TARGET_PATCHES = 100  # number of patches that a suggested threshold yields, if possible

logger = logging.getLogger("realsr")


@dataclass(frozen=True)
class Patch:
    """A noise patch: its tile's facts for the manifest, its signature and its PNG file."""

    facts: dict[str, Any]
    signature: np.ndarray
    png: bytes

    @property
    def position(self) -> tuple[int, int]:
        """Top and left in the photo, in pixels."""
        return self.facts["top"], self.facts["left"]


@dataclass(frozen=True)
class PhotoNoise:
    """Noise of a photo.

    drops: number of tiles that meet the thresholds but are dropped, by reason.
    tiles: all tiles, (n,) of TILES. damage: description of the file's damage, None if intact.
    """

    patches: list[Patch]
    drops: dict[str, int]
    tiles: np.ndarray
    damage: str | None


def collect_noise(
    source: Path | None,
    pool: Path,
    config: NoiseConfig,
    overwrite: bool,
    workers: int | None,
    damaged: str,
) -> list[Path]:
    """Write the noise patches of source photos to `pool/noise/<photo>_000.png` and so on.

    Returns the files of all patches. Photos of earlier calls are not processed again.
    workers: see `realsr.core.workers`; they do not change the result.
    damaged: `accept` uses the decodable part of damaged photos and reports it (log, manifest).

    Raises UserError at the end if a photo cannot be read or is too small (all others are processed
    nevertheless), or if no photo yields a patch.
    """
    check_ranges(config, "noise")
    photos = list_photos(source, "source", pool)
    check_folder_place("noise_pool_dir", pool, [STAGE])
    refuse_foreign(pool, STAGE, "noise/**/*.png")
    inputs = name_inputs("source", list(photos.values()))
    values = asdict(config)
    del values["auto"], values["min_patches"]
    tables: list[np.ndarray] = []
    with open_stage(
        pool,
        STAGE,
        config=values,
        seed=None,
        inputs=inputs,
        overwrite=overwrite,
        check_item=_check_item,
    ) as record:
        # Without any patch, measure all photos again: the error message covers all tiles.
        has_patches = any(item["files"] for item in record.items.values())
        missing = [name for name in photos if not (has_patches and record.has_item(name))]
        duplicates = _restore_filter(record, set(missing)) if missing else DuplicateFilter()
        examine = partial(examine_photo, config=config, damaged=damaged)
        results = map_items(
            examine, (photos[name] for name in missing), count_workers(len(missing), workers)
        )
        with Progress(STAGE, total=len(photos), done=len(photos) - len(missing)) as progress:
            for name, result in zip(missing, results, strict=True):
                path = photos[name]
                progress.advance()
                if isinstance(result, Exception):
                    record.fail(name, f"source/{path.name}", path, result)
                    continue
                log_damage(path, result.damage)
                patches = [
                    patch
                    for patch in result.patches
                    if config.released_rule or duplicates.add(patch.position, patch.signature)
                ]
                files = list(_write(patches, name, pool / "noise"))
                record.add(
                    name,
                    files,
                    source=path.name,
                    tiles=[patch.facts for patch in patches],
                    dropped=result.drops | {"duplicate": len(result.patches) - len(patches)},
                    **damage_facts(result.damage),
                )
                has_patches = has_patches or bool(files)
                tables = [] if has_patches else [*tables, result.tiles]
        if record.items and not any(item["files"] for item in record.items.values()):
            drops = _count_drops(record)
            record.reset()
            reason = _explain_no_patches(np.concatenate(tables), drops, config)
            raise UserError(reason + record.list_failures())
        _summarise(record, len(photos))
        record.finish()
        return [record.path(file) for item in record.items.values() for file in item["files"]]


def examine_photo(
    path: Path, config: NoiseConfig, damaged: str
) -> PhotoNoise | ImageError | ValueError:
    """Return the noise patches of one photo, or the error if the photo cannot be used."""
    try:
        image, tiles, damage = measure_photo(
            path, config, damaged, config.max_variance, config.min_mean
        )
        flat = tiles[mask_tiles(tiles, config.max_variance, config.min_mean)]
        check_name(_patch_file(path.stem, len(flat)))
    except (ImageError, ValueError) as error:
        return error
    patches, drops = [], dict.fromkeys(("constant", "clipped", "structured"), 0)
    for tile, reason in zip(flat, judge_tiles(flat, config).tolist(), strict=True):
        if reason in list_drop_reasons(config):
            drops[reason] += 1
            continue
        facts = dict(zip(TILES.names or (), tile.item(), strict=True))
        flag = "structured" if facts["structure"] > config.max_structure else ""
        facts |= {"structure": round(facts["structure"], 4), "flag": flag}
        pixels = cut(image, tile, config.size)
        patches.append(
            Patch(facts, make_signature(remove_shading(pixels)), encode_uint8(pixels, ".png"))
        )
    return PhotoNoise(patches, drops, tiles, damage)


def _check_item(item: dict[str, Any]) -> None:
    """Raise KeyError, TypeError or ValueError if an item lacks what `collect_noise` records."""
    if len(item["tiles"]) != len(item["files"]):
        raise ValueError("it has not one file per tile")
    if not all(type(count) is int for count in item["dropped"].values()):
        raise TypeError("`dropped` has a value that is not a count")
    for tile in item["tiles"]:
        if not type(tile["top"]) is type(tile["left"]) is int or not isinstance(tile["flag"], str):
            raise TypeError("a tile has no position or flag")


def _restore_filter(record: StageRecord, missing: set[str]) -> DuplicateFilter:
    """Return a filter with the patches of earlier calls, read from their files."""
    duplicates = DuplicateFilter()
    for name, item in record.items.items():
        if name not in missing:
            for relative, tile in zip(item["files"], item["tiles"], strict=True):
                patch = read_uint8(record.path(relative))
                position = tile["top"], tile["left"]
                duplicates.add(position, make_signature(remove_shading(patch)))
    return duplicates


def _patch_file(name: str, index: int) -> str:
    return f"{name}_{index:03d}.png"


def _write(patches: Iterable[Patch], name: str, folder: Path) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    index = -1
    for index, patch in enumerate(patches):
        path = folder / _patch_file(name, index)
        write_bytes(path, patch.png, sync=False)
        yield path
    # Delete patches of a call with other thresholds that was killed before it recorded this photo.
    while (path := folder / _patch_file(name, index := index + 1)).exists():
        path.unlink()


def _count_drops(record: StageRecord) -> Counter[str]:
    drops: Counter[str] = Counter()
    for item in record.items.values():
        drops.update(item["dropped"])
    return +drops


def _summarise(record: StageRecord, photos: int) -> None:
    tiles = [item["tiles"] for item in record.items.values()]
    count = sum(map(len, tiles))
    drops = ", ".join(f"{number} {reason}" for reason, number in _count_drops(record).items())
    logger.info(
        "noise: %d patches from %d of %d photos in %s%s",
        count,
        sum(map(bool, tiles)),
        photos,
        record.folder / "noise",
        f"; dropped: {drops}" if drops else "",
    )
    structured_count = sum(tile["flag"] == "structured" for group in tiles for tile in group)
    if structured_count:
        if structured_count < count:
            advice = (
                "To drop them, set noise.drop_structured=true and another work_dir "
                "(overwrite=true also restarts the run)."
            )
        else:
            advice = "Set smaller tiles (noise.size, noise.stride) or use photos with flat regions."
        logger.warning(
            "noise: %d of %d patches look structured and are marked in the manifest. "
            "Run realsr.survey_noise to see them. %s",
            structured_count,
            count,
            advice,
        )


def _explain_no_patches(tiles: np.ndarray, drops: Counter[str], config: NoiseConfig) -> str:
    """Return the reason why there are no patches, and a threshold that would yield some."""
    text = (
        f"noise: none of {len(tiles)} tiles of {config.size}x{config.size} has a variance below "
        f"noise.max_variance={config.max_variance:g} and a mean above "
        f"noise.min_mean={config.min_mean:g}"
    )
    if drops:
        reasons = ", ".join(f"{number} {reason}" for reason, number in drops.items())
        hint = "; set noise.drop_structured=false to keep these" if drops["structured"] else ""
        text += f" and passes all checks (dropped: {reasons}{hint})"
    bright = tiles[(tiles["mean"] > config.min_mean) & (tiles["variance"] >= CONSTANT)]
    if not len(bright):
        brightest = max(tiles["mean"], default=0)
        return (
            f"{text}.\nAll tiles are too dark: the brightest has a mean of {brightest:.1f}. "
            "Lower noise.min_mean."
        )
    variances = np.sort(bright["variance"])
    names = ("lowest", "1 %", "5 %", "25 %", "median")
    percentiles = np.percentile(variances, [0, 1, 5, 25, 50])
    summary = ", ".join(f"{name} {v:.1f}" for name, v in zip(names, percentiles, strict=True))
    # The threshold is exclusive, so it must exceed the variance of the last tile that should pass.
    drop_count = sum(drops.values())
    last = variances[min(TARGET_PATCHES + drop_count, len(variances)) - 1]
    threshold = np.ceil(last * 10 + 1) / 10
    count = int((variances < threshold).sum()) - drop_count
    gain = (
        f"accept {count} more, minus those that look structured"
        if drops["structured"]
        else f"yield up to {count} patches"
    )
    return (
        f"{text}.\nVariances of the {len(variances)} tiles that are bright enough: {summary}.\n"
        f"noise.max_variance={threshold:.1f} would {gain}. Check them with realsr.survey_noise, "
        "because tiles far above 20 contain content. Alternatives: noise=auto, which chooses "
        "thresholds; smaller tiles (noise.size, noise.stride); photos with more flat regions."
    )
