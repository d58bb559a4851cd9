"""Reference of the commands and of conf/, from the texts that `--help` reads.

In the site, `<!-- commands -->` in a page is replaced by a section for each command, and
`<!-- options: GROUP -->` by a section for each option of a group of conf/.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import groupby
from os.path import relpath
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, get_type_hints

import yaml

from realsr.config.help import read_defaults, read_keys
from realsr.config.options import PLUS_GROUPS, conf_dir, list_options
from realsr.config.schema import COMMANDS

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1]
MARKER = re.compile(r"^<!-- (commands|options: ([\w/]+)) -->$", re.MULTILINE)
LAYOUT = re.compile(r"^ |\S {2,}\S|^Usage: ")  # a line that is indented or has columns
COLUMNS = re.compile(r"(\S.*?) {2,}(\S.*)")
COMMAND = re.compile(r"(python -m |Usage: )|\S+=")


@dataclass(frozen=True)
class Key:
    """A key, its value as written in YAML ("" for a block), and its comment."""

    name: str
    value: str
    comment: str


def list_keys(text: str) -> Iterator[Key]:
    """Yield the keys of a YAML text, nested ones as `block.key` and `list[0].key`."""

    def walk(node: yaml.MappingNode, prefix: str) -> Iterator[Key]:
        for key, value in node.value:
            name = prefix + key.value
            is_block = isinstance(value, yaml.CollectionNode) and not value.flow_style
            end = (key if is_block else value).end_mark.index
            source = "" if is_block else " ".join(text[value.start_mark.index : end].split())
            yield Key(name, source, text[end:].partition("\n")[0].partition("# ")[2])
            if is_block and isinstance(value, yaml.MappingNode):
                yield from walk(value, f"{name}.")
            elif is_block:
                for index, item in enumerate(value.value):
                    if isinstance(item, yaml.MappingNode):
                        yield from walk(item, f"{name}[{index}].")

    root = yaml.compose(text)
    if root is not None:
        yield from walk(root, "")


def list_option_keys(file: Path) -> dict[str, Key]:
    """Return the keys of an option by name, with those of the options on which it is based.

    The groups in its defaults list are keys too.
    """
    text = file.read_text(encoding="utf-8")
    keys: dict[str, Key] = {}
    for base in list_bases(text):
        keys |= list_option_keys(file.with_name(f"{base}.yaml"))
    for key in list_keys(text):
        name = re.sub(r"^defaults\[\d+\]\.(override )?/?", "", key.name)
        earlier = keys.get(name, key)
        keys[name] = Key(name, key.value or earlier.value, key.comment or earlier.comment)
    return {name: key for name, key in keys.items() if key.value or key.comment}


def list_bases(text: str) -> list[str]:
    """Return the options of the same group on which an option is based."""
    defaults = (yaml.safe_load(text) or {}).get("defaults", [])
    return [item for item in defaults if isinstance(item, str) and item != "_self_"]


def write_commands(page: str) -> str:
    """Return a section for each command."""
    pages = {
        group: file.relative_to((DOCS / page).parent).as_posix()
        for file in DOCS.rglob("*.md")
        for _, group in MARKER.findall(file.read_text(encoding="utf-8"))
        if group
    }
    sections = []
    for command, specification in COMMANDS.items():
        types = get_type_hints(specification.part)
        defaults = read_defaults(specification.keys_file)
        groups = [
            f"[`{group}={defaults[group]}`]({pages[group]}#{group})"
            for group in sorted(defaults)
            if group in types
        ]
        if "track" in types:
            groups += [
                f"[`+{group}={option}`]({pages[group]}#{group})"
                for group, option in PLUS_GROUPS.items()
            ]
        usage = str(import_module(f"realsr.{command}").__doc__).strip()
        sections.append(
            f"## `{command}`\n\n{write_text(usage.splitlines(), page)}\n"
            f"In Python: {{py:func}}`realsr.api.{command}`.\n\n"
            + (f"Groups: {', '.join(groups)}.\n\n" if groups else "")
            + write_table("default", list_keys("\n".join(read_keys(command))), page)
        )
    return "\n".join(sections)


def write_options(group: str, page: str) -> str:
    """Return a section for each option of a group."""
    sections = []
    for option in list_options(group):
        file = conf_dir() / group / f"{option}.yaml"
        text = file.read_text(encoding="utf-8")
        lines = [line[2:] for line in text.splitlines() if line.startswith("#")]
        comment = write_text([line for line in lines if "@package" not in line], page)
        bases = "".join(f"Based on `{base}`.\n\n" for base in list_bases(text))
        table = write_table("value", list_option_keys(file).values(), page)
        sections.append(f"### `{option}`\n\n{comment}\n{bases}{table}")
    return "\n".join(sections)


def write_table(column: str, keys: Iterable[Key], page: str) -> str:
    """Return a Markdown table of keys."""
    rows = [
        f"| `{key.name}` | {code(key.value)} | {escape(key.comment, page)} |\n"
        for key in keys
        if key.value or key.comment
    ]
    head = f"| key | {column} | meaning |\n|---|---|---|\n"
    return f"```{{container}} keys\n{head}{''.join(rows)}```\n" if rows else ""


def write_text(lines: Sequence[str], page: str) -> str:
    """Return the lines of a comment or docstring as Markdown.

    Indented commands become code, and lines of two columns (`term  text`) a list.
    """
    output = ""
    for has_layout, group in groupby(lines, lambda line: bool(LAYOUT.search(line))):
        block = dedent("\n".join(group))
        if not has_layout:
            output += f"{escape(block, page)}\n"
        elif COMMAND.match(block):
            output += f"\n```text\n{block}\n```\n\n"
        else:
            output += f"\n{write_list(block.splitlines(), page)}\n\n"
    return output


def write_list(lines: Sequence[str], page: str) -> str:
    """Return lines `term  text`, and the indented lines that continue them, as a Markdown list."""
    has_columns = any(COLUMNS.match(line) for line in lines)
    output = []
    for line in lines:
        columns = COLUMNS.match(line)
        text = escape(columns[2] if columns else line.strip(), page)
        bullet = "- " if has_columns and not line.startswith(" ") else "  " * has_columns
        output.append(f"{bullet}{f'**{escape(columns[1], page)}**: ' if columns else ''}{text}")
    return "\n".join(output)


def code(value: str) -> str:
    """Return a value as code in a Markdown table."""
    return f"`{value}`".replace("|", r"\|") if value else ""


def escape(text: str, page: str) -> str:
    """Return plain text as Markdown, with its code in backticks and links to the pages it names."""

    def write(part: str) -> str:
        if part.startswith("docs/"):
            return f"[{part}]({relpath(DOCS.parent / part, (DOCS / page).parent)})"
        return part if part.startswith("`") else re.sub(r"([\\*_<>|\[\]~])", r"\\\1", part)

    return "".join(map(write, re.split(r"(`[^`]*`|docs/[\w/]+\.md)", text)))


def expand(page: str, text: str) -> str:
    """Return the Markdown of a page with its markers replaced."""
    return MARKER.sub(
        lambda marker: write_options(marker[2], page) if marker[2] else write_commands(page), text
    )


def read_source(app: "Sphinx", page: str, source: list[str]) -> None:
    """Replace the markers of a page that Sphinx reads."""
    if MARKER.search(source[0]):
        source[0] = expand(page, source[0])
        for file in [*conf_dir().rglob("*.yaml"), Path(__file__)]:
            app.env.note_dependency(file)


def setup(app: "Sphinx") -> dict[str, bool]:
    """Add the handler."""
    app.connect("source-read", read_source)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
