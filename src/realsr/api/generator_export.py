"""A generator written for other programs."""

import logging
import mimetypes
from pathlib import Path

from realsr.config.composition import load_protocol, takes_keys
from realsr.config.schema import ExportConfig
from realsr.core.errors import UserError
from realsr.core.files import check_folder_place, write_bytes
from realsr.deployment.export_options import DEFAULT_FORMATS, check_formats
from realsr.weights import convert_weights
from realsr.weights.generators import FORMATS as WEIGHTS

logger = logging.getLogger("realsr")

NETWORKS = (".onnx", ".xml", ".param", ".bin", ".pt", ".ckpt", ".engine")
"""Suffixes of files that programs for networks read: a folder is hardly meant by them."""
PROTOCOLS = ("vacc", "realsr_release")


@takes_keys("export")
def export(config: ExportConfig) -> Path:
    """Write the weights to a file, or networks to a folder with a table of what they lose; return file or folder."""
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
        config.formats is None
        and mimetypes.MimeTypes().guess_type(output.name)[0] is not None
        and not output.is_dir()
    ):
        raise UserError(
            f"output={output}: expected a file whose name ends in {' or '.join(WEIGHTS)}, or a folder for ONNX; for a "
            f"folder of this name set formats=[{','.join(DEFAULT_FORMATS)}], too"
        )
    else:
        export_formats(config)
    return output


def export_weights(config: ExportConfig) -> None:
    """Convert the weights that a config names, and say what was written."""
    if config.formats is not None:
        raise UserError(
            f"output={config.output} is a file of weights: formats={config.formats} need output=FOLDER"
        )
    generator, scale = convert_weights(config.weights, config.output, config.overwrite)
    name = generator.get("architecture", generator["name"])
    size = (
        f", {generator['blocks']} blocks, {generator['features']} features"
        if name == "rrdb"
        else ""
    )
    logger.info(
        "%s: the generator of %s (%s%s, scale %d)", config.output, config.weights, name, size, scale
    )


def export_formats(config: ExportConfig) -> None:
    """Write the formats that a config names, the tables, and the figure of layers if the config asks for it."""
    formats = list(DEFAULT_FORMATS) if config.formats is None else config.formats
    check_formats(formats, config.int8)  # which finds missing libraries before they are imported
    from realsr.deployment.deploy import export_networks
    from realsr.reporting.sensitivity_figure import draw_sensitivity

    deployment = export_networks(
        config.weights,
        config.output,
        {name: load_protocol(name) for name in PROTOCOLS},
        config.int8,
        formats,
        config.data.hr,
        config.allow_custom_code,
        config.overwrite,
        config.damaged,
    )
    logger.info("\n%s", deployment.format_text())
    files = [name for row in deployment.rows for name in row.files] + ["table.json", "table.md"]
    if deployment.sensitivity is not None:
        write_bytes(config.output / "sensitivity.png", draw_sensitivity(deployment.sensitivity))
        files.append("sensitivity.png")
    logger.info("\nwritten  %s: %s", config.output, ", ".join(files))
    for warning in deployment.warnings:
        logger.warning("warning: %s", warning)
    if deployment.failed:
        raise UserError(f"{len(deployment.failed)} could not be done, see above")
