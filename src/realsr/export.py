"""Writes a generator for other programs: python -m realsr.export weights=SOURCE output=FOLDER or FILE."""

import logging
import mimetypes
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec

from realsr.config.composition import ExportConfig, load_protocol, run_command
from realsr.core.errors import UserError
from realsr.core.file_names import printable
from realsr.core.files import check_folder_place
from realsr.deployment.folder import list_exported
from realsr.deployment.formats import DEFAULT_FORMATS, check_formats
from realsr.evaluation.protocol import resolve
from realsr.weights import convert_weights
from realsr.weights.conversion import FORMATS as WEIGHTS
from realsr.weights.sources import find_weights

logger = logging.getLogger("realsr")

NETWORKS = (".onnx", ".xml", ".param", ".bin", ".pt", ".ckpt", ".engine")
"""Suffixes of files that programs for networks read: a folder is hardly meant by them."""
PROTOCOLS = ("vacc", "realsr_release")
LIBRARIES = {  # by extra
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "openvino": ("openvino",),
    "ncnn": ("ncnn", "pnnx"),
}


def main(config: ExportConfig) -> None:
    """Write the weights to a file, or networks that run by themselves to a folder, with a table of what they lose."""
    output, suffix = config.output, config.output.suffix.lower()
    weights_alone = suffix in WEIGHTS and not output.is_dir()
    check_folder_place("output", output.parent if weights_alone else output)
    if weights_alone:
        export_weights(config)
    elif suffix in NETWORKS and not output.is_dir():
        raise UserError(
            f"output={output}: networks are written into a folder, set output={output.with_suffix('')}; weights alone "
            f"into a file whose name ends in {' or '.join(WEIGHTS)}"
        )
    elif (
        config.formats is None and mimetypes.MimeTypes().guess_type(output.name)[0] is not None and not output.is_dir()
    ):
        raise UserError(
            f"output={output}: expected a file whose name ends in {' or '.join(WEIGHTS)}, or a folder for ONNX; for a "
            f"folder of this name set formats=[{','.join(DEFAULT_FORMATS)}], too"
        )
    else:
        export_networks(config)


def export_weights(config: ExportConfig) -> None:
    """Convert the weights that a config names, and say what was written."""
    if config.formats is not None:
        raise UserError(f"output={config.output} is a file of weights: formats={config.formats} need output=FOLDER")
    generator, scale = convert_weights(config.weights, config.output, config.overwrite)
    name = generator["name"]
    size = "" if "." in name else f", {generator['blocks']} blocks, {generator['features']} features"
    logger.info("%s: the generator of %s (%s%s, scale %d)", config.output, config.weights, name, size, scale)


def export_networks(config: ExportConfig) -> None:
    """Write the formats that a config names, the tables, and the picture of layers if that was asked for."""
    formats = list(DEFAULT_FORMATS) if config.formats is None else config.formats
    check_formats(formats, config.int8)
    if (there := list_exported(config.output)) and not config.overwrite:
        raise UserError(
            f"{config.output}: has an export already ({', '.join(path.name for path in there)}): say overwrite=true, "
            "which replaces all of it, or choose another output"
        )
    if find_weights(config.weights).resolve() in [path.resolve() for path in there]:
        raise UserError(f"weights={config.weights} is what output={config.output} replaces: choose another output")
    _check_libraries(formats)
    from realsr.core.files import write_bytes
    from realsr.deployment import deploy
    from realsr.deployment.make import load
    from realsr.deployment.photo_sets import JUDGED, list_shared, load_judged
    from realsr.deployment.table import METRICS
    from realsr.reporting.sensitivity_figure import check_drawing, draw_sensitivity

    if config.int8.sensitivity:
        check_drawing()
    generator = load(config.weights, config.allow_custom_code)
    if shared := list_shared(config.int8.photos, config.data.hr):
        raise UserError(
            f"{', '.join(shared[:3])} are in int8.photos and in data.hr: files would be judged by photos that they "
            "were calibrated on; take other photos for one of them"
        )
    judges = {}
    for name in PROTOCOLS:
        protocol = replace(resolve(load_protocol(name), generator.scale), metrics=list(METRICS))
        images = load_judged(config.data.hr, protocol, generator.scale, config.damaged)
        judges[name] = images, protocol.crop or 0
    judged = f"the images of {printable(config.data.hr)}" if config.data.hr else f"scikit-image's {', '.join(JUDGED)}"
    deployment = deploy.deploy(
        generator, config.output, formats, config.int8, judges, judged, config.allow_custom_code, config.damaged
    )
    deploy.write_tables(config.output, deployment)
    logger.info("\n%s", deployment.format_text())
    written = [name for row in deployment.rows for name in row.files] + ["table.json", "table.md"]
    if deployment.trade is not None:
        write_bytes(config.output / "sensitivity.png", draw_sensitivity(deployment.trade))
        written.append("sensitivity.png")
    logger.info("\nwritten  %s: %s", config.output, ", ".join(written))
    for warning in deployment.warnings:
        logger.warning("warning: %s", warning)
    if deployment.failed:
        raise UserError(f"{len(deployment.failed)} could not be done, see above")


def _check_libraries(formats: Sequence[str]) -> None:
    """Raise UserError where a library is not installed; all formats begin with ONNX's graph, or its names of layers."""
    extras = ["onnx"] + [extra for extra in ("openvino", "ncnn") if any(name.startswith(extra) for name in formats)]
    if missing := [name for extra in extras for name in LIBRARIES[extra] if find_spec(name) is None]:
        raise UserError(
            f"formats=[{','.join(formats)}] need {', '.join(missing)}: pip install 'realsr[{','.join(extras)}]'"
        )


if __name__ == "__main__":
    run_command(main, "export")
