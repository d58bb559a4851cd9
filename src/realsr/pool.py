"""Says and draws what a pool holds, or how two differ: python -m realsr.pool pool_dir=A [compare=B] [output=DIR]."""

import json
import logging

from realsr.config.composition import PoolReportConfig, run_command
from realsr.core.errors import UserError
from realsr.core.files import check_folder_place, write_bytes
from realsr.pools.pool_statistics import measure_pool
from realsr.reporting.pool_picture import write_pool_picture
from realsr.reporting.pool_table import compare_pools, describe_pool, format_comparison, format_pool

logger = logging.getLogger("realsr")


def main(config: PoolReportConfig) -> None:
    """Print a table, and write pool.png and pool.json, or pool_comparison.png and .json.

    Raises UserError at the end if files of the pools cannot be read.
    """
    output = config.output or config.pool_dir
    check_folder_place("pool_dir" if config.output is None else "output", output)
    pools = [measure_pool(folder) for folder in (config.pool_dir, config.compare) if folder is not None]
    name, facts = "pool", describe_pool(pools[0])
    if len(pools) == 1:
        logger.info("\n%s", format_pool(pools[0]))
    else:
        logger.info("\n%s", format_comparison(*pools))
        name = "pool_comparison"
        facts = {"A": facts, "B": describe_pool(pools[1]), "B_minus_A": compare_pools(*pools)}
    output.mkdir(parents=True, exist_ok=True)
    write_bytes(output / f"{name}.json", json.dumps(facts, indent=1).encode())
    write_pool_picture(output / f"{name}.png", pools)
    logger.info("\npicture  %s\nnumbers  %s", output / f"{name}.png", output / f"{name}.json")
    if unreadable := [reason for pool in pools for reason in pool.unreadable]:
        raise UserError("left out, since they cannot be read:" + "".join(f"\n  {reason}" for reason in unreadable))


if __name__ == "__main__":
    run_command(main, "pool_report")
