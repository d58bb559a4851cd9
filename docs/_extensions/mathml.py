"""Formulas as MathML, which browsers draw without a script."""

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)


def write_formula(translator: HTML5Translator, node: nodes.Element) -> None:
    """Write a formula, in a line or as a block; warn if it has an unknown command."""
    is_block = isinstance(node, nodes.math_block)
    try:
        formula = str(tex2mathml(node.astext(), as_block=is_block))
    except MathError as error:
        logger.warning("formula %s: %s", node.astext(), error, location=node)
        raise nodes.SkipNode from error
    translator.body.append(f'<div class="math">{formula}</div>\n' if is_block else formula)
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the renderer `mathml`."""
    app.add_html_math_renderer("mathml", (write_formula, None), (write_formula, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
