"""The stage that collects noise patches: flat tiles of source photos that contain only noise."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from realsr.core.errors import UserError
from realsr.core.files import check_folder_place, check_name, write_bytes
from realsr.core.ranges import check_ranges
from realsr.core.workers import map_with_progress
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
    """A noise patch: its tile's position and facts for the manifest, its signature, its PNG file."""

    position: tuple[int, int]
    facts: dict[str, Any]
    signature: np.ndarray
    png: bytes


def collect_noise(
    source: Path | None,
    pool: Path,
    config: NoiseConfig,
    overwrite: bool,
    workers: int | None,
    damaged: str,
) -> None:
    """Write the noise patches of source photos to `pool/noise/<photo>_000.png` and so on.

    Photos of earlier calls are not processed again.
    workers: see `realsr.core.workers`; they do not change the result.
    damaged: `accept` uses the decodable part of damaged photos and reports it (log, manifest).

    Raises UserError at the end if a photo cannot be read or is too small (all others are processed
    nevertheless), or if no photo yields a patch.
    """
    check_ranges(config, "noise")
    photos = list_photos(source, "source", pool)
    check_folder_place("noise_pool_dir", pool, [STAGE])
    refuse_foreign(pool, STAGE)
    inputs = name_inputs("source", list(photos.values()))
    values = asdict(config)
    del values["auto"], values["min_patches"]
    with open_stage(
        pool,
        STAGE,
        config=values,
        seed=None,
        inputs=inputs,
        overwrite=overwrite,
        check_item=_check_item,
    ) as record:
        tiles = _examine_photos(photos, record, config, workers, damaged)
        if record.items and not _has_patches(record):
            drops = _count_drops(record)
            record.reset()
            reason = _explain_no_patches(np.concatenate(tiles), drops, config)
            raise UserError(reason + record.list_failures())
        _summarise(record, len(photos))
        record.finish()


def _examine_photos(
    photos: Mapping[str, Path],
    record: StageRecord,
    config: NoiseConfig,
    workers: int | None,
    damaged: str,
) -> list[np.ndarray]:
    """Write and record the patches of the photos that have no record; return tiles.

    The tiles are those of all photos if none has a patch, and none otherwise.
    """
    # Without any patch, measure all photos again: the error message covers all tiles.
    has_patches = _has_patches(record)
    queue = [path for name, path in photos.items() if not (has_patches and record.has_item(name))]
    done = len(photos) - len(queue)
    duplicates = (
        _restore_filter(record, {path.stem for path in queue}) if queue else DuplicateFilter()
    )
    examine = partial(examine_photo, config=config, damaged=damaged)
    tables: list[np.ndarray] = []
    for path, result in map_with_progress(STAGE, examine, queue, workers, done):
        name = path.stem
        if isinstance(result, Exception):
            record.fail(name, f"source/{path.name}", path, result)
            continue
        all_patches, drops, tiles, damage = result
        log_damage(path, damage)
        patches = [
            patch
            for patch in all_patches
            if config.released_rule or duplicates.add(patch.position, patch.signature)
        ]
        files = _write(patches, name, record.folder / "noise")
        record.add(
            name,
            files,
            source=path.name,
            tiles=[patch.facts for patch in patches],
            dropped=drops | {"duplicate": len(all_patches) - len(patches)},
            **damage_facts(damage),
        )
        has_patches = has_patches or bool(files)
        tables = [] if has_patches else [*tables, tiles]
    return tables


def examine_photo(
    path: Path, config: NoiseConfig, damaged: str
) -> tuple[list[Patch], dict[str, int], np.ndarray, str | None] | ImageError | ValueError:
    """Return a photo's patches, drops, tiles and damage, or the error if it cannot be used.

    The drops are the tiles that meet the thresholds and are not used, counted by reason.
    """
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
        signature = make_signature(remove_shading(pixels))
        position = facts["top"], facts["left"]
        patches.append(Patch(position, facts, signature, encode_uint8(pixels, ".png")))
    return patches, drops, tiles, damage


def _check_item(item: dict[str, Any]) -> None:
    """Raise KeyError, TypeError or ValueError if an item lacks what `collect_noise` records."""
    if len(item["tiles"]) != len(item["files"]):
        raise ValueError("it has not one file per tile")
    if not all(type(number) is int for number in item["dropped"].values()):
        raise TypeError("`dropped` has a value that is not a count")
    for tile in item["tiles"]:
        if not type(tile["top"]) is type(tile["left"]) is int or not isinstance(tile["flag"], str):
            raise TypeError("a tile has no position or flag")


def _has_patches(record: StageRecord) -> bool:
    return any(item["files"] for item in record.items.values())


def _restore_filter(record: StageRecord, queue: Set[str]) -> DuplicateFilter:
    """Return a filter with the patches of earlier calls, read from their files."""
    duplicates = DuplicateFilter()
    for name, item in record.items.items():
        if name in queue:
            continue
        for relative, tile in zip(item["files"], item["tiles"], strict=True):
            signature = make_signature(remove_shading(read_uint8(record.path(relative))))
            duplicates.add((tile["top"], tile["left"]), signature)
    return duplicates


def _patch_file(name: str, index: int) -> str:
    return f"{name}_{index:03d}.png"


def _write(patches: Sequence[Patch], name: str, folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    files = [folder / _patch_file(name, index) for index in range(len(patches))]
    for file, patch in zip(files, patches, strict=True):
        write_bytes(file, patch.png, sync=False)
    # Delete patches of a call with other thresholds that was killed before it recorded this photo.
    rest = (folder / _patch_file(name, index) for index in count(len(files)))
    for file in takewhile(Path.exists, rest):
        file.unlink()
    return files


def _count_drops(record: StageRecord) -> Counter[str]:
    drops: Counter[str] = Counter()
    for item in record.items.values():
        drops.update(item["dropped"])
    return +drops


def _summarise(record: StageRecord, photos: int) -> None:
    tiles = [item["tiles"] for item in record.items.values()]
    flags = [tile["flag"] for group in tiles for tile in group]
    drops = _list_drops(_count_drops(record))
    logger.info(
        "noise: %d patches from %d of %d photos in %s%s",
        len(flags),
        sum(map(bool, tiles)),
        photos,
        record.folder / "noise",
        f"; dropped: {drops}" if drops else "",
    )
    structured_count = flags.count("structured")
    if not structured_count:
        return
    advice = "Set smaller tiles (noise.size, noise.stride) or use photos with flat regions."
    if structured_count < len(flags):
        advice = (
            "To drop them, set noise.drop_structured=true and another work_dir "
            "(overwrite=true also restarts the run)."
        )
    logger.warning(
        "noise: %d of %d patches look structured and are marked in the manifest. "
        "Run realsr.survey_noise to see them. %s",
        structured_count,
        len(flags),
        advice,
    )


def _list_drops(drops: Counter[str]) -> str:
    return ", ".join(f"{number} {reason}" for reason, number in drops.items())


def _explain_no_patches(tiles: np.ndarray, drops: Counter[str], config: NoiseConfig) -> str:
    """Return the reason why there are no patches, and a threshold that would yield some."""
    text = (
        f"noise: none of {len(tiles)} tiles of {config.size}x{config.size} has a variance below "
        f"noise.max_variance={config.max_variance:g} and a mean above "
        f"noise.min_mean={config.min_mean:g}"
    )
    if drops:
        hint = "; set noise.drop_structured=false to keep these" if drops["structured"] else ""
        text += f" and passes all checks (dropped: {_list_drops(drops)}{hint})"
    bright = tiles[(tiles["mean"] > config.min_mean) & (tiles["variance"] >= CONSTANT)]
    if not len(bright):
        brightest = max(tiles["mean"], default=0)
        return (
            f"{text}.\nAll tiles are too dark: the brightest has a mean of {brightest:.1f}. "
            "Lower noise.min_mean."
        )
    variances = np.sort(bright["variance"])
    percents = {"lowest": 0, "1 %": 1, "5 %": 5, "25 %": 25, "median": 50}
    summary = ", ".join(f"{k} {np.percentile(variances, v):.1f}" for k, v in percents.items())
    # The threshold is exclusive, so it must exceed the variance of the last tile that should pass.
    drop_count = sum(drops.values())
    last = variances[min(TARGET_PATCHES + drop_count, len(variances)) - 1]
    threshold = np.ceil(last * 10 + 1) / 10
    gain_count = int((variances < threshold).sum()) - drop_count
    gain = (
        f"accept {gain_count} more, minus those that look structured"
        if drops["structured"]
        else f"yield up to {gain_count} patches"
    )
    return (
        f"{text}.\nVariances of the {len(variances)} tiles that are bright enough: {summary}.\n"
        f"noise.max_variance={threshold:.1f} would {gain}. Check them with realsr.survey_noise, "
        "because tiles far above 20 contain content. Alternatives: noise=auto, which chooses "
        "thresholds; smaller tiles (noise.size, noise.stride); photos with more flat regions."
    )
