"""Sphinx's configuration of the documentation site, which `make docs` builds."""

import os
import sys
from pathlib import Path

from realsr import __version__
from realsr.config.options import conf_dir

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "realsr"
author = "The realsr developers"
copyright = f"2026, {author}"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "configuration",
    "docstrings",
    "mathml",
    "repository_links",
]
exclude_patterns = ["_extensions"]
nitpicky = True
# Types of other packages are names without links, since the build makes no request.
nitpick_ignore_regex = [
    ("py:.*", r"(?!realsr\.).*"),
    (
        "py:.*",
        r"realsr\.(config\.schema|data\.cache|imaging\.jpeg|noise\.noise_config|noise\.noise_fit)\..*",
    ),
]

# Links to files outside docs/ lead to the checkout, or to this address, e.g. .../blob/main.
repository_root = str(conf_dir().parent)
repository_url = os.environ.get("REPOSITORY_URL", "")

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
# Notebooks are shown as they are committed; `-D nb_execution_mode=auto` runs those without outputs.
nb_execution_mode = "off"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_ipywidgets_js = {}

default_role = "code"  # a name in backticks in a docstring
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
add_module_names = False

smartquotes_action = "D"  # dashes alone, which stand between a parameter and its text
html_theme = "furo"
html_title = "realsr"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"
copybutton_exclude = ".linenos, .gp, .go"
pygments_style = "friendly"
pygments_dark_style = "monokai"
highlight_language = "none"  # of indented blocks: commands, trees and outputs
