"""The documentation site: all pages, the whole configuration, and nothing from other hosts."""

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from browser import console_messages, open_page, outside_requests
from realsr import api
from realsr.config.help import write_help
from realsr.config.schema import COMMANDS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "_extensions"))
import configuration  # noqa: E402

OPTIONS = sorted(
    file.relative_to(ROOT / "conf").with_suffix("").as_posix()
    for file in (ROOT / "conf").rglob("*/*.yaml")
)
write_options = cache(configuration.write_options)
LINE = re.compile(r" *(?:- )*(?:override )?/?([\w@/]+): *(.*?)(?: *# (.*))?")


def words(text: str) -> str:
    """Letters and digits alone, without the addresses of links and the languages of code."""
    return re.sub(r"[^a-z0-9]", "", re.sub(r"\]\([^)]*\)|```\w*", "", text).lower())


def check_lines(lines: list[str], section: str) -> None:
    """Assert that the tables of a section have the key, value and comment of each line."""
    rows = [
        [re.sub(r"\\(.)", r"\1", cell).strip("` ") for cell in re.split(r"(?<!\\)\|", row)[1:4]]
        for row in section.splitlines()
        if row.startswith("| `")
    ]
    for line in lines:
        key = LINE.fullmatch(line)
        if key and (key[2] or key[3]):
            comment = words(key[3] or "")
            assert any(
                re.split(r"[.\]]", name)[-1] == key[1]
                and key[2] in value
                and comment in words(meaning)
                for name, value, meaning in rows
            ), line


def test_each_page_is_in_the_contents() -> None:
    pages = {
        page.relative_to(DOCS).with_suffix("").as_posix()
        for page in DOCS.rglob("*.*")
        if page.suffix in (".md", ".ipynb")
    }
    index = (DOCS / "index.md").read_text()
    entries = re.findall(
        r"^[\w/*]+$", "".join(re.findall(r"```{toctree}(.*?)```", index, re.S)), re.M
    )
    patterns = [entry.replace("*", "[^/]+") for entry in entries]
    missing = {page for page in pages if not any(re.fullmatch(p, page) for p in patterns)}
    assert missing == {"index"}


def test_each_group_has_its_place_on_one_page() -> None:
    groups = [
        group
        for page in DOCS.rglob("*.md")
        for _, group in configuration.MARKER.findall(page.read_text())
        if group
    ]
    assert sorted(groups) == sorted({option.rpartition("/")[0] for option in OPTIONS})


@pytest.mark.parametrize("option", OPTIONS)
def test_the_reference_has_each_key_and_comment_of_an_option(option: str) -> None:
    group, _, name = option.rpartition("/")
    text = write_options(group, "reference/configuration/page.md")
    section = text.partition(f"### `{name}`\n")[2].partition("\n### ")[0]
    lines = (ROOT / "conf" / f"{option}.yaml").read_text().splitlines()
    check_lines(lines, section)
    comment = "".join(line for line in lines if line.startswith("#") and "@package" not in line)
    assert words(comment) in words(section)


@pytest.mark.parametrize(
    "option",
    [option for option in OPTIONS if option.split("/")[0] not in configuration.PLUS_GROUPS],
)
def test_each_key_of_an_option_has_a_comment(option: str) -> None:
    # Tracks, recipes and layouts set keys that other files explain.
    keys = configuration.list_option_keys(ROOT / "conf" / f"{option}.yaml")
    for name, key in keys.items():
        first = keys[re.sub(r"\[\d+\]", "[0]", name)]  # of similar elements of a list
        assert first.comment or not key.value or name == "name" or "@" in name, name


@pytest.mark.parametrize("command", COMMANDS)
def test_each_key_of_a_command_has_a_comment(command: str) -> None:
    for key in configuration.list_keys("\n".join(configuration.read_keys(command))):
        assert key.comment or not key.value, key.name


@pytest.fixture(scope="module")
def commands() -> str:
    return configuration.write_commands("reference/commands.md")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_reference_has_what_the_help_of_a_command_prints(
    command: str, commands: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_help(command, [])
    usage, _, rest = capsys.readouterr().out.partition("\nOther commands:")
    keys = rest.partition("Keys, default values")[2].partition("\n\n")[0].splitlines()[1:]
    section = commands.partition(f"## `{command}`\n")[2].partition("\n## ")[0]
    assert keys
    check_lines(keys, section)
    assert words(usage) in words(section)


def test_the_interface_has_each_public_name() -> None:
    page = (DOCS / "reference/api.md").read_text()
    assert set(re.findall(r"^\.\. auto\w+:: (\w+)$", page, re.M)) == set(api.__all__)


class Page(HTMLParser):
    """The addresses that a page loads, and those to which it links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("src", "srcset", "data", "poster") or (tag, name) == ("link", "href"):
                self.loads.append(value or "")
            elif (tag, name) == ("a", "href"):
                self.links.append(value or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    pytest.importorskip("sphinx", reason="Sphinx is not installed (extra docs)")
    folder = tmp_path_factory.mktemp("site")
    flags = ["--quiet", "--nitpicky", "--fail-on-warning", "--keep-going"]
    build = subprocess.run(
        [sys.executable, "-m", "sphinx", *flags, str(DOCS), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stderr[-2000:]
    return folder


def test_formulas_need_no_script_and_unknown_commands_are_reported(tmp_path: Path) -> None:
    pytest.importorskip("latex2mathml", reason="latex2mathml is not installed (extra docs)")
    (tmp_path / "index.md").write_text(
        "# Page\n\n$x^2$\n\n$$\\big(\\sqrt{y}\\big) \\dots \\tfrac12$$\n\n$\\unknown$\n"
    )
    (tmp_path / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(DOCS / '_extensions')!r})\n"
        "extensions = ['myst_parser', 'mathml']\nmyst_enable_extensions = ['dollarmath']\n"
        "html_math_renderer = 'mathml'\nhtml_theme = 'basic'\n"
    )
    command = [sys.executable, "-m", "sphinx", "--quiet", ".", "build"]
    build = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    page = (tmp_path / "build/index.html").read_text()
    assert re.search(r"<msup>\s*<mi>x</mi>\s*<mn>2</mn>\s*</msup>", page)
    assert re.search(r"<msqrt>\s*(<mrow>)?<mi>y</mi>", page)
    assert re.search(r"<mfrac>(<mrow>)?<mn>1</mn>(</mrow>)?(<mrow>)?<mn>2</mn>", page)
    assert not any("mathjax" in address.lower() for address in Page(page).loads)
    assert "index.md:7: WARNING: formula \\unknown" in build.stderr


@pytest.mark.slow
def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    loads = [address for page in pages for address in Page(page.read_text()).loads]
    for sheet in site.rglob("*.css"):
        text = re.sub(r"/\*.*?\*/", "", sheet.read_text(), flags=re.S)
        loads += re.findall(r"""url\(["']?([^"')]+)|@import ["']([^"']+)""", text)
    assert len(pages) > 30
    assert [address for address in loads if re.match(r"(\w+:)?//", str(address))] == []


@pytest.mark.slow
def test_links_of_the_site_lead_to_files_that_exist(site: Path) -> None:
    missing = [
        f"{page.name}: {link}"
        for page in site.rglob("*.html")
        for link in Page(page.read_text()).links
        if not re.match(r"\w+:|#|$", link) and not (page.parent / link.partition("#")[0]).exists()
    ]
    assert missing == []


@pytest.mark.slow
def test_the_names_of_the_interface_have_their_docstrings(site: Path) -> None:
    page = (site / "reference/api.html").read_text()
    text = words(unescape(re.sub(r"<[^>]+>", "", page)))
    for name in api.__all__:
        line = str(getattr(api, name).__doc__).partition("\n")[0]
        assert f'id="realsr.api.{name}"' in page
        assert words(line) in text, name


@pytest.mark.slow
@pytest.mark.parametrize("page", ["index", "reference/commands", "reference/api"])
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_page_of_the_site_works_in_a_browser(
    page: str, width: int, dark: bool, site: Path
) -> None:
    with open_page(site / f"{page}.html", width, dark) as driver:
        assert console_messages(driver) == []
        assert outside_requests(driver) == []
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
