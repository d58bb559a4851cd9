"""Sections of a run's page that follow its data back: run, pairs, kernels and patches, photos."""

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
from realsr.reporting.pool_page import (
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


@dataclass
class Chain:
    """The items of a run's data that the page shows, and the links between them.

    pairs, kernels, patches: item -> facts of its manifest, by the name of the file.
    photos: `source/name.png` or `target/name.png` -> anchor.
    """

    run: RunRecords
    pairs: dict[str, dict[str, Any]] = field(default_factory=dict)
    kernels: dict[str, dict[str, Any]] = field(default_factory=dict)
    patches: dict[str, dict[str, Any]] = field(default_factory=dict)
    photos: dict[str, str] = field(default_factory=dict)

    def photo_link(self, name: str) -> Link:
        """Return a link to a photo's card."""
        anchor = self.photos.setdefault(name, f"photo-{len(self.photos)}")
        return Link(printable(name), f"#{anchor}")

    def kernel_link(self, name: str) -> Inline:
        """Return a link to a kernel's card, or its name if it has none."""
        return _link(name, self.kernels, "kernel")


def _link(name: str, items: Iterable[str], kind: str) -> str | Link:
    names = list(items)
    return Link(printable(name), f"#{kind}-{names.index(name)}") if name in names else name


def make_chain_sections(run: RunRecords, pool: PoolStatistics | None) -> list[Section]:
    """Return the sections `Kernels`, `Noise`, `Pairs` and `Photos` of a run's data.

    pool: statistics of the pool, None if it is missing. Each item links to those that it was made
    of, and to those that were made of it.
    """
    chain = Chain(run)
    scale = int(run.config.get("scale", 4))
    uses_kernels = _value(run.config, "pool", "kernels") != "bicubic"
    uses_noise = bool(_value(run.config, "pool", "noise"))
    pairs_dir, pool_dir = run.place("pairs_dir"), run.place("pool_dir")
    noise_dir = run.place("noise_pool_dir") or pool_dir
    pair_items = _items(pairs_dir, "pairs")
    names = choose_evenly(sorted(pair_items), MAX_PAIRS)
    chain.pairs = {name: pair_items[name] for name in names}
    if uses_kernels:
        items = _by_file(_items(pool_dir, "kernels"), f"_x{scale}.mat")
        used = [_kernel_name(pair) for pair in chain.pairs.values()]
        others = choose_evenly(sorted(items), max(1, MAX_KERNELS - MAX_PAIRS))
        names = [name for name in sorted({*used, *others}) if name in items]
        chain.kernels = {name: items[name] for name in names}
    if uses_noise:
        items = _by_file(_items(noise_dir, "noise"), ".png")
        chain.patches = {
            name: items[name] for name in choose_evenly(sorted(items), MAX_PATCHES) if items
        }
    has_kernels = uses_kernels and pool is not None and scale in pool.kernels
    plots = [Plots([plot_kernel_spectra([pool], scale)])] if has_kernels and pool else []
    kernels = _show_kernels(chain, pool_dir) if pool_dir is not None else []
    gain = choose_gain([pool.noise]) if pool is not None and pool.noise is not None else 8.0
    noise_plots = [Plots(plot_noise([pool]))] if uses_noise and pool and pool.noise else []
    patches = _show_patches(chain, noise_dir, gain) if noise_dir is not None else []
    return [
        Section("kernels", "Kernels", [*plots, *kernels] if uses_kernels else []),
        Section("noise", "Noise", [*noise_plots, *patches]),
        Section("pairs", "Pairs", _show_pairs(chain, pairs_dir, pair_items)),
        Section("photos", "Photos", _show_photos(chain)),
    ]


def _value(config: Mapping[str, Any], group: str, key: str) -> Any:
    value = config.get(group)
    return value.get(key) if isinstance(value, Mapping) else None


def _items(folder: Path | None, stage: str) -> dict[str, dict[str, Any]]:
    return {} if folder is None else dict(read_manifest(folder).get(stage, {}).get("items", {}))


def _by_file(items: Mapping[str, dict[str, Any]], ending: str) -> dict[str, dict[str, Any]]:
    """Return an item for each of its files with an ending, by the path of the file."""
    return {
        file: item | {"item": name, "index": index}
        for name, item in items.items()
        for index, file in enumerate(f for f in item["files"] if f.endswith(ending))
    }


def _kernel_name(pair: Mapping[str, Any]) -> str:
    name = str(pair.get("kernel", "bicubic"))
    return name if name == "bicubic" or name.startswith("kernels/") else f"kernels/{name}"


def _digest(item: Mapping[str, Any], file: str) -> str:
    return f"SHA-256 {item['files'][file]['sha256'][:12]}"


def _show_kernels(chain: Chain, folder: Path) -> list[Block]:
    arrays = {}
    for file in chain.kernels:
        if path := _find(folder, file):
            arrays[file] = load_kernel(path)
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
        users = [name for name, pair in chain.pairs.items() if _kernel_name(pair) == file]
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
        if item["index"] < len(tiles) and isinstance(tiles[item["index"]], Mapping):
            tile = tiles[item["index"]]
            lines += [f"{key} {_short(tile[key])}" for key in ("variance", "mean") if key in tile]
        lines.append(["added to LR in the ", Link("run", "#summary")])
        lines.append(_digest(item, file))
        path = _find(folder, file)
        images = [embed_noise(path, gain)] if path else []
        cards.append(Card(PurePosixPath(file).stem, images, lines, f"patch-{index}"))
    if not cards:
        return []
    inputs = chain.run.training.get("inputs", {})
    count = sum(name.startswith("noise/") for name in inputs)
    text = f"{len(cards)} of {count} patches, amplified {gain:.0f} times."
    return [Paragraph(text), Cards(cards)]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _show_pairs(
    chain: Chain, folder: Path | None, items: Mapping[str, dict[str, Any]]
) -> list[Block]:
    if folder is None:
        return [Paragraph("The folder of the pairs does not exist any more.")]
    if not items:
        return [Paragraph("The pairs were made elsewhere, so their origin is unknown.")]
    inputs, cards = chain.run.training.get("inputs", {}), []
    for index, (name, item) in enumerate(chain.pairs.items()):
        files = {file.partition("/")[0]: file for file in item["files"]}
        images = [
            picture
            for kind in ("HR", "LR")
            if kind in files and (picture := _thumbnail(_find(folder, files[kind]), kind, name))
        ]
        factor, lines = item.get("clean_up", 1), list[Inline]()
        clean_up = "" if factor == 1 else f", reduced {factor} times"
        lines.append(["HR from ", chain.photo_link(str(item.get("photo"))), clean_up])
        kernel = _kernel_name(item)
        blur = ["bicubic"] if kernel == "bicubic" else [_flat(chain.kernel_link(kernel))]
        lines.append(["LR from HR by ", *blur])
        in_run = files.get("HR") in inputs
        if in_run:
            lines.append(["trained on in the ", Link("run", "#summary")])
        else:
            lines.append(["held out of the ", Link("run", "#summary")])
        lines += [f"{kind}: {_digest(item, file)}" for kind, file in files.items()]
        cards.append(Card(printable(name), images, lines, f"pair-{index}"))
    return [Paragraph(f"{len(cards)} of {len(items)} pairs."), Cards(cards)]


def _flat(content: Inline) -> str | Link:
    """Return a link without the folder in its text."""
    if isinstance(content, Link):
        return Link(PurePosixPath(content.text).name, content.target)
    return str(content)


def _find(folder: Path, name: str) -> Path | None:
    """Return the path of a manifest's file, None if it is missing or outside the folder."""
    try:
        path = inside(folder, name, follow_links=True)
    except ValueError:
        return None
    return path if path.is_file() else None


def _thumbnail(path: Path | None, kind: str, name: str) -> Picture | None:
    if path is None:
        return None
    try:
        return embed_thumbnail(read_uint8(path), f"{kind} {name}")
    except (ImageError, OSError):
        return None


def _show_photos(chain: Chain) -> list[Block]:
    cards = []
    for name, anchor in sorted(chain.photos.items()):
        role, _, file = name.partition("/")
        folder = chain.run.place(f"data.{role}")
        picture = _thumbnail(folder and _find(folder, file), f"{role} photo", file)
        lines: list[Inline] = [f"{role} photo"]
        for kind, items, key in (
            ("kernel", chain.kernels, "source"),
            ("patch", chain.patches, "source"),
            ("pair", chain.pairs, "photo"),
        ):
            users = [
                item
                for item, facts in items.items()
                if facts.get(key) == (name if kind == "pair" else file)
                and (kind == "pair" or role == "source")
            ]
            links = [_flat(_link(user, items, kind)) for user in users[:4]]
            lines += [[f"{kind}: ", link] for link in links]
        cards.append(Card(printable(file), [picture] if picture else [], lines, anchor))
    text = "The photos that the kernels, patches and pairs above were made of."
    return [Paragraph(text), Cards(cards)] if cards else []
