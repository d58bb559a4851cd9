"""Collects noise patches from source photos: python -m realsr.collect_noise +track=dped data.source=PHOTOS."""

from realsr.config import Config, run_command
from realsr.degradation.noise import collect_noise


def main(config: Config) -> None:
    """Collect the noise patches that a config asks for."""
    collect_noise(config.data.source, config.noise_pool_dir, config.noise, config.overwrite)


if __name__ == "__main__":
    run_command(main)
