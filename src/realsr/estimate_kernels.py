"""Estimates source photos' kernels, or makes the pool's others: python -m realsr.estimate_kernels +track=dped …."""

from realsr.config.composition import Config, run_command
from realsr.kernels.estimation import estimate_kernels
from realsr.kernels.kernel_sets import draw_kernels, import_kernels
from realsr.provenance.shards import choose_shard


def main(config: Config) -> None:
    """Make the kernels that a config's pool asks for, or estimate one shard of them."""
    shard = choose_shard(config.shard, config.shards)
    match config.pool.kernels:
        case "gaussian":
            draw_kernels(config.pool_dir, config.pool, config.seed, config.overwrite)
        case "mat":
            import_kernels(config.pool_dir, config.pool, config.scale, config.overwrite)
        case _:  # of a pool that shrinks by bicubic, too: the command is asked for by name
            estimate_kernels(
                config.data.source,
                config.pool_dir,
                config.kernels,
                config.seed,
                config.overwrite,
                shard,
                config.workers,
                config.damaged,
            )


if __name__ == "__main__":
    run_command(main)
