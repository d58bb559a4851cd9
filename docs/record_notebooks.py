"""Execute the notebooks of the documentation and store their outputs in them.

    python docs/record_notebooks.py [NOTEBOOK…]

Run it after a change of a notebook's code or of what its figures show. A hash of the code cells is
stored with the outputs, and `tests/test_notebooks.py` fails if code and outputs do not belong
together. It needs the extra `dev`.
"""

import base64
import copy
import hashlib
import io
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbclient
import nbformat
from PIL import Image

DOCS = Path(__file__).parent
NOTEBOOKS = sorted(DOCS.rglob("*.ipynb"))
MAX_BYTES = 600_000
TIMEOUT = 300  # seconds for a cell
DURATION = re.compile(r"\b\d+(\.\d+)? ?(ms|s|min|h)\b(?=[ ,.)]|$)", re.MULTILINE)


def execute(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Return a notebook with the outputs of its execution in an empty folder."""
    fresh = copy.deepcopy(notebook)
    client = nbclient.NotebookClient(
        fresh, timeout=TIMEOUT, resources={"metadata": {"path": str(folder)}}
    )
    return client.execute()


def hash_sources(notebook: nbformat.NotebookNode) -> str:
    """Return the SHA-256 of the sources of the code cells, in order."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()


def list_kinds(cell: nbformat.NotebookNode) -> list[tuple[str, ...]]:
    """Return the kind of each output of a code cell: its type and its kinds of media, in order."""
    kinds: list[tuple[str, ...]] = []
    for output in cell.outputs:
        media = {name.partition("/")[0] for name in output.get("data", {})}
        if "image" in media:
            media = {"image"}
        kind = (output.output_type, *sorted(media))
        if kinds[-1:] != [("stream",)] or kind != ("stream",):  # timing decides how it is divided
            kinds.append(kind)
    return kinds


def record(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Return an executed notebook without what changes from one execution to the next.

    Left out: messages and warnings (stderr), which depend on the installation, counts, times, paths.
    """
    result = copy.deepcopy(notebook)
    for cell in result.cells:
        cell.metadata = nbformat.NotebookNode()
        if cell.cell_type != "code":
            continue
        cell.execution_count = None
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = None
            if output.output_type == "stream":
                output.text = clean(output.text, folder)
            elif "data" in output:
                output.metadata = nbformat.NotebookNode()
                output.data = shrink(output.data, folder)
    result.metadata = nbformat.from_dict(
        {
            "kernelspec": notebook.metadata.kernelspec,
            "language_info": {"name": "python"},
            "recorded": {"sources": hash_sources(notebook)},
        }
    )
    return result


def clean(text: str, folder: Path) -> str:
    """Return a text without durations and without the folder of the execution."""
    return DURATION.sub("… \\2", text.replace(f"{folder}/", "").replace(str(folder), "."))


def shrink(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the data of an output, an image as JPEG or as PNG of 256 colours, the smaller one.

    The text that stands for a figure (its size) is left out.
    """
    if "image/png" not in data:
        return {
            name: clean(value, folder) if isinstance(value, str) else value
            for name, value in data.items()
        }
    image = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
    jpeg, png = io.BytesIO(), io.BytesIO()
    image.save(jpeg, "jpeg", quality=88, subsampling=0, optimize=True)
    image.quantize(256).save(png, "png", optimize=True)
    kind, content = min([("png", png), ("jpeg", jpeg)], key=lambda item: len(item[1].getvalue()))
    return {f"image/{kind}": base64.b64encode(content.getvalue()).decode()}


def main(names: list[str]) -> None:
    """Record the notebooks of these paths, by default all."""
    for path in [Path(name).resolve() for name in names] or NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name).resolve()
            result = record(execute(notebook, folder), folder)
        text = nbformat.writes(result, indent=1) + "\n"
        if len(text.encode()) > MAX_BYTES:
            sys.exit(f"{path}: {len(text.encode())} bytes; expected at most {MAX_BYTES}")
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(DOCS.resolve())}: {len(text.encode()) // 1000} kB\n")


if __name__ == "__main__":
    main(sys.argv[1:])
