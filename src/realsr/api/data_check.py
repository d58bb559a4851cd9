"""What data a track needs, what is there and what cannot be read."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from realsr.config.composition import takes_keys
from realsr.config.schema import CheckDataConfig, ExpectedFolder
from realsr.core.errors import UserError
from realsr.core.progress import Progress
from realsr.imaging import ImageError, list_images, read_uint8
from realsr.training.generator_loss import active_terms
from realsr.weights.sources import find_weights

logger = logging.getLogger("realsr")


@dataclass
class FolderReport:
    """What a folder of photos holds: sizes (width, height) of what can be read, and messages of what cannot."""

    sizes: list[tuple[int, int]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


@takes_keys("check_data")
def check_data(config: CheckDataConfig) -> dict[Path, FolderReport]:
    """Report on each folder of the track, and return what each holds.

    Raises UserError if one is missing or holds what cannot be read.
    """
    problems, reports = [], dict[Path, FolderReport]()
    for role in ("source", "target", "validation"):
        folder: Path | None = getattr(config.data, role)
        expected = config.data.expected.get(role)
        needed = role in config.pairs.hr or (role == "source" and config.pool.learns_from_source)
        if folder is None:
            if needed or expected:
                logger.info(
                    "data.%s: not given%s. %s",
                    role,
                    "" if needed else " (optional)",
                    _expectation(expected),
                )
            if needed:
                problems.append(f"data.{role} is not given")
            continue
        for part in _parts(folder):
            try:
                report = check_folder(part, config.damaged)
            except ImageError as error:
                logger.info("data.%s: %s %s", role, error, _expectation(expected))
                problems.append(str(error))
                continue
            logger.info("data.%s: %s: %s. %s", role, part, _summary(report), _expectation(expected))
            problems += report.unreadable
            reports[part] = report
    if config.init is not None:
        try:
            logger.info("init: %s", find_weights(config.init))
        except UserError as error:
            problems.append(f"init: {error}")
    for key, term in active_terms(config.loss).items():
        weights = term.get("weights")
        if weights is not None and not Path(weights).is_file():
            problems.append(f"loss.{key}.weights={weights}: no such file")
        elif "." not in term["name"] and "weights" in term and weights is None:
            logger.info(
                "loss.%s.weights: torchvision's copy; torchvision downloads it before the training "
                "if it is missing",
                key,
            )
    if problems:
        raise UserError(
            "the data are not complete:\n" + "\n".join(f"  {line}" for line in problems)
        )
    logger.info("all photos that track %s needs can be read", config.track)
    return reports


def check_folder(folder: Path, damaged: str = "refuse") -> FolderReport:
    """Decode every image of a folder. Raises ImageError where it is missing or has none.

    damaged: see `read_uint8`.
    """
    report = FolderReport()

    def size(path: Path) -> tuple[int, int] | str:
        try:
            height, width = read_uint8(path, damaged).shape[:2]
        except ImageError as error:
            return str(error)
        return width, height

    paths = list_images(folder)
    with ThreadPoolExecutor() as threads, Progress(f"reading {folder}", len(paths)) as progress:
        for result in threads.map(size, paths):
            report.unreadable.append(result) if isinstance(result, str) else report.sizes.append(
                result
            )
            progress.advance()
    return report


def _parts(folder: Path) -> list[Path]:
    parts = [folder / kind for kind in ("HR", "LR") if (folder / kind).is_dir()]
    return parts or [folder]


def _summary(report: FolderReport) -> str:
    text = f"{len(report.sizes)} images"
    if report.sizes:
        smallest, largest = (
            choose(report.sizes, key=lambda s: s[0] * s[1]) for choose in (min, max)
        )
        text += f" from {smallest[0]}x{smallest[1]} to {largest[0]}x{largest[1]}"
    return text + (f", {len(report.unreadable)} that cannot be read" if report.unreadable else "")


def _expectation(expected: ExpectedFolder | None) -> str:
    if expected is None:
        return ""
    count = f"{expected.photos} images, " if expected.photos else ""
    return f"The track's own: {count}{expected.origin}"
