"""Formulas as MathML, which browsers draw without a script."""

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)


def write_formula(translator: HTML5Translator, node: nodes.Element) -> None:
    """Write a formula, in a line or as a block; warn of commands that are not converted."""
    is_block = isinstance(node, nodes.math_block)
    formula = convert(" ".join(node.astext().split()), display="block" if is_block else "inline")
    for command in re.findall(r">(\\\w+)", formula):
        logger.warning("formula %s: unknown command %s", node.astext(), command, location=node)
    translator.body.append(f'<div class="math">{formula}</div>\n' if is_block else formula)
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the renderer `mathml`."""
    app.add_html_math_renderer("mathml", (write_formula, None), (write_formula, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
