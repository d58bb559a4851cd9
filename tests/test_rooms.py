"""The arrows between the rooms of the house, as docs/extend/extending.md draws them."""

import ast
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import realsr

ROOT = Path(realsr.__file__).parent
LEVELS = (
    {"networks", "imaging", "core"},
    {"data", "weights", "provenance"},
    {"kernels", "noise", "pools", "simulation", "inference", "evaluation"},
    {"training", "deployment", "pairs", "domains"},
    {"config", "reporting"},
    {"web"},
    {"api"},
    {"command"},
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def room(path: Path) -> str:
    return path.parts[0] if len(path.parts) > 1 else "command"


def imports(path: Path) -> set[str]:
    """The modules that a file imports anywhere, also inside functions."""
    modules = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules |= {
                node.module,
                *(name for name in names if (ROOT.parent / name.replace(".", "/")).is_dir()),
            }
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return modules


def rooms_used(path: Path) -> set[str]:
    own = [module.split(".") for module in imports(path) if module.startswith("realsr.")]
    return {parts[1] if (ROOT / parts[1]).is_dir() else "command" for parts in own}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_arrows_point_one_way(path: Path) -> None:
    above = {used for used in rooms_used(path) if LEVEL[used] > LEVEL[room(path)]}
    assert not above, f"{path} imports {above}, which lie above it"


def test_rooms_of_one_level_do_not_need_each_other() -> None:
    graph: dict[str, set[str]] = {}
    for path in FILES:
        graph.setdefault(room(path), set()).update(rooms_used(path) - {room(path)})
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
    "path", [path for path in FILES if room(path) not in ("command", "api", "config")], ids=str
)
def test_only_commands_and_config_know_hydra(path: Path) -> None:
    assert not {
        module for module in imports(path) if module.split(".")[0] in ("hydra", "omegaconf")
    }


@pytest.mark.parametrize("path", [path for path in FILES if room(path) == "training"], ids=str)
def test_files_are_the_contract_between_the_stages(path: Path) -> None:
    assert not rooms_used(path) & {"kernels", "noise", "pairs"}


def test_no_two_files_share_a_name() -> None:
    names = Counter(
        path.name for path in FILES if len(path.parts) > 1 and path.name != "__init__.py"
    )
    assert [name for name, count in names.items() if count > 1] == []
