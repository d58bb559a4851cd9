"""The folder of an export: what earlier ones left there, and the new files in the making."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from realsr.core.file_lock import hold_lock
from realsr.core.file_names import utf8_path
from realsr.deployment.formats import FORMATS, METHODS

UNFINISHED = ".unfinished"  # one name, so that what a killed export leaves is found by the next
TABLES = ("table.json", "table.md", "sensitivity.png")


def list_exported(folder: Path) -> list[Path]:
    """Return the files of a folder that have the names of an export's; none where there is no folder."""
    stems = {*FORMATS, *(f"onnx_int8_{method}" for method in METHODS)}
    networks = {f"{stem}{suffix}" for stem in stems for suffix in (".onnx", ".xml", ".bin", ".param")}
    return sorted(path for path in folder.glob("*") if path.name in networks.union(TABLES))


@contextmanager
def unfinished(output: Path) -> Iterator[Path]:
    """A folder inside `output` for files in the making, which are lost unless they are moved.

    `output` is made if need be, and goes again if an error leaves nothing in it. Raises UserError where another process
    exports into it.
    """
    new = not output.exists()
    output.mkdir(parents=True, exist_ok=True)
    advice = "Wait until it ends, stop it, or set another output."
    try:
        with hold_lock(output / ".export.lock", f"{output}: export", wait=False, advice=advice):
            folder = output / UNFINISHED
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            try:
                with utf8_path(folder) as path:
                    yield path
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except BaseException:
        if new and not any(output.iterdir()):
            output.rmdir()
        raise
