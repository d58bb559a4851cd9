"""Writes weights to a file for this package or for others: python -m realsr.export weights=SOURCE output=FILE."""

import logging

from realsr.config import ExportConfig, run_command
from realsr.weights import convert_weights

logger = logging.getLogger("realsr")


def main(config: ExportConfig) -> None:
    """Convert the weights that a config names, and say what was written."""
    generator, scale = convert_weights(config.weights, config.output, config.overwrite)
    size = "" if "." in generator.name else f", {generator.blocks} blocks, {generator.features} features"
    logger.info("%s: the generator of %s (%s%s, scale %d)", config.output, config.weights, generator.name, size, scale)


if __name__ == "__main__":
    run_command(main, "export")
