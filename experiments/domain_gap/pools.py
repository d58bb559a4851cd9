"""Which pool, and which online degradation, makes LR that looks like a camera's photos?

For the photos of one camera, pairs (`pairs=source`, scale 4) are made with each pool: bicubic, and
kernels of spectral, KernelGAN and camera. Their LR is compared with the photos, without noise and with
each form of noise, which is added to regions of 64x64 pixels as training adds it to crops.

    python experiments/domain_gap/pools.py --photos DIR --work DIR --json FILE --figure FILE

Pools and pairs are made in --work; a repeated command makes the missing ones. The figure shows the
kernel distance of all combinations, and the differences that the noise forms and the kernels change.
"""

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from realsr import api
from realsr.data.degradations.degradation import (
    OnlineDegradation,
    build_degradation,
)
from realsr.domains.comparison import Domain, DomainComparison, compare_domains, measure_domain
from realsr.imaging import list_images, write_uint8
from realsr.pools.contents import list_degradation_files
from realsr.reporting.domain_report import SHORT_LABELS
from realsr.reporting.drawing import Page

POOLS = {
    "bicubic": ["pool=bicubic"],
    "spectral": ["kernels=spectral"],
    "kernelgan": ["kernels=kernelgan", "kernels.device=cpu"],
    "camera": ["kernels=camera"],
}
FORMS = {
    "none": [],
    "random patches": ["online_degradation=noise"],
    "match=brightness": ["online_degradation=noise", "online_degradation.match=brightness"],
    "noise_model": ["online_degradation=noise_model"],
    "noise_jpeg, jpeg=source": ["online_degradation=noise_jpeg", "online_degradation.jpeg=source"],
}
FORMS["JPEG alone, jpeg=source"] = [*FORMS["noise_jpeg, jpeg=source"], "pool.noise=false"]
COLOURS = ("#8a8a8a", "#1f6eb4", "#e27418", "#2a9d5c", "#a03cb0", "#c9a400")
NOISE = ["noise=auto", "noise.size=128", "noise.stride=128"]  # few photos have few flat tiles
REGIONS, SEED = 256, 0
QUANTITIES = (
    "noise", "shadow_noise", "noise_grain", "noise_colour", "edge_width", "fine_detail",
    "overshoot", "blocking",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--figure", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    keys = ["+track=dped", f"data.source={options.photos.resolve()}", "workers=0"]
    noise = [*keys, f"noise_pool_dir={options.work.resolve() / 'noise'}", *NOISE]
    degradations = {form: collect(noise, overrides) for form, overrides in FORMS.items()}
    a = measure_domain(list_images(options.photos), REGIONS, SEED, 0, "refuse", None)
    halves = [Domain(a.folder, a.photos[start::2], {}) for start in (0, 1)]
    rows = [describe("other photos", "none", compare_domains(*halves, seed=SEED))]
    for pool, overrides in POOLS.items():
        work = options.work.resolve() / pool
        lr = make_lr([*keys, *overrides, f"work_dir={work}"], pool)
        for form, degradation in degradations.items():
            b = measure_domain(list_images(lr), REGIONS, SEED, 0, "refuse", degradation)
            rows.append(describe(pool, form, compare_domains(a, b, SEED)))
            print(format_row(rows[-1]), flush=True)
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "photos": [photo.name for photo in a.photos],
        "rows": rows,
    }
    options.json.write_text(json.dumps(facts, indent=1) + "\n")
    write_uint8(options.figure, draw(rows, options.photos.name))


def collect(keys: list[str], overrides: list[str]) -> OnlineDegradation | None:
    """Collect what a form of noise needs of the photos; return it, None for no noise."""
    if not overrides:
        return None
    noise = "pool.noise=false" not in overrides
    keys = [*keys, *(key for key in overrides if not key.startswith("pool."))]
    config = api.load_config("collect_noise", keys)
    api.collect_noise(config)
    values = config.online_degradation
    files = list_degradation_files(config.noise_pool_dir, noise, values, 1, None)
    return build_degradation(values, 1, files)


def make_lr(keys: list[str], pool: str) -> Path:
    """Make the kernels and the pairs of a pool; return the folder of its LR."""
    if pool != "bicubic":
        api.estimate_kernels(api.load_config("estimate_kernels", keys))
        keys = [key for key in keys if not key.startswith("kernels")]
    keys = [*keys, "pairs=source", "compare=false"]
    return api.make_pairs(api.load_config("make_pairs", keys)).lr


def describe(pool: str, form: str, result: DomainComparison) -> dict[str, Any]:
    """Return the figures of a comparison for JSON; unknown numbers are null."""
    return {
        "pool": pool,
        "form": form,
        "accuracy": clean(vars(result.accuracy)),
        "kernel_distance": clean(vars(result.distance)),
        "overlap": round(result.overlap, 3),
        "photos_without_noise": len(result.b.without_noise),
        "quantities": {
            finding.quantity.name: clean(
                {"a": finding.a, "b": finding.b, "steps": finding.difference}
            )
            | {"clear": finding.is_clear}
            for finding in result.findings
        },
        "summary": result.summarise(),
    }


def clean(values: dict[str, float]) -> dict[str, float | None]:
    return {name: round(x, 4) if np.isfinite(x) else None for name, x in values.items()}


def format_row(row: dict[str, Any]) -> str:
    """Return a line: pool, form, kernel distance, accuracy, and the differences in steps."""
    cells = [f"{row['pool']:10} {row['form']:24} {row['kernel_distance']['value']:6.3f}"]
    cells.append(f"{row['accuracy']['value']:5.2f}")
    for name in QUANTITIES:
        quantity = row["quantities"].get(name)
        cells.append(f"{name} " + (f"{quantity['steps']:+.1f}" if quantity else "-"))
        cells[-1] += "*" if quantity and quantity["clear"] else ""
    return "  ".join(cells)


def draw(rows: list[dict[str, Any]], name: str) -> np.ndarray:
    """Draw the kernel distance of each combination and its differences; filled dots are clear."""
    colours = dict(zip(FORMS, COLOURS, strict=True))
    page = Page(1280, 700)
    page.write(f"LR of each pool, compared with {name}", 20, 6, 20)
    for index, (form, colour) in enumerate(colours.items()):
        page.write(f"● {form}", 20 + 205 * index, 40, 13, colour)
    page.write("Differences in steps, LR - photos. Filled: clear", 20, 66, 13)
    pools = list(POOLS)
    for index, key in enumerate(("distance", *QUANTITIES)):
        left, top = 60 + 245 * (index % 5), 130 + 290 * (index // 5)
        axes = page.plot(left, top, 200, 210, SHORT_LABELS.get(key, "kernel distance"))
        axes.axhline(0, color="#222222", linewidth=0.8)
        if key == "distance":
            axes.axhline(rows[0]["kernel_distance"]["value"], color="#be1e2d", linestyle="--")
            page.write("- - - between two halves of the photos", left, top + 236, 10, "#be1e2d")
        count = 0
        for row in rows[1:]:
            value, is_clear = read_value(row, key)
            if value is not None:
                colour = colours[row["form"]]
                x = pools.index(row["pool"]) + 0.13 * (list(FORMS).index(row["form"]) - 2.5)
                face = colour if is_clear else "white"
                axes.plot([x], [value], "o", color=colour, markerfacecolor=face, markersize=5)
                count += 1
        if not count:
            axes.set(yticks=[], ylim=(-1, 1))
            page.write("not measured", left + 60, top + 80, 12)
        axes.set_xticks(range(len(pools)), pools, fontsize=9)
        axes.set_xlim(-0.5, len(pools) - 0.5)
    return page.render()


def read_value(row: dict[str, Any], key: str) -> tuple[float | None, bool]:
    """Return the kernel distance or a difference in steps, None if unknown, and if it is clear."""
    if key == "distance":
        return row["kernel_distance"]["value"], True
    quantity = row["quantities"].get(key)
    return (None, False) if quantity is None else (quantity["steps"], quantity["clear"])


if __name__ == "__main__":
    main()
