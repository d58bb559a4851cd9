"""Export of a generator for other programs."""

import logging
import mimetypes
from pathlib import Path

from realsr.config.composition import load_protocol, takes_keys
from realsr.config.schema import ExportConfig
from realsr.core.errors import UserError
from realsr.core.files import check_folder_place, write_bytes
from realsr.deployment.export_options import DEFAULT_FORMATS, check_formats
from realsr.weights import convert_weights
from realsr.weights.conversion import FORMATS as WEIGHTS

logger = logging.getLogger("realsr")

NETWORKS = (".onnx", ".xml", ".param", ".bin", ".pt", ".ckpt", ".engine")
"""File suffixes of network formats; such an `output` is probably not meant as a folder."""
PROTOCOLS = ("vacc", "realsr_release")


@takes_keys("export")
def export(config: ExportConfig) -> Path:
    """Write the weights to a file, or networks and a table of their accuracy to a folder.

    Returns the path of the file or folder.
    """
    output, suffix = config.output, config.output.suffix.lower()
    is_folder = output.is_dir()
    weights_only = suffix in WEIGHTS and not is_folder
    check_folder_place("output", output.parent if weights_only else output)
    has_file_type = mimetypes.MimeTypes().guess_type(output.name)[0] is not None
    if weights_only:
        export_weights(config)
    elif suffix in NETWORKS and not is_folder:
        raise UserError(
            f"output={output}: networks are written to a folder: set output="
            f"{output.with_suffix('')}; for weights only, set a file name that ends in "
            f"{' or '.join(WEIGHTS)}"
        )
    elif config.formats is None and has_file_type and not is_folder:
        raise UserError(
            f"output={output}: expected a file name that ends in {' or '.join(WEIGHTS)}, or a "
            f"folder for ONNX; for a folder of this name also set "
            f"formats=[{','.join(DEFAULT_FORMATS)}]"
        )
    else:
        export_formats(config)
    return output


def export_weights(config: ExportConfig) -> None:
    """Convert the weights of a config to a file, and log a summary."""
    if config.formats is not None:
        raise UserError(
            f"output={config.output} is a weights file: formats={config.formats} need output=FOLDER"
        )
    generator, scale = convert_weights(
        config.weights,
        config.output,
        config.overwrite,
        config.weights_b,
        config.interpolate,
        config.licence,
    )
    name = generator.get("architecture", generator["name"])
    if name == "rrdb":
        name += f", {generator['blocks']} blocks, {generator['features']} features"
    logger.info("%s: generator of %s (%s, scale %d)", config.output, config.weights, name, scale)


def export_formats(config: ExportConfig) -> None:
    """Write the formats of a config, the tables and, if requested, the sensitivity figure."""
    formats = list(DEFAULT_FORMATS) if config.formats is None else config.formats
    check_formats(formats, config.int8)  # reports missing libraries before they are imported
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
        config.weights_b,
        config.interpolate,
        config.licence,
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
        raise UserError(f"{len(deployment.failed)} formats could not be exported, see above")
