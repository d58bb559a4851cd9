import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def run_script(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    one_thread: None,
) -> Callable[..., str]:
    """Runs a script as `python SCRIPT ARGUMENTS` in an empty folder, without another import of torch.

    Returns what it prints. Modules beside the script are imported again by each call.
    """
    monkeypatch.chdir(tmp_path)

    def run(script: Path, *arguments: object) -> str:
        monkeypatch.syspath_prepend(script.parent)
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        for file in script.parent.glob("*.py"):
            monkeypatch.delitem(sys.modules, file.stem, raising=False)
        capsys.readouterr()
        runpy.run_path(str(script), run_name="__main__")
        for file in script.parent.glob("*.py"):
            sys.modules.pop(file.stem, None)
        return capsys.readouterr().out

    return run
