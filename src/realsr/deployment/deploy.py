"""A generator to files that stand alone: written, quantised, checked, scored, measured, and compared in a table."""

import json
import logging
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from realsr.core.errors import UserError
from realsr.core.file_names import printable
from realsr.core.files import write_bytes
from realsr.core.progress import Progress
from realsr.deployment.check import (
    EVALUATED,
    Scores,
    check_file,
    check_similarity,
    load_evaluation_sets,
    score_files,
)
from realsr.deployment.export_files import File, Generator, list_exported, load, unfinished
from realsr.deployment.export_options import LIBRARIES, Int8Config
from realsr.deployment.measure import Cost, count_gflop, measure
from realsr.deployment.network_files import Maker
from realsr.deployment.quantise import check_calibration, load_calibration
from realsr.deployment.table import REFERENCE, SIDE, Deployment, Row, SensitivityReport
from realsr.evaluation.protocol import Protocol
from realsr.imaging import list_images
from realsr.provenance.fingerprints import package_versions
from realsr.weights.sources import find_weights

logger = logging.getLogger("realsr")


def export_networks(
    source: str,
    output: Path,
    protocols: Mapping[str, Protocol],
    int8: Int8Config,
    formats: Sequence[str],
    hr: Path | None,
    allow_custom_code: bool = False,
    overwrite: bool = False,
    damaged: str = "refuse",
) -> Deployment:
    """Write a generator's files and their tables into a folder; return the table.

    Files appear in the output folder once all are finished, in place of an earlier export's; a file that does not pass
    `check_file` or `check_similarity` is left out, and named.

    Args:
        source: what `load_generator` takes.
        output: a folder.
        protocols: how files are scored, by name; the first one's images also give their similarity to float32.
        int8: how INT8 files are made.
        formats: which files; names that `check_formats` has passed.
        hr: a folder of clean photos that files are scored on; None: four of scikit-image's.
        allow_custom_code: whether the source may name a network of the user's own, whose code is then run.
        overwrite: whether an earlier export may be replaced.
        damaged: see `realsr.imaging.read_uint8`.

    Raises:
        UserError: where a setting cannot be used, an export exists already, the network cannot be expressed in ONNX,
            photos for INT8 carry nothing (`check_calibration`), or no image could be scored.
    """
    _check_folders(source, output, int8.photos, hr, overwrite)
    generator = load(source, allow_custom_code)
    sets = load_evaluation_sets(hr, protocols, generator.scale, damaged)
    photos = load_calibration(int8.photos, int8.crop, generator.scale, damaged)
    calibrated = any("int8" in name for name in formats)
    warnings = check_calibration(photos, f"int8.photos={int8.photos}") if calibrated else []
    with unfinished(output) as folder:
        files, failed, sensitivity = _make(generator, folder, formats, int8, photos)
        for path in (
            list_exported(output) if files else []
        ):  # where no file passed, the earlier ones stay
            path.unlink()
        files = [file.move(output) for file in files]  # before what may still go wrong
        scores = score_files(generator, files, sets)
        files = _remove_dissimilar(files, scores, warnings, failed)
        rows = _measure(generator, files, scores, allow_custom_code)
    deployment = Deployment(
        source=source,
        scale=generator.scale,
        gflop=round(count_gflop(generator.network, SIDE), 3),
        parameters=sum(parameter.numel() for parameter in generator.network.parameters()),
        judged=f"the images of {printable(hr)}" if hr else f"scikit-image's {', '.join(EVALUATED)}",
        failed=[*failed, *scores.failed],
        warnings=warnings,
        threads=torch.get_num_threads(),
        processor=_processor(),
        versions=package_versions([name for names in LIBRARIES.values() for name in names]),
        rows=rows,
        sensitivity=sensitivity,
    )
    write_tables(output, deployment)
    return deployment


def _check_folders(
    source: str, output: Path, photos: Path | None, hr: Path | None, overwrite: bool
) -> None:
    if (earlier := list_exported(output)) and not overwrite:
        raise UserError(
            f"{output}: has an export already ({', '.join(path.name for path in earlier)}): set overwrite=true, "
            "which replaces all of it, or choose another output"
        )
    if find_weights(source).resolve() in [path.resolve() for path in earlier]:
        raise UserError(f"weights={source} is what output={output} replaces: choose another output")
    if photos is not None and hr is not None and (shared := list_shared(photos, hr)):
        raise UserError(
            f"{', '.join(shared[:3])} are in int8.photos and in data.hr: files would be scored on photos that they "
            "were calibrated on; take other photos for one of them"
        )


def list_shared(calibrated: Path, evaluated: Path) -> list[str]:
    """Return the photos of one folder that are in the other, too, by their content."""
    contents = {path.read_bytes() for path in list_images(evaluated)}
    return [path.name for path in list_images(calibrated) if path.read_bytes() in contents]


def write_tables(folder: Path, deployment: Deployment) -> None:
    """Write table.json and table.md."""
    text = json.dumps(deployment.as_json(), indent=1, allow_nan=False, ensure_ascii=False)
    write_bytes(folder / "table.json", text.encode("utf-8", "backslashreplace"))
    write_bytes(
        folder / "table.md", deployment.format_markdown().encode("utf-8", "backslashreplace")
    )


def _make(
    generator: Generator,
    folder: Path,
    formats: Sequence[str],
    int8: Int8Config,
    photos: Sequence[Tensor],
) -> tuple[list[File], list[str], SensitivityReport | None]:
    """Write and check the files; return those that pass, why others do not, and what layers cost."""
    maker = Maker(generator, folder, int8, photos)
    files, failed = list[File](), list[str]()
    for file in (file for name in formats for file in maker.make(name)):
        try:
            check_file(file, generator, photos)
            files.append(file)
        except UserError as error:
            logger.error("%s", error)
            failed.append(str(error))
    return files, failed, maker.sensitivity


def _remove_dissimilar(
    files: Sequence[File], scores: Scores, warnings: list[str], failed: list[str]
) -> list[File]:
    """Return the files that pass `check_similarity`; delete the others, and note why."""
    passed = []
    for file in files:
        try:
            warning = check_similarity(
                file.path.name, file.precision, scores.similarity[file.path.stem]
            )
            warnings += [warning] if warning else []
            passed.append(file)
        except UserError as error:
            logger.error("%s", error)
            failed.append(str(error))
            for part in file.parts:
                part.unlink()
    return passed


def _measure(
    generator: Generator, files: Sequence[File], scores: Scores, allow_custom_code: bool
) -> list[Row]:
    """Return the table's rows: PyTorch's float32, and each file."""

    def cost(source: str | Path, kind: str) -> Cost:
        try:
            return measure(source, SIDE, torch.get_num_threads(), kind)
        except RuntimeError as error:  # all the rest of the table is known
            logger.warning("%s", error)
            return Cost(None, None)
        finally:
            progress.advance()

    with Progress("measured", total=1 + len(files)) as progress:
        size = sum(4 * parameter.numel() for parameter in generator.network.parameters())
        reference = cost(generator.source, "custom" if allow_custom_code else "weights")
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
                    kept=list(file.kept),
                    files=[part.name for part in file.parts],
                )
            )
    return rows


def _processor() -> str:
    """The processor's name where the system reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = (
        cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        if cpuinfo.is_file()
        else []
    )
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
