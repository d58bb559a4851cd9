"""Check of the data that a track needs: missing folders and unreadable files."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from realsr.config.composition import takes_keys
from realsr.config.pipeline import CheckDataConfig, ExpectedFolder
from realsr.core.errors import UserError
from realsr.core.progress import Progress
from realsr.data.alignment import Alignment, describe_alignment, measure_alignment
from realsr.data.pairs import Pair, list_pairs
from realsr.imaging import ImageError, list_images, read_uint8
from realsr.training.generator_loss import active_terms
from realsr.weights.sources import find_weights

logger = logging.getLogger("realsr")


@dataclass
class FolderReport:
    """Sizes (width, height) of the readable photos of a folder, and errors of the others."""

    sizes: list[tuple[int, int]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"FolderReport({len(self.sizes)} photos, {len(self.unreadable)} unreadable)"


@takes_keys("check_data")
def check_data(config: CheckDataConfig) -> dict[Path, FolderReport]:
    """Check each folder of the track, log a summary, and return a report for each folder.

    Raises UserError if a folder is missing or has unreadable files.
    """
    problems, reports = list[str](), dict[Path, FolderReport]()
    for role in ("source", "target", "validation"):
        reports |= _check_role(config, role, problems)
    _check_weights(config, problems)
    if problems:
        raise UserError("the data are incomplete:\n" + "\n".join(f"  {line}" for line in problems))
    logger.info("all photos that track %s needs can be read", config.track)
    return reports


def _check_role(
    config: CheckDataConfig, role: str, problems: list[str]
) -> dict[Path, FolderReport]:
    """Check the folder of a role, or its HR/ and LR/; log a line for each, and add problems."""
    folder: Path | None = getattr(config.data, role)
    reference = _describe_reference(config.data.expected.get(role))
    required = role in config.pairs.hr or (role == "source" and config.pool.learns_from_source)
    if folder is None and required:
        logger.info("data.%s: not given%s", role, reference)
        problems.append(f"data.{role} is not given")
    elif folder is None and reference:
        logger.info("data.%s: not given, optional%s", role, reference)
    if folder is None:
        return {}
    reports, parts = dict[Path, FolderReport](), _parts(folder)
    for part in parts:
        try:
            report = check_folder(part, config.damaged)
        except ImageError as error:
            logger.info("data.%s: %s%s", role, error, reference)
            problems.append(str(error))
            continue
        logger.info("data.%s: %s: %s%s", role, part, _summarise(report), reference)
        problems += report.unreadable
        reports[part] = report
        if role == "source" and config.pool.noise:
            warn_small_photos(report, config.noise.size)
    if role == "validation" and not problems and len(parts) == 2:
        check_alignment(list_pairs(folder, config.scale, config.data.lr_name), config)
    return reports


def _check_weights(config: CheckDataConfig, problems: list[str]) -> None:
    """Find the weights of `init` and of the loss terms; log them, and add problems."""
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
                "loss.%s.weights: from torchvision, which downloads them before training if needed",
                key,
            )


def warn_small_photos(report: FolderReport, tile: int) -> None:
    """Log a warning if photos are narrower than two noise tiles, since they yield few patches."""
    if count := sum(min(size) < 2 * tile for size in report.sizes):
        logger.warning(
            "data.source: %d of %d photos are narrower than two noise tiles (noise.size=%d), so "
            "that they yield few noise patches or none: set a smaller noise.size and noise.stride",
            count,
            len(report.sizes),
            tile,
        )


def check_alignment(pairs: Sequence[Pair], config: CheckDataConfig) -> dict[str, Alignment]:
    """Measure the alignment of pairs, log one sentence, and return it by name."""
    alignments = {}
    with Progress("alignment of HR and LR", len(pairs)) as progress:
        for pair in pairs:
            lr, hr = (read_uint8(path, config.damaged) for path in (pair.lr, pair.hr))
            alignments[pair.name] = measure_alignment(lr, hr, config.scale)
            progress.advance()
    is_good = all(alignment.is_good for alignment in alignments.values())
    logger.log(
        logging.INFO if is_good else logging.WARNING,
        "data.validation: %s",
        describe_alignment(alignments),
    )
    return alignments


def check_folder(folder: Path, damaged: str) -> FolderReport:
    """Decode every image of a folder. Raises ImageError if it is missing or has no images.

    damaged: see `read_uint8`.
    """
    report = FolderReport()

    def read_size(path: Path) -> tuple[int, int] | str:
        """Return an image's (width, height), or the error message."""
        try:
            height, width = read_uint8(path, damaged).shape[:2]
        except ImageError as error:
            return str(error)
        return width, height

    paths = list_images(folder)
    with ThreadPoolExecutor() as threads, Progress(f"reading {folder}", len(paths)) as progress:
        for result in threads.map(read_size, paths):
            if isinstance(result, str):
                report.unreadable.append(result)
            else:
                report.sizes.append(result)
            progress.advance()
    return report


def _parts(folder: Path) -> list[Path]:
    parts = [folder / kind for kind in ("HR", "LR") if (folder / kind).is_dir()]
    return parts or [folder]


def _summarise(report: FolderReport) -> str:
    text = f"{len(report.sizes)} images"
    if report.sizes:
        sizes = sorted(report.sizes, key=lambda size: size[0] * size[1])
        smallest, largest = (f"{width}x{height}" for width, height in (sizes[0], sizes[-1]))
        text += f" from {smallest} to {largest}"
    return text + (f", {len(report.unreadable)} unreadable" if report.unreadable else "")


def _describe_reference(folder: ExpectedFolder | None) -> str:
    if folder is None:
        return ""
    count = f" has {folder.photos} images" if folder.photos else ""
    return f" (the track's data set{count}: {folder.origin})"
