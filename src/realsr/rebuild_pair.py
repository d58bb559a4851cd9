"""Makes one pair again, byte for byte: python -m realsr.rebuild_pair +track=dped name=NAME data.source=PHOTOS."""

from realsr.config.composition import Config, run_command
from realsr.core.errors import UserError
from realsr.pairs.rebuild import rebuild_pair


def main(config: Config) -> None:
    """Make the pair of a name again from the manifest."""
    if config.name is None:
        raise UserError("name must be given: set name=NAME, the pair to make again")
    rebuild_pair(config.name, config.data.source, config.data.target, config.pool_dir, config.pairs_dir, config.damaged)


if __name__ == "__main__":
    run_command(main)
