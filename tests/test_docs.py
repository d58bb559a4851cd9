"""The documentation: links lead somewhere, and each command in it is one that can be composed."""

import inspect
import json
import re
import shlex
from pathlib import Path

import pytest

from config_files import yaml_values
from realsr import api
from realsr.config.composition import load_config
from realsr.config.options import list_options
from realsr.config.schema import COMMANDS
from realsr.core.components import find_component
from realsr.data.degradations.degradation import KEY, ROOM

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for folder in (".", "docs", "experiments", "tests/records")
    for page in (ROOT.glob("*.md") if folder == "." else (ROOT / folder).rglob("*.*"))
    if page.suffix in (".md", ".ipynb")
)
COMMAND = re.compile(
    r"(?:python -m realsr\.|(?:^    |`)realsr )(\w+)((?:\\\n|[^\n`])*)", re.MULTILINE
)


def read(page: Path) -> str:
    """The text of a page, or of the text cells of a notebook."""
    text = page.read_text()
    if page.suffix == ".md":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", read(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", read(page), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{link}: no such file"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


def test_pages_that_code_and_configuration_name_exist() -> None:
    for file in [
        *(ROOT / "src").rglob("*.py"),
        *(ROOT / "conf").rglob("*.yaml"),
        ROOT / "pyproject.toml",
    ]:
        for page in re.findall(r"(?<![\w/])docs/[\w/]+\.(?:md|ipynb)", file.read_text()):
            assert (ROOT / page).exists(), f"{file}: {page}"


def commands() -> list[tuple[str, str]]:
    """Each command line of the pages that needs no folder of options, no run and no shell variable."""
    lines = set()
    for page in PAGES:
        for name, rest in COMMAND.findall(read(page)):
            line = " ".join(rest.replace("\\\n", " ").partition(" #")[0].split())
            if (
                name in COMMANDS
                and line
                and not re.search(r"--|[<|]|\$[A-Z]|\[data|from_run", line)
            ):
                lines.add((name, line))
    return sorted(lines)


@pytest.mark.parametrize(("name", "line"), commands(), ids=lambda value: value)
def test_commands_can_be_composed(
    name: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)
    sweep = "-m" in words
    words = [
        word.replace("…", "x")
        for word in words
        if word not in ("-m", "…") and not word.startswith("hydra")
    ]
    if sweep:  # the first of its values
        words = [
            re.sub(r"=range\(\d+\)$|=([^\[,]+),.*$", lambda values: f"={values[1] or 0}", word)
            for word in words
        ]
    load_config(name, words)


def test_the_page_of_the_python_interface_lists_each_function() -> None:
    table = re.findall(r"^\| (`.*?) \|", read(ROOT / "docs/extend/python.md"), re.MULTILINE)
    names = [name for cell in table for name in re.findall(r"`(\w+)", cell)]
    assert sorted(names) == api.__all__


def test_the_arguments_that_degradations_get_are_documented() -> None:
    page = read(ROOT / "docs/extend/extending.md")
    for option in set(list_options(KEY)) - {"none"}:
        values = yaml_values(f"{KEY}/{option}")
        constructor = find_component(ROOM, KEY, values)
        for name in inspect.signature(constructor).parameters.keys() - values.keys():
            assert f"\n| `{name}` |" in page, f"{option}: {name}"
