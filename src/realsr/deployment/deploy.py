"""A generator to files that stand alone: written, quantised, checked, scored, measured, and compared in a table."""

import json
import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from realsr.core.errors import UserError
from realsr.core.file_names import printable
from realsr.core.files import write_bytes
from realsr.core.progress import Progress
from realsr.deployment.check import EvaluationSets, Scores, check_finite, check_result, check_similarity, score_files
from realsr.deployment.export_files import File, Generator, list_exported, load, unfinished
from realsr.deployment.export_options import DEFAULT_FORMATS, Int8Config, check_formats, check_libraries
from realsr.deployment.measure import Cost, count_gflop, measure, open_file
from realsr.deployment.photo_sets import (
    EVALUATED,
    check_calibration,
    list_shared,
    load_calibration,
    load_evaluation_images,
)
from realsr.deployment.table import METRICS, REFERENCE, SIDE, Deployment, Row
from realsr.evaluation.protocol import Protocol, resolve
from realsr.provenance.fingerprints import package_versions
from realsr.weights.sources import find_weights

logger = logging.getLogger("realsr")

LIBRARIES = ("onnx", "onnxruntime", "onnxscript", "openvino", "ncnn", "pnnx")
CHECKED = 64  # LR pixels a side of the photos that files are checked on


def export_networks(
    source: str,
    output: Path,
    protocols: Mapping[str, Protocol],
    int8: Int8Config,
    formats: Sequence[str] | None = None,
    hr: Path | None = None,
    allow_custom_code: bool = False,
    overwrite: bool = False,
    damaged: str = "refuse",
) -> Deployment:
    """Write a generator's files and their tables into a folder; return the table.

    Args:
        source: what `load_generator` takes.
        output: a folder; an earlier export's files there are replaced by those of this one.
        protocols: how files are scored, by name; the first one's images also tell their similarity to float32.
        int8: how INT8 files are made.
        formats: which files, of `FORMATS`; None: `DEFAULT_FORMATS`.
        hr: a folder of clean photos that files are scored on; None: four of scikit-image's.
        allow_custom_code: whether the source may name a network of the user's own, whose code is then run.
        overwrite: whether an earlier export may be replaced.
        damaged: see `realsr.imaging.read_uint8`.

    Raises:
        UserError: where a setting cannot be used, a library is missing, an export is there already, and as `deploy`.
    """
    formats = list(DEFAULT_FORMATS) if formats is None else formats
    check_formats(formats, int8)
    if (earlier := list_exported(output)) and not overwrite:
        raise UserError(
            f"{output}: has an export already ({', '.join(path.name for path in earlier)}): say overwrite=true, "
            "which replaces all of it, or choose another output"
        )
    if find_weights(source).resolve() in [path.resolve() for path in earlier]:
        raise UserError(f"weights={source} is what output={output} replaces: choose another output")
    check_libraries(formats)
    generator = load(source, allow_custom_code)
    if shared := list_shared(int8.photos, hr):
        raise UserError(
            f"{', '.join(shared[:3])} are in int8.photos and in data.hr: files would be judged by photos that they "
            "were calibrated on; take other photos for one of them"
        )
    sets = {}
    for name, values in protocols.items():
        protocol = replace(resolve(values, generator.scale), metrics=list(METRICS))
        images = load_evaluation_images(hr, protocol, generator.scale, damaged)
        sets[name] = images, protocol.crop or 0
    judged = f"the images of {printable(hr)}" if hr else f"scikit-image's {', '.join(EVALUATED)}"
    deployment = deploy(generator, output, formats, int8, sets, judged, allow_custom_code, damaged)
    write_tables(output, deployment)
    return deployment


def deploy(
    generator: Generator,
    output: Path,
    formats: Sequence[str],
    int8: Int8Config,
    sets: EvaluationSets,
    judged: str,
    allow_custom_code: bool = False,
    damaged: str = "refuse",
) -> Deployment:
    """Write a generator in each format; return what they cost and lose.

    Files appear in the output folder once all are made, in place of an earlier export's; one that does not pass
    `check_result` or `check_similarity` is left out, and named.

    Args:
        generator: what `load` returned.
        output: a folder.
        formats: which files, of `FORMATS`.
        int8: how INT8 files are made.
        sets: by protocol, the images that files are scored on, and how many border pixels it leaves out.
        judged: what these images are, for the table.
        allow_custom_code: whether the source names a network of the user's own, for the process that measures it.
        damaged: see `realsr.imaging.read_uint8`.

    Raises:
        UserError: where the network cannot be expressed in ONNX, photos for INT8 carry nothing (`check_calibration`),
            or no image could be scored.
    """
    from realsr.deployment.network_files import Maker  # it needs the libraries of the extra `onnx`

    photos = load_calibration(int8.photos, int8.crop, generator.scale, damaged)
    calibrated = any("int8" in name for name in formats)
    warnings = check_calibration(photos, f"int8.photos={int8.photos}") if calibrated else []
    with unfinished(output) as folder:
        maker = Maker(generator, folder, int8, photos)
        files, refused = list[File](), list[str]()
        for file in (file for name in formats for file in maker.make(name)):
            try:
                _check(file, generator, photos)
                files.append(file)
            except UserError as error:
                logger.error("%s", error)
                refused.append(str(error))
        for path in list_exported(output) if files else []:  # where no file passed, the earlier ones stay
            path.unlink()
        files = [file.move(output) for file in files]  # before what may still go wrong
        scores = score_files(generator, files, sets)
        for file in list(files):
            try:
                similarity = scores.similarity[file.path.stem]
                warnings += filter(None, [check_similarity(file.path.name, file.precision, similarity)])
            except UserError as error:
                logger.error("%s", error)
                refused.append(str(error))
                files.remove(file)
                for part in file.parts:
                    part.unlink()
        with Progress("measured", total=1 + len(files)) as progress:
            rows = [_measure_reference(generator, scores, allow_custom_code)]
            progress.advance()
            for file in files:
                rows.append(_measure_file(file, scores))
                progress.advance()
    return Deployment(
        source=generator.source,
        scale=generator.scale,
        gflop=round(count_gflop(generator.network, SIDE), 3),
        parameters=sum(parameter.numel() for parameter in generator.network.parameters()),
        judged=judged,
        failed=[*refused, *scores.failed],
        warnings=warnings,
        threads=torch.get_num_threads(),
        processor=_processor(),
        versions=package_versions(LIBRARIES),
        rows=rows,
        sensitivity=maker.sensitivity,
    )


def write_tables(folder: Path, deployment: Deployment) -> None:
    """Write table.json and table.md."""
    text = json.dumps(deployment.as_json(), indent=1, allow_nan=False, ensure_ascii=False)
    write_bytes(folder / "table.json", text.encode("utf-8", "backslashreplace"))
    write_bytes(folder / "table.md", deployment.format_markdown().encode("utf-8", "backslashreplace"))


def _check(file: File, generator: Generator, photos: Sequence[Tensor]) -> None:
    run = open_file(file.path, torch.get_num_threads())
    samples = [photo[:, :, :CHECKED, :CHECKED].contiguous().numpy() for photo in photos[:2]]
    least = check_result(file.path.name, run, generator.network, samples, file.precision)
    if file.scored is not None:  # fp16 as accelerators compute it, which overflows where a CPU does not
        rounding = open_file(file.scored, torch.get_num_threads())
        for lr in samples:
            check_finite(file.path.name, rounding(lr), "its results, where each is rounded to fp16,")
    logger.info("%s: made and checked, PSNR to the generator on photos %.1f dB or more", file.path.name, least)


def _measure_reference(generator: Generator, scores: Scores, allow_custom_code: bool) -> Row:
    size = sum(4 * parameter.numel() for parameter in generator.network.parameters())
    cost = _measure(generator.source, "custom" if allow_custom_code else "weights")
    return Row(REFERENCE, "fp32", size, scores.means[REFERENCE], cost)


def _measure_file(file: File, scores: Scores) -> Row:
    name = file.path.stem
    return Row(
        name=name,
        precision=file.precision,
        bytes=sum(part.stat().st_size for part in file.parts),
        scores=scores.means[name],
        cost=_measure(file.path, "file"),
        similarity=scores.similarity[name],
        calibration=file.calibration,
        kept=list(file.kept),
        files=[part.name for part in file.parts],
    )


def _measure(source: str | Path, kind: str) -> Cost:
    try:
        return measure(source, SIDE, torch.get_num_threads(), kind)
    except RuntimeError as error:  # all the rest of the table is known
        logger.warning("%s", error)
        return Cost(None, None)


def _processor() -> str:
    """The processor's name where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
