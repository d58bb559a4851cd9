"""Where conf/ is, and what it offers."""

from pathlib import Path


def conf_dir() -> Path:
    """Return where conf/ is: inside an installed package, at the top of a checkout."""
    package = Path(__file__).parents[1]
    inside, checkout = package / "conf", package.parents[1] / "conf"
    return inside if inside.is_dir() else checkout


def list_options(group: str) -> list[str]:
    """Return the options of a config group, e.g. the tracks."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def choices(group: str) -> str:
    """Return how an option of a group is added, and which there are."""
    name = {"experiment": "recipe"}.get(group, group)
    return f"+{group}=<{name}>, one of {', '.join(list_options(group))}"
