"""How far images, such as LR of pairs, are from the photos of a camera."""

import logging
from pathlib import Path

from realsr.config.composition import takes_keys
from realsr.config.pipeline import MakePairsConfig
from realsr.config.schema import CompareDomainsConfig
from realsr.core.errors import ImageError, UserError
from realsr.core.files import check_folder_place
from realsr.data.degradations.degradation import (
    OnlineDegradation,
    build_degradation,
    pool_arguments,
)
from realsr.data.pool_files import NOISE_INPUTS, POOL_INPUTS
from realsr.domains import comparison
from realsr.domains.comparison import DomainComparison
from realsr.imaging import list_images, log_damage
from realsr.pools.contents import list_degradation_files
from realsr.reporting.domain_report import report_domains
from realsr.reporting.drawing import choose_evenly

logger = logging.getLogger("realsr")

PHOTOS, REGIONS = 8, 64  # of each set, at the end of make_pairs: some seconds


@takes_keys("compare_domains")
def compare_domains(config: CompareDomainsConfig) -> DomainComparison:
    """Measure both folders, log a table, write domains.png and domains.json; return the result.

    Raises UserError at the end if some photos cannot be measured.
    """
    output = config.output or config.b.resolve().parent
    check_folder_place("output", output)
    photos = [list_images(folder) for folder in (config.a, config.b)]
    degradation = _choose_degradation(config)
    domains = [
        comparison.measure_domain(
            paths, config.regions, config.seed, config.workers, config.damaged, online
        )
        for paths, online in zip(photos, (None, degradation), strict=True)
    ]
    for domain in domains:
        for photo in domain.photos:
            log_damage(domain.folder / photo.name, photo.damage)
    result = comparison.compare_domains(domains[0], domains[1], config.seed)
    logger.info("%s", report_domains(result, output))
    failures = [*domains[0].failures.values(), *domains[1].failures.values()]
    if listing := "".join(f"\n  {reason}" for reason in failures):
        raise UserError(f"photos that could not be measured:{listing}")
    return result


def _choose_degradation(config: CompareDomainsConfig) -> OnlineDegradation | None:
    """Return the online degradation of b, None for none. Raises UserError if it does not read LR."""
    name = config.online_degradation.get("name")
    if name == "identity":
        return None
    pool, degradation = config.noise_pool_dir, config.online_degradation
    arguments = [key for key in pool_arguments(degradation) if key != "kernels"]  # of the pairs
    noise = not NOISE_INPUTS.isdisjoint(arguments)
    files = [] if pool is None else list_degradation_files(pool, noise, degradation, 1, None)
    online = build_degradation(degradation, 1, files)
    if online.reads != "lr":
        raise UserError(
            f"online_degradation.name={name}: makes LR from HR, but b holds LR. Set "
            "online_degradation=none, or one that reads LR, e.g. online_degradation=noise"
        )
    if pool is None and arguments:
        text = "online_degradation.name=%s is used without %s of a pool: set noise_pool_dir=POOL"
        logger.warning(text, name, ", ".join(POOL_INPUTS[key] for key in arguments))
    return online


def compare_pairs(config: MakePairsConfig, lr: Path) -> None:
    """Compare LR of pairs with the source photos, on a few of both; log a line, write a picture."""
    if config.data.source is None:
        return
    try:
        photos = [choose_evenly(list_images(folder), PHOTOS) for folder in (config.data.source, lr)]
        domains = [
            comparison.measure_domain(paths, REGIONS, config.seed, 0, config.damaged, None)
            for paths in photos
        ]
    except (ImageError, UserError) as error:
        logger.info("LR is not compared with the source photos: %s", error)
        return
    result = comparison.compare_domains(domains[0], domains[1], config.seed)
    report_domains(result, lr.parent)
    logger.info(
        "LR (b, without what online_degradation adds) and the source photos (a): %s\nfigure: %s",
        result.summarise(),
        lr.parent / "domains.png",
    )
