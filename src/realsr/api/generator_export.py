"""Export of a generator for other programs."""

import logging
import mimetypes
from pathlib import Path

from realsr.config.composition import load_protocol, takes_keys
from realsr.config.schema import ExportConfig
from realsr.core.errors import UserError
from realsr.core.files import check_folder_place, write_bytes
from realsr.deployment.export_folder import (
    DEFAULT_FORMATS,
    WEIGHTS,
    check_formats,
    check_output,
    list_exported,
)
from realsr.deployment.table import Deployment
from realsr.reporting.model_card import deployment_scores, run_scores, write_card
from realsr.weights.conversion import (
    FORMATS,
    convert_weights,
    read_with_origin,
    write_safetensors,
)
from realsr.weights.generators import describe_generator, make_generator
from realsr.weights.hub import MODEL_FILE, check_upload, upload_files
from realsr.weights.origin import Origin
from realsr.weights.state_files import WeightsFile

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
    weights_only = suffix in FORMATS and not is_folder
    check_folder_place("output", output.parent if weights_only else output)
    has_file_type = mimetypes.MimeTypes().guess_type(output.name)[0] is not None
    if weights_only:
        export_weights(config)
    elif suffix in NETWORKS and not is_folder:
        raise UserError(
            f"output={output}: networks are written to a folder: set output="
            f"{output.with_suffix('')}; for weights only, set a file name that ends in "
            f"{' or '.join(FORMATS)}"
        )
    elif config.formats is None and has_file_type and not is_folder:
        raise UserError(
            f"output={output}: expected a file name that ends in {' or '.join(FORMATS)}, or a "
            f"folder for ONNX; for a folder of this name also set "
            f"formats=[{','.join(DEFAULT_FORMATS)}]"
        )
    else:
        export_formats(config)
    return output


def export_weights(config: ExportConfig) -> None:
    """Convert the weights of a config to a file, and log a summary."""
    if config.push_to is not None:
        raise UserError(
            f"output={config.output} is a weights file: push_to={config.push_to} needs "
            f"output=FOLDER; for weights only, set formats=[{WEIGHTS}]"
        )
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
    """Write the formats of a config with tables and a model card, and upload them if requested."""
    formats = list(DEFAULT_FORMATS) if config.formats is None else config.formats
    check_formats(formats, config.int8)  # reports missing libraries before they are imported
    sources = [config.weights] + ([] if config.weights_b is None else [config.weights_b])
    check_output(sources, config.output, config.overwrite)
    if config.push_to is not None:
        if WEIGHTS not in formats:
            raise UserError(f"push_to={config.push_to}: add {WEIGHTS} to formats")
        check_upload(config.push_to)
    file, origin = read_with_origin(
        config.weights, config.weights_b, config.interpolate, config.licence
    )
    networks = [name for name in formats if name != WEIGHTS]
    deployment = _export_networks(config, file, origin, networks) if networks else None
    if deployment is not None and len(deployment.rows) == 1:
        raise _list_failed(deployment)
    state, generator, scale = describe_generator(file)
    if deployment is None:
        for path in list_exported(config.output):
            path.unlink()
    if WEIGHTS in formats:
        write_safetensors(file, origin, config.output / MODEL_FILE)
    write_card(
        config.output,
        origin,
        generator,
        scale,
        sum(value.numel() for value in state.values()),
        [
            *([] if deployment is None else deployment_scores(deployment)),
            *([] if config.weights_b is not None else run_scores(file, origin.source_sha256)),
        ],
        config.push_to,
    )
    names = [path.name for path in list_exported(config.output)]
    logger.info("\nwritten  %s: %s", config.output, ", ".join(names))
    if deployment is not None:
        for warning in deployment.warnings:
            logger.warning("warning: %s", warning)
        if deployment.failed:
            raise _list_failed(deployment)
    if config.push_to is not None:
        source = upload_files(config.output, names, config.push_to)
        logger.info("uploaded  %s: upscale with weights=%s", config.push_to, source)


def _list_failed(deployment: Deployment) -> UserError:
    return UserError(f"{len(deployment.failed)} formats could not be exported, see above")


def _export_networks(
    config: ExportConfig, file: WeightsFile, origin: Origin, formats: list[str]
) -> Deployment:
    """Write networks, the tables and, if requested, the sensitivity figure."""
    from realsr.deployment.export import export_networks
    from realsr.deployment.onnx_graph import Generator
    from realsr.reporting.figures import draw_sensitivity

    network, scale = make_generator(file, config.allow_custom_code)
    generator = Generator(
        config.weights if config.weights_b is None else origin.source,
        config.weights,
        network.requires_grad_(False),
        scale,
        origin,
        config.allow_custom_code,
    )
    deployment = export_networks(
        generator,
        config.output,
        {name: load_protocol(name) for name in PROTOCOLS},
        config.int8,
        formats,
        config.data.hr,
        config.damaged,
    )
    logger.info("\n%s", deployment.format_text())
    if deployment.sensitivity is not None:
        write_bytes(config.output / "sensitivity.png", draw_sensitivity(deployment.sensitivity))
    return deployment
