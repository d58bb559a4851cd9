"""Links of pages to files outside docs/, and links to pages by their file name.

Relative links work in the repository's own view of a page. In the site, a link to a file outside
docs/ leads to `repository_url` or, if that is empty, to the file in the checkout. If the text of a
link is the file name of a page, its text in the site is the title of the page or section.
"""

import os
from pathlib import Path, PurePosixPath

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]


def replace_links(app: Sphinx, document: nodes.document) -> None:
    """Replace the links of a page."""
    page = app.env.docname
    url = app.config.repository_url or os.path.relpath(ROOT, (app.outdir / page).parent)

    def link(node: nodes.Element, file: str, anchor: str = "") -> None:
        target = f"{url}/{Path(file).relative_to(ROOT).as_posix()}{anchor}"
        node.replace_self(nodes.reference("", "", *node.children, refuri=target))

    for node in list(document.findall(addnodes.pending_xref)):
        if node.get("reftype") != "myst" or node["refdomain"] != "doc":
            continue
        name, anchor = node["reftarget"], node["reftargetid"]
        if Path(name).is_absolute():  # a page outside docs/
            link(node, f"{name}.md", f"#{anchor}" if anchor else "")
        elif PurePosixPath(node.astext()).stem == PurePosixPath(name).name:
            node["refexplicit"] = False
    for node in list(document.findall(addnodes.download_reference)):
        link(node, app.env.relfn2path(node["reftarget"], page)[1])


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the setting, and the handler before that which copies downloads."""
    app.add_config_value("repository_url", "", "env")
    app.connect("doctree-read", replace_links, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
