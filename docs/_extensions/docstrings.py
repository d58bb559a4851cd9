"""Docstrings and signatures for autodoc.

Lines `name: text` of a docstring become a list. The signature of a command's function shows that it
takes a configuration or keys.
"""

import re
from typing import Any

from sphinx.application import Sphinx

ITEM = re.compile(r"(\w+(?:, \w+)*): (.*)")
SECTIONS = ("Args", "Returns", "Raises", "Yields")


def list_items(lines: list[str]) -> list[str]:
    """Return lines in which each paragraph that starts with `name: text` is a list of such items."""
    output: list[str] = []
    inside = False  # a paragraph of items
    for line in lines:
        item = ITEM.match(line)
        starts = not output or not output[-1]
        inside = bool(line) and (inside or (starts and item is not None))
        if inside and item:
            output += [""] * (not starts) + [f"- **{item[1]}**: {item[2]}"]
        elif inside:
            output.append(f"  {line.strip()}")
        else:
            output.append(line)
    return output


def process_docstring(
    app: Sphinx, kind: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Replace the lines of a docstring."""
    lines[:] = list_items([line.replace("|", r"\|") for line in lines])


def process_signature(
    app: Sphinx, kind: str, name: str, value: Any, options: Any, signature: str, returns: str
) -> tuple[str, str] | None:
    """Return the signature of a function that `takes_keys` decorates."""
    config = re.fullmatch(r"\(config: [~\w.]+\.(\w+)\)", signature or "")
    return (f"(config: {config[1]} | None = None, /, **keys)", returns) if config else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the handlers; that of docstrings runs before Napoleon's."""
    app.connect("autodoc-process-docstring", process_docstring, priority=100)
    app.connect("autodoc-process-signature", process_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
