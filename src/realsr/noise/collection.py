"""The stage that collects noise patches: flat tiles of source photos, where all that varies is noise."""

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
from realsr.imaging import ImageError, log_damage, read_uint8
from realsr.imaging.png import encode_png
from realsr.noise.noise_config import NoiseConfig
from realsr.noise.tiles import (
    CONSTANT,
    TILES,
    SeenTiles,
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
ENOUGH = 100  # patches that a suggested threshold yields, where there are so many

logger = logging.getLogger("realsr")


@dataclass(frozen=True)
class Patch:
    """A noise patch of a photo: its tile's facts for the manifest, its signature, its file's content."""

    facts: dict[str, Any]
    signature: np.ndarray
    png: bytes

    @property
    def place(self) -> tuple[int, int]:
        """Top and left in the photo."""
        return self.facts["top"], self.facts["left"]


@dataclass(frozen=True)
class PhotoNoise:
    """A photo's patches, how many tiles below the thresholds were dropped for each reason, and all its tiles.

    damage: what is wrong with its file, None for nothing.
    """

    patches: list[Patch]
    dropped: dict[str, int]
    tiles: np.ndarray
    damage: str | None


def collect_noise(
    source: Path | None,
    pool: Path,
    config: NoiseConfig,
    overwrite: bool = False,
    workers: int | None = None,
    damaged: str = "refuse",
) -> list[Path]:
    """Write the noise patches of a folder of source photos to `pool/noise/<photo>_000.png` and on, and return them.

    Photos that are done already are left as they are. workers: see `realsr.core.workers`; they change no result.
    damaged: `accept` uses what can be decoded of damaged photos, and reports it in the log and in the manifest.

    Raises UserError at the end if a photo cannot be read or is too small (all others are done then), or if no tile of
    any photo is below the thresholds.
    """
    check_ranges(config, "noise")
    photos = list_photos(source, "source", pool)
    check_folder_place("noise_pool_dir", pool, [STAGE])
    refuse_foreign(pool, STAGE, "noise/**/*.png")
    inputs = name_inputs("source", list(photos.values()))
    values = {
        key: value for key, value in asdict(config).items() if key not in ("auto", "min_patches")
    }
    measured: list[np.ndarray] = []
    with open_stage(
        pool,
        STAGE,
        config=values,
        seed=None,
        inputs=inputs,
        overwrite=overwrite,
        check_item=_check_item,
    ) as record:
        # As long as there is no patch all tiles are measured again, so that the message counts all of them.
        any_patch = any(item["files"] for item in record.items.values())
        missing = [name for name in photos if not (any_patch and record.is_done(name))]
        history = _recall(record, set(missing)) if missing else SeenTiles()
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
                    p
                    for p in result.patches
                    if config.released_rule or history.add(p.place, p.signature)
                ]
                dropped = result.dropped | {"duplicate": len(result.patches) - len(patches)}
                files = list(_write(patches, name, pool / "noise"))
                facts = {"tiles": [p.facts for p in patches], "dropped": dropped} | damage_facts(
                    result.damage
                )
                record.add(name, files, source=path.name, **facts)
                any_patch = any_patch or bool(files)
                measured = [] if any_patch else [*measured, result.tiles]
        if record.items and not any(item["files"] for item in record.items.values()):
            drops = _count_drops(record)
            record.reset()
            raise UserError(
                _explain_none(np.concatenate(measured), drops, config) + record.list_failures()
            )
        _summarise(record, len(photos))
        record.finish()
        return [record.path(file) for item in record.items.values() for file in item["files"]]


def examine_photo(
    path: Path, config: NoiseConfig, damaged: str
) -> PhotoNoise | ImageError | ValueError:
    """Find the noise patches of one photo; return the error of a photo that cannot be used."""
    try:
        image, tiles, damage = measure_photo(
            path, config, damaged, config.max_variance, config.min_mean
        )
        flat = tiles[mask_tiles(tiles, config.max_variance, config.min_mean)]
        check_name(_patch_file(path.stem, len(flat)))
    except (ImageError, ValueError) as error:
        return error
    patches, dropped = [], dict.fromkeys(("constant", "clipped", "structured"), 0)
    for tile, reason in zip(flat, judge_tiles(flat, config).tolist(), strict=True):
        if reason in list_drop_reasons(config):
            dropped[reason] += 1
            continue
        facts = dict(zip(TILES.names or (), tile.item(), strict=True))
        flag = "structured" if facts["structure"] > config.max_structure else ""
        facts |= {"structure": round(facts["structure"], 4), "flag": flag}
        pixels = cut(image, tile, config.size)
        patches.append(Patch(facts, make_signature(remove_shading(pixels)), encode_png(pixels)))
    return PhotoNoise(patches, dropped, tiles, damage)


def _check_item(item: dict[str, Any]) -> None:
    """Raise KeyError, TypeError or ValueError where a recorded item lacks what `collect_noise` records."""
    if len(item["tiles"]) != len(item["files"]) or not all(
        type(count) is int for count in item["dropped"].values()
    ):
        raise ValueError("its tiles do not fit its files")
    if not all(
        type(tile["top"]) is type(tile["left"]) is int and isinstance(tile["flag"], str)
        for tile in item["tiles"]
    ):
        raise TypeError("a tile has no place")


def _recall(record: StageRecord, missing: set[str]) -> SeenTiles:
    """Remember the patches of an interrupted run, read from their files."""
    history = SeenTiles()
    for name, item in record.items.items():
        if name not in missing:
            for relative, tile in zip(item["files"], item["tiles"], strict=True):
                patch = read_uint8(record.path(relative))
                history.add((tile["top"], tile["left"]), make_signature(remove_shading(patch)))
    return history


def _patch_file(name: str, index: int) -> str:
    return f"{name}_{index:03d}.png"


def _write(patches: Iterable[Patch], name: str, folder: Path) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    index = -1
    for index, patch in enumerate(patches):
        path = folder / _patch_file(name, index)
        write_bytes(path, patch.png, sync=False)
        yield path
    # What a run with other thresholds left that was killed before it could record this photo.
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
    structured = sum(tile["flag"] == "structured" for group in tiles for tile in group)
    if structured:
        logger.warning(
            "noise: %d of %d patches look structured (the manifest marks them). realsr.survey_noise draws them; %s",
            structured,
            count,
            "to drop them, set noise.drop_structured=true and another work_dir (overwrite=true restarts the run too)"
            if structured < count
            else "smaller tiles (noise.size, noise.stride) or photos with something flat find others",
        )


def _explain_none(tiles: np.ndarray, drops: Counter[str], config: NoiseConfig) -> str:
    """Return why there is no patch, and a threshold that would yield some."""
    text = f"noise: none of {len(tiles)} tiles of {config.size}x{config.size} has a variance below "
    text += f"noise.max_variance={config.max_variance:g} and a mean above noise.min_mean={config.min_mean:g}"
    if drops:
        reasons = ", ".join(f"{number} {reason}" for reason, number in drops.items())
        keep = "; noise.drop_structured=false keeps these" if drops["structured"] else ""
        text += f" and is kept (dropped: {reasons}{keep})"
    bright = tiles[(tiles["mean"] > config.min_mean) & (tiles["variance"] >= CONSTANT)]
    if not len(bright):
        brightest = max(tiles["mean"], default=0)
        return f"{text}.\nNo tile is bright enough: the brightest has a mean of {brightest:.1f}. Lower noise.min_mean."
    variances = np.sort(bright["variance"])
    quantiles = zip(
        ("lowest", "1 %", "5 %", "25 %", "median"),
        np.percentile(variances, [0, 1, 5, 25, 50]),
        strict=True,
    )
    # The threshold is exclusive, so it lies just above the variance of the last tile it is to let in.
    dropped = sum(drops.values())
    threshold = np.ceil(variances[min(ENOUGH + dropped, len(variances)) - 1] * 10 + 1) / 10
    count = int((variances < threshold).sum()) - dropped
    promise = (
        f"let in {count} more, less those that look structured"
        if drops["structured"]
        else f"yield up to {count} patches"
    )
    return (
        f"{text}.\nVariances of the {len(variances)} tiles that are bright enough: "
        f"{', '.join(f'{name} {value:.1f}' for name, value in quantiles)}.\n"
        f"noise.max_variance={threshold:.1f} would {promise}; look at them, since a threshold far above "
        "20 lets in content: realsr.survey_noise draws them. Smaller tiles (noise.size, noise.stride) or other photos "
        "find more that is flat; noise=auto chooses thresholds."
    )
