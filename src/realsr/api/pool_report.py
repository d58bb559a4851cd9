"""Report on the contents of a pool, or on the differences between two pools."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from realsr.config.composition import takes_keys
from realsr.config.schema import PoolReportConfig
from realsr.core.errors import UserError
from realsr.core.files import check_folder_place, write_bytes
from realsr.imaging import read_uint8
from realsr.imaging.kernel_shapes import load_kernel
from realsr.pools.contents import list_kernels, list_noise
from realsr.pools.pool_statistics import PoolStatistics, measure_pool
from realsr.reporting.pool_figure import write_pool_figure
from realsr.reporting.pool_table import compare_pools, describe_pool, format_comparison, format_pool

logger = logging.getLogger("realsr")


@dataclass(frozen=True)
class Pool:
    """A pool's folder, with access to its kernels and noise patches as arrays."""

    folder: Path

    def kernels(self, scale: int) -> dict[str, np.ndarray]:
        """Return the kernels for a scale by file name, each (h, w), summing to 1."""
        return {path.name: load_kernel(path) for path in list_kernels(self.folder, scale)}

    def noise(self) -> dict[str, np.ndarray]:
        """Return the noise patches by file name, each (h, w, 3) uint8, content included."""
        return {path.name: read_uint8(path) for path in list_noise(self.folder)}


@takes_keys("pool")
def pool(config: PoolReportConfig) -> list[PoolStatistics]:
    """Return the statistics of one or two pools, log a table, and write pool.png and pool.json.

    For two pools the files are pool_comparison.png and pool_comparison.json.

    Raises UserError at the end if files of the pools cannot be read.
    """
    output = config.output or config.pool_dir
    check_folder_place("pool_dir" if config.output is None else "output", output)
    pools = [
        measure_pool(folder) for folder in (config.pool_dir, config.compare) if folder is not None
    ]
    name, facts = "pool", describe_pool(pools[0])
    if len(pools) == 1:
        logger.info("\n%s", format_pool(pools[0]))
    else:
        logger.info("\n%s", format_comparison(*pools))
        name = "pool_comparison"
        facts = {"A": facts, "B": describe_pool(pools[1]), "B_minus_A": compare_pools(*pools)}
    output.mkdir(parents=True, exist_ok=True)
    write_bytes(output / f"{name}.json", json.dumps(facts, indent=1).encode())
    write_pool_figure(output / f"{name}.png", pools)
    logger.info("\nfigure   %s\nnumbers  %s", output / f"{name}.png", output / f"{name}.json")
    if reasons := "".join(f"\n  {reason}" for pool in pools for reason in pool.unreadable):
        raise UserError(f"skipped because unreadable:{reasons}")
    return pools
