"""Estimates the blur kernels of source photos: python -m realsr.estimate_kernels +track=dped data.source=PHOTOS."""

from realsr.config import Config, run_command
from realsr.degradation.estimation import estimate_kernels
from realsr.shards import choose_shard


def main(config: Config) -> None:
    """Estimate the kernels that a config asks for, or one shard of them."""
    shard = choose_shard(config.shard, config.shards)
    estimate_kernels(config.data.source, config.pool_dir, config.kernels, config.seed, config.overwrite, shard)


if __name__ == "__main__":
    run_command(main)
