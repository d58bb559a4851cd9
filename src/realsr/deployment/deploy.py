"""A generator to files that stand alone, each checked, judged and measured."""

import json
import logging
import platform
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from realsr.core.errors import UserError
from realsr.core.files import write_bytes
from realsr.core.progress import Progress
from realsr.deployment.check import check_finite, check_result, judge_similarity
from realsr.deployment.flops import count_gflop
from realsr.deployment.folder import list_exported, unfinished
from realsr.deployment.formats import Int8Config
from realsr.deployment.judge import Judges, Verdict, judge
from realsr.deployment.make import File, Generator, Maker
from realsr.deployment.measure import Cost, measure
from realsr.deployment.photo_sets import check_calibration, load_calibration
from realsr.deployment.runtimes import open_file
from realsr.deployment.sensitivity import Trade
from realsr.deployment.table import REFERENCE, SIDE, Deployment, Row
from realsr.provenance.fingerprints import package_versions

logger = logging.getLogger("realsr")

LIBRARIES = ("onnx", "onnxruntime", "onnxscript", "openvino", "ncnn", "pnnx")
CHECKED = 64  # LR pixels a side of the photos that files are checked on


def deploy(
    generator: Generator,
    output: Path,
    formats: Sequence[str],
    int8: Int8Config,
    judges: Judges,
    judged: str,
    allow_custom_code: bool = False,
    damaged: str = "refuse",
) -> Deployment:
    """Write a generator in each format; return what they cost and lose.

    Files appear in the output folder once all are made, in place of an earlier export's; one that does not pass
    `check_result` or `judge_similarity` is left out, and named.

    Args:
        generator: what `load` returned.
        output: a folder.
        formats: which files, see `config.FORMATS`.
        int8: how those of 8 bits are made.
        judges: by protocol, the images that files are judged by, and how many border pixels it leaves out.
        judged: what these images are, for the table.
        allow_custom_code: whether the source names a network of the user's own, for the process that measures it.
        damaged: see `realsr.imaging.read_picture`.

    Raises:
        UserError: where the network cannot be expressed in ONNX, photos for INT8 carry nothing (`check_calibration`),
            or no image could be scored.
    """
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
        verdict = judge(generator, files, judges)
        for file in list(files):
            try:
                similarity = verdict.similarity[file.path.stem]
                warnings += filter(None, [judge_similarity(file.path.name, file.precision, similarity)])
            except UserError as error:
                logger.error("%s", error)
                refused.append(str(error))
                files.remove(file)
                for part in file.parts:
                    part.unlink()
        with Progress("measured", total=1 + len(files)) as progress:
            rows = [_measure(generator, None, verdict, allow_custom_code)]
            progress.advance()
            for file in files:
                rows.append(_measure(generator, file, verdict, allow_custom_code))
                progress.advance()
    return _describe(generator, rows, judged, [*refused, *verdict.failed], warnings, maker.trade)


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


def _measure(generator: Generator, file: File | None, verdict: Verdict, allow_custom_code: bool) -> Row:
    if file is None:
        size = sum(4 * parameter.numel() for parameter in generator.network.parameters())
        cost = _try(generator.source, "custom" if allow_custom_code else "weights")
        return Row(REFERENCE, "fp32", size, verdict.scores[REFERENCE], cost)
    name, size = file.path.stem, sum(part.stat().st_size for part in file.parts)
    cost, names = _try(file.path, "file"), [part.name for part in file.parts]
    told = verdict.scores[name], cost, verdict.similarity[name], file.calibration, list(file.kept), names
    return Row(name, file.precision, size, *told)


def _try(source: str | Path, kind: str) -> Cost:
    try:
        return measure(source, SIDE, torch.get_num_threads(), kind)
    except RuntimeError as error:  # all the rest of the table is known
        logger.warning("%s", error)
        return Cost(None, None)


def _describe(
    generator: Generator, rows: list[Row], judged: str, failed: list[str], warnings: list[str], trade: Trade | None
) -> Deployment:
    return Deployment(
        source=generator.source,
        scale=generator.scale,
        gflop=round(count_gflop(generator.network, SIDE), 3),
        parameters=sum(parameter.numel() for parameter in generator.network.parameters()),
        judged=judged,
        failed=failed,
        warnings=warnings,
        threads=torch.get_num_threads(),
        processor=_processor(),
        versions=package_versions(LIBRARIES),
        rows=rows,
        trade=trade,
    )


def _processor() -> str:
    """The processor's name where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
