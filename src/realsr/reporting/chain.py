"""Sections of a run's page that follow its data back: kernels and patches, pairs, photos."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from realsr.core.file_names import printable
from realsr.core.files import inside
from realsr.imaging import ImageError, read_uint8
from realsr.imaging.kernel_shapes import load_kernel
from realsr.pools.pool_statistics import PoolStatistics
from realsr.provenance.manifest import read_manifest
from realsr.reporting.drawing import choose_evenly
from realsr.reporting.pages import (
    Block,
    Card,
    Cards,
    Inline,
    Link,
    Paragraph,
    Picture,
    Plots,
    Section,
    embed_thumbnail,
)
from realsr.reporting.pool_figures import (
    MAX_KERNELS,
    MAX_PATCHES,
    choose_gain,
    common_side,
    embed_kernel,
    embed_noise,
    plot_kernel_spectra,
    plot_noise,
)
from realsr.reporting.run_records import RunRecords

MAX_PAIRS = 8
MAX_LINKS = 4  # from a photo, of each kind
RUN = Link("run", "#summary")

Items = dict[str, dict[str, Any]]
"""Facts of a manifest by item or by file."""


@dataclass
class Chain:
    """The items of a run's data that the page shows, and the links between them.

    pairs, kernels, patches: facts of the manifest, those of kernels and patches by file.
    photos: `source/name.png` or `target/name.png` -> anchor.
    """

    run: RunRecords
    pairs: Items = field(default_factory=dict)
    kernels: Items = field(default_factory=dict)
    patches: Items = field(default_factory=dict)
    photos: dict[str, str] = field(default_factory=dict)

    def photo_link(self, name: str) -> Link:
        """Return a link to a photo's card."""
        anchor = self.photos.setdefault(name, f"photo-{len(self.photos)}")
        return Link(printable(name), f"#{anchor}")


def make_chain_sections(run: RunRecords, pool: PoolStatistics | None) -> list[Section]:
    """Return the sections `Kernels`, `Noise`, `Pairs` and `Photos` of a run's data.

    pool: statistics of the pool, None if it is missing. Each item links to those that it was made
    of, and to those that were made of it.
    """
    chain = Chain(run)
    pairs_dir, pool_dir = run.place("pairs_dir"), run.place("pool_dir")
    noise_dir = run.place("noise_pool_dir") or pool_dir
    pairs = _read_items(pairs_dir, "pairs")
    chain.pairs = {name: pairs[name] for name in choose_evenly(sorted(pairs), MAX_PAIRS)}
    kernels: list[Block] = []
    if run.value("pool.kernels") != "bicubic":
        items = _index_files(_read_items(pool_dir, "kernels"), f"_x{run.scale}.mat")
        blurs = [_kernel_file(pair) for pair in chain.pairs.values()]
        examples = choose_evenly(sorted(items), max(1, MAX_KERNELS - MAX_PAIRS))
        chain.kernels = {file: items[file] for file in sorted({*blurs, *examples}) if file in items}
        if pool is not None and run.scale in pool.kernels:
            kernels.append(Plots([plot_kernel_spectra([pool], run.scale)]))
        if pool_dir is not None:
            kernels += _show_kernels(chain, pool_dir)
    patches: list[Block] = []
    if run.value("pool.noise"):
        items = _index_files(_read_items(noise_dir, "noise"), ".png")
        chain.patches = {file: items[file] for file in choose_evenly(sorted(items), MAX_PATCHES)}
        gain = 8.0
        if pool is not None and pool.noise is not None:
            patches.append(Plots(plot_noise([pool])))
            gain = choose_gain([pool.noise])
        if noise_dir is not None:
            patches += _show_patches(chain, noise_dir, gain)
    return [
        Section("kernels", "Kernels", kernels),
        Section("noise", "Noise", patches),
        Section("pairs", "Pairs", _show_pairs(chain, pairs_dir, len(pairs))),
        Section("photos", "Photos", _show_photos(chain)),
    ]


def _read_items(folder: Path | None, stage: str) -> Items:
    return {} if folder is None else dict(read_manifest(folder).get(stage, {}).get("items", {}))


def _index_files(items: Items, ending: str) -> Items:
    """Return the facts of the item of each file with an ending, and the file's index in the item."""
    return {
        file: item | {"index": index}
        for item in items.values()
        for index, file in enumerate(f for f in item["files"] if f.endswith(ending))
    }


def _kernel_file(pair: Mapping[str, Any]) -> str:
    name = str(pair.get("kernel", "bicubic"))
    return name if name == "bicubic" or name.startswith("kernels/") else f"kernels/{name}"


def _link(name: str, items: Iterable[str], kind: str) -> str | Link:
    """Return a link to the card of an item or file; its name if it has no card."""
    names = list(items)
    if name not in names:
        return name
    return Link(printable(PurePosixPath(name).name), f"#{kind}-{names.index(name)}")


def _digest(item: Mapping[str, Any], file: str) -> str:
    return f"SHA-256 {item['files'][file]['sha256'][:12]}"


def _find(folder: Path, name: str) -> Path | None:
    """Return the path of a manifest's file, None if it is missing or outside the folder."""
    try:
        path = inside(folder, name, follow_links=True)
    except ValueError:
        return None
    return path if path.is_file() else None


def _thumbnails(folder: Path | None, file: str, alt: str) -> list[Picture]:
    """Return a picture of a file; none if the file cannot be read."""
    path = None if folder is None else _find(folder, file)
    try:
        return [] if path is None else [embed_thumbnail(read_uint8(path), alt)]
    except (ImageError, OSError):
        return []


def _show_kernels(chain: Chain, folder: Path) -> list[Block]:
    paths = {file: _find(folder, file) for file in chain.kernels}
    arrays = {file: load_kernel(path) for file, path in paths.items() if path}
    if not arrays:
        return []
    side, cards = common_side(list(arrays.values())), []
    for index, (file, item) in enumerate(chain.kernels.items()):
        name = PurePosixPath(file).name.removesuffix(".mat")
        lines: list[Inline] = []
        if source := item.get("source"):
            lines.append(["estimated from ", chain.photo_link(f"source/{source}")])
        health = item.get("health") or {}
        if "spread_long" in health:
            spread = f"spread {health['spread_long']:.2f} x {health['spread_short']:.2f} px"
            lines.append(f"{spread} at scale 2")
        users = [name for name, pair in chain.pairs.items() if _kernel_file(pair) == file]
        lines += [["blurs ", _link(user, chain.pairs, "pair")] for user in users]
        lines.append(_digest(item, file))
        images = [embed_kernel(name, arrays[file], side)] if file in arrays else []
        cards.append(Card(printable(name), images, lines, f"kernel-{index}"))
    text = f"{len(cards)} kernels of the pool, each scaled to its own maximum; black is 0."
    return [Paragraph(text), Cards(cards)]


def _show_patches(chain: Chain, folder: Path, gain: float) -> list[Block]:
    cards = []
    for index, (file, item) in enumerate(chain.patches.items()):
        lines: list[Inline] = []
        if source := item.get("source"):
            lines.append(["a tile of ", chain.photo_link(f"source/{source}")])
        tiles = item.get("tiles") or []
        if item["index"] < len(tiles) and isinstance(tile := tiles[item["index"]], Mapping):
            lines += [f"{key} {_shorten(tile[key])}" for key in ("variance", "mean") if key in tile]
        lines += [["added to LR in the ", RUN], _digest(item, file)]
        path = _find(folder, file)
        images = [embed_noise(path, gain)] if path else []
        cards.append(Card(PurePosixPath(file).stem, images, lines, f"patch-{index}"))
    if not cards:
        return []
    inputs = chain.run.training.get("inputs", {})
    count = sum(name.startswith("noise/") for name in inputs)
    text = f"{len(cards)} of {count} patches, amplified {gain:.0f} times."
    return [Paragraph(text), Cards(cards)]


def _shorten(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _show_pairs(chain: Chain, folder: Path | None, count: int) -> list[Block]:
    if folder is None:
        return [Paragraph("The folder of the pairs does not exist any more.")]
    if not count:
        return [Paragraph("The pairs were made elsewhere, so their origin is unknown.")]
    inputs, cards = chain.run.training.get("inputs", {}), []
    for index, (name, item) in enumerate(chain.pairs.items()):
        files = {file.partition("/")[0]: file for file in item["files"]}
        kinds = [kind for kind in ("HR", "LR") if kind in files]
        images = [
            image for kind in kinds for image in _thumbnails(folder, files[kind], f"{kind} {name}")
        ]
        factor, kernel = item.get("clean_up", 1), _kernel_file(item)
        clean_up = "" if factor == 1 else f", reduced {factor} times"
        use = "trained on in the " if files.get("HR") in inputs else "held out of the "
        lines: list[Inline] = [
            ["HR from ", chain.photo_link(str(item.get("photo"))), clean_up],
            ["LR from HR by ", _link(kernel, chain.kernels, "kernel")],
            [use, RUN],
            *(f"{kind}: {_digest(item, file)}" for kind, file in files.items()),
        ]
        cards.append(Card(printable(name), images, lines, f"pair-{index}"))
    return [Paragraph(f"{len(cards)} of {count} pairs."), Cards(cards)]


def _show_photos(chain: Chain) -> list[Block]:
    cards = []
    for name, anchor in sorted(chain.photos.items()):
        role, _, file = name.partition("/")
        lines: list[Inline] = [f"{role} photo"]
        for kind, items, key, photo in (
            ("kernel", chain.kernels, "source", file if role == "source" else None),
            ("patch", chain.patches, "source", file if role == "source" else None),
            ("pair", chain.pairs, "photo", name),
        ):
            users = [item for item, facts in items.items() if photo and facts.get(key) == photo]
            lines += [[f"{kind}: ", _link(user, items, kind)] for user in users[:MAX_LINKS]]
        images = _thumbnails(chain.run.place(f"data.{role}"), file, f"{role} photo {file}")
        cards.append(Card(printable(file), images, lines, anchor))
    text = "The photos that the kernels, patches and pairs above were made of."
    return [Paragraph(text), Cards(cards)] if cards else []
