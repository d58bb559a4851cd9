"""Estimates source photos' kernels, or makes the pool's others: python -m realsr.estimate_kernels +track=dped …."""

import logging
from typing import Any

from realsr.config.composition import Config, run_command
from realsr.kernels.estimation import SHEET, estimate_kernels
from realsr.provenance.shards import choose_shard
from realsr.reporting.kernel_sheet import draw_sheet

logger = logging.getLogger("realsr")


def main(config: Config) -> None:
    """Make the kernels that a config's pool asks for, or estimate one shard of them, and draw them."""
    shard = choose_shard(config.shard, config.shards)
    made = estimate_kernels(
        config.data.source,
        config.pool_dir,
        choose_values(config),
        config.scale,
        config.seed,
        config.overwrite,
        shard,
        config.workers,
        config.damaged,
        config.pool.estimator_key,
    )
    if shard is None and any("health" in item for item in made.items.values()):
        sheet = config.pool_dir / SHEET
        if made.changed or not sheet.is_file():
            draw_sheet(sheet, config.pool_dir, made.items)
        sound = len(made.items) - len(made.rejected)
        logger.info("kernels: %d in %s, all drawn in %s", sound, config.pool_dir / "kernels", sheet)
    made.check()


def choose_values(config: Config) -> dict[str, Any]:
    """Return the values of the pool's estimator; for a pool that shrinks by bicubic those of the group `kernels`."""
    return config.kernels if config.pool.estimator_key == "kernels" else config.pool.estimator


if __name__ == "__main__":
    run_command(main)
