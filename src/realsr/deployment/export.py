"""Export of a generator: write, quantise, check, score and measure its files, and compare them."""

import logging
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from realsr.core.devices import lacks_vnni
from realsr.core.errors import UserError
from realsr.core.file_names import printable
from realsr.core.machine import describe_processor
from realsr.core.progress import Progress
from realsr.deployment.check import (
    EVALUATION_PHOTOS,
    Scores,
    check_file,
    check_similarity,
    load_evaluation_sets,
    score_files,
)
from realsr.deployment.export_folder import (
    LIBRARIES,
    File,
    Int8Config,
    list_exported,
    staging_folder,
)
from realsr.deployment.measure import Cost, count_gflop, measure
from realsr.deployment.network_files import FileMaker
from realsr.deployment.onnx_graph import Generator
from realsr.deployment.quantise import check_calibration, load_calibration
from realsr.deployment.table import (
    REFERENCE,
    SIDE,
    Deployment,
    Row,
    SensitivityReport,
    write_tables,
)
from realsr.evaluation.protocol import Protocol
from realsr.imaging import list_images
from realsr.provenance.fingerprints import package_versions

logger = logging.getLogger("realsr")


def export_networks(
    generator: Generator,
    output: Path,
    protocols: Mapping[str, Protocol],
    int8: Int8Config,
    formats: Sequence[str],
    hr: Path | None,
    damaged: str,
) -> Deployment:
    """Write a generator's files and their tables into a folder, and return the table.

    Files move to the output folder once all are complete, and replace those of an earlier export.
    A file that fails `check_file` or `check_similarity` is omitted and reported.

    Args:
        output: a folder that passes `check_output`.
        protocols: scoring protocols by name; similarity to float32 uses the images of the first.
        formats: names that `check_formats` accepts.
        hr: a folder of clean photos for scoring; None: four of scikit-image.
        damaged: see `realsr.imaging.read_uint8`.

    Raises:
        UserError: if a setting is invalid, ONNX cannot express the network, the INT8 photos lack
            contrast (`check_calibration`) or are those for scoring, or no image could be scored.
    """
    check_photos(int8.photos, hr)
    needs_int8 = any("int8" in name for name in formats)
    if needs_int8 and lacks_vnni():
        logger.warning(
            "INT8: this CPU has no VNNI instructions, so INT8 files run little faster than float32 "
            "on it; omit them from formats unless they are for another CPU"
        )
    sets = load_evaluation_sets(hr, protocols, generator.scale, damaged)
    photos = load_calibration(int8.photos, int8.crop, generator.scale, damaged)
    warnings = check_calibration(photos, f"int8.photos={int8.photos}") if needs_int8 else []
    with staging_folder(output) as folder:
        files, failures, sensitivity = _write_files(generator, folder, formats, int8, photos)
        if files:  # otherwise the earlier export stays
            for path in list_exported(output):
                path.unlink()
        files = [file.move(output) for file in files]  # so that a later failure does not lose them
        scores = score_files(generator, files, sets)
        files = _remove_dissimilar(files, scores, warnings, failures)
        rows = _measure_files(generator, files, scores)
    failures += scores.failures
    deployment = _describe(generator, hr, failures, warnings, rows, sensitivity)
    write_tables(output, deployment)
    return deployment


def check_photos(photos: Path | None, hr: Path | None) -> None:
    """Raise UserError if files would be scored on photos that INT8 is calibrated on."""
    if photos is None or hr is None:
        return
    contents = {path.read_bytes() for path in list_images(hr)}
    if duplicates := [path.name for path in list_images(photos) if path.read_bytes() in contents]:
        raise UserError(
            f"{', '.join(duplicates[:3])}: both in int8.photos and in data.hr, so files would be "
            "scored on their calibration photos. Use other photos for one of the two"
        )


def _write_files(
    generator: Generator,
    folder: Path,
    formats: Sequence[str],
    int8: Int8Config,
    photos: Sequence[Tensor],
) -> tuple[list[File], list[str], SensitivityReport | None]:
    """Write and check files; return those that pass, the reasons of failures, and sensitivity."""
    maker = FileMaker(generator, folder, int8, photos)
    files, failures = list[File](), list[str]()
    for file in (file for name in formats for file in maker.make(name)):
        try:
            check_file(file, generator, photos)
            files.append(file)
        except UserError as error:
            logger.error("%s", error)
            failures.append(str(error))
    return files, failures, maker.sensitivity


def _remove_dissimilar(
    files: Sequence[File], scores: Scores, warnings: list[str], failures: list[str]
) -> list[File]:
    """Return the files that pass `check_similarity`; delete the others and append the reasons."""
    similar = []
    for file in files:
        value = scores.similarity[file.path.stem]
        try:
            if warning := check_similarity(file.path.name, file.precision, value):
                warnings.append(warning)
            similar.append(file)
        except UserError as error:
            logger.error("%s", error)
            failures.append(str(error))
            for part in file.parts:
                part.unlink()
    return similar


def _measure_files(generator: Generator, files: Sequence[File], scores: Scores) -> list[Row]:
    """Return the rows of the table: PyTorch in float32, then each file."""

    def cost(source: str | Path, kind: str) -> Cost:
        """Measure the cost; log a failure and return an unknown cost."""
        try:
            return measure(source, SIDE, torch.get_num_threads(), kind)
        except RuntimeError as error:  # the rest of the table is still valid
            logger.warning("%s", error)
            return Cost(None, None)
        finally:
            progress.advance()

    with Progress("measuring files", total=1 + len(files)) as progress:
        size = sum(4 * parameter.numel() for parameter in generator.network.parameters())
        reference = cost(generator.source, "custom" if generator.allow_custom_code else "weights")
        rows = [Row(REFERENCE, "fp32", size, scores.means[REFERENCE], reference)]
        for file in files:
            rows.append(
                Row(
                    name=file.path.stem,
                    precision=file.precision,
                    bytes=sum(part.stat().st_size for part in file.parts),
                    scores=scores.means[file.path.stem],
                    cost=cost(file.path, "file"),
                    similarity=scores.similarity[file.path.stem],
                    calibration=file.calibration,
                    kept=list(file.float32_layers),
                    files=[part.name for part in file.parts],
                )
            )
    return rows


def _describe(
    generator: Generator,
    hr: Path | None,
    failures: list[str],
    warnings: list[str],
    rows: list[Row],
    sensitivity: SensitivityReport | None,
) -> Deployment:
    """Return the table of the files, with the network and the machine that it describes."""
    default = f"scikit-image's {', '.join(EVALUATION_PHOTOS)}"
    return Deployment(
        source=generator.name,
        scale=generator.scale,
        gflop=round(count_gflop(generator.network, SIDE), 3),
        parameters=sum(parameter.numel() for parameter in generator.network.parameters()),
        judged=f"the images of {printable(hr)}" if hr else default,
        failed=failures,
        warnings=warnings,
        threads=torch.get_num_threads(),
        processor=describe_processor("model name") or platform.processor() or platform.machine(),
        versions=package_versions([name for names in LIBRARIES.values() for name in names]),
        rows=rows,
        sensitivity=sensitivity,
    )
