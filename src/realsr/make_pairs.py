"""Makes pairs of HR and LR images: python -m realsr.make_pairs +track=dped data.source=PHOTOS."""

from realsr.config.composition import Config, run_command
from realsr.pairs.synthesis import make_pairs


def main(config: Config) -> None:
    """Make the pairs that a config asks for."""
    make_pairs(
        config.data.source,
        config.data.target,
        None if config.pool.kernels == "bicubic" else config.pool_dir,
        config.pairs_dir,
        config.pairs,
        config.scale,
        config.seed,
        config.overwrite,
        config.workers,
        config.damaged,
    )


if __name__ == "__main__":
    run_command(main)
