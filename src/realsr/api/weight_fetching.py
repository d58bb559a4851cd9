"""Download of the published weights of metrics, perceptual losses and models."""

import logging
from pathlib import Path

from realsr.config.composition import takes_keys
from realsr.config.schema import FetchConfig
from realsr.core.errors import UserError
from realsr.weights.published_files import (
    DIFFERENT,
    GROUPS,
    NAMES,
    PRESENT,
    check_state,
    describe_names,
    fetch_names,
    list_names,
)

logger = logging.getLogger("realsr")


@takes_keys("fetch")
def fetch(config: FetchConfig) -> dict[str, Path]:
    """Fetch files of weights, and return the paths of those that were missing, by name.

    A table of the files is logged first. Without `what`, it lists all, and nothing is fetched.

    Raises UserError for an unknown name, and at the end if a file could not be fetched.
    """
    if config.folder is not None and not config.folder.is_dir():
        raise UserError(f"folder={config.folder}: there is no such folder")
    states = {name: check_state(name) for name in list_names(config.what) or NAMES}
    logger.info("%s\n", describe_names(states))
    if not config.what:
        logger.info("nothing is fetched: set what=[NAME,…] or what=[%s]", ",".join(GROUPS))
        return {}
    paths, problems = dict[str, Path](), list[str]()
    absent = list[str]()
    for name, state in states.items():
        if state == DIFFERENT and not config.overwrite:
            problems.append(
                f"{name}: another file, or a damaged one, is in its place: set overwrite=true to "
                "replace it"
            )
        elif state != PRESENT:
            absent.append(name)
    for name, result in fetch_names(absent, config.folder):
        if isinstance(result, UserError):
            problems.append(str(result))
        else:
            paths[name] = result
            logger.info("%s: %s", name, result)
    logger.info(
        "present: %d, fetched: %d, not fetched: %d",
        list(states.values()).count(PRESENT),
        len(paths),
        len(problems),
    )
    if problems:
        raise UserError("not fetched:\n" + "\n".join(f"  {line}" for line in problems))
    return paths
