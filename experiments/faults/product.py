"""Run the commands of the product in forks of this process, which has imported it once."""

import atexit
import contextlib
import importlib
import json
import os
import random
import runpy
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from file_hook import Fault, FileHook

COMMANDS = (
    "estimate_kernels",
    "collect_noise",
    "make_pairs",
    "train",
    "evaluate",
    "upscale",
    "export",
    "check_data",
)
# Late imports of commands, which each fork would otherwise repeat.
LIBRARIES = (
    "torch.utils.tensorboard", "torch._dynamo", "torch._inductor.standalone_compile", "torch.onnx", "scipy.io",
    "matplotlib.figure", "PIL.BmpImagePlugin", "PIL.GifImagePlugin", "PIL.JpegImagePlugin", "PIL.PpmImagePlugin",
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher", "hydra_plugins.hydra_submitit_launcher.submitit_launcher",
    "antlr4", "omegaconf",
)  # fmt: skip
TIMEOUT = 60.0


@dataclass
class Run:
    """The end of a command.

    code: its exit code; for a signal the negative number. lines: what it wrote to stderr and stdout, without empty
    lines. log: the lines of its file hook.
    """

    command: str
    code: int | None
    text: str
    seconds: float
    hung: bool = False
    log: list[dict[str, Any]] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        return [line.strip() for line in self.text.splitlines() if line.strip()]

    @property
    def last(self) -> str:
        return self.lines[-1] if self.lines else ""

    @property
    def end(self) -> dict[str, Any]:
        """The last line and the exit code, for the notes of a trial."""
        return {"said": self.last[:500], "code": self.code}

    @property
    def operations(self) -> list[dict[str, Any]]:
        return [line for line in self.log if "n" in line]

    @property
    def traceback(self) -> bool:
        return (
            "Traceback (most recent call last)" in self.text or "--- Logging error ---" in self.text
        )


def set_environment(source: Path, scratch: Path) -> None:
    """Set the environment of libraries, before NumPy and torch are imported."""
    os.environ |= {
        "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(source), "MPLCONFIGDIR": str(scratch / "matplotlib"), "CUDA_VISIBLE_DEVICES": "",
        "TQDM_DISABLE": "0", "PYTHONWARNINGS": "ignore::RuntimeWarning:runpy",
    }  # fmt: skip
    os.environ.pop("HYDRA_FULL_ERROR", None)
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(source))


def import_product(source: Path) -> None:
    """Import the product; raise SystemExit if it is not the one in `source`."""
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for name in COMMANDS:
        module = importlib.import_module(f"realsr.{name}")
        if not str(module.__file__).startswith(str(source)):
            raise SystemExit(
                f"--source {source}: realsr.{name} was imported from {module.__file__}"
            )
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise SystemExit("the product starts threads when it is imported: a fork would lack them")


class RunningCommand:
    """A command that runs in a fork of this process, in a new session."""

    def __init__(
        self,
        command: str,
        arguments: tuple[str, ...],
        here: Path,
        folder: Path,
        root: Path,
        environment: Mapping[str, str],
        sentinels: frozenset[str] = frozenset(),
        fault: Fault | None = None,
        prelude: Callable[[], None] | None = None,
    ) -> None:
        folder.mkdir(parents=True)
        (folder / "old").mkdir()
        (folder / "command").write_text(" ".join([f"python -m realsr.{command}", *arguments]))
        self.command = f"realsr.{command}"
        self._folder, self.began = folder, time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid:
            return
        code = 70
        try:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(
                signal.SIGINT, signal.default_int_handler
            )  # a shell's background job would ignore it
            os.chdir(here)
            os.environ |= environment
            tempfile.tempdir = None  # cached by this process
            random.seed(0)  # otherwise the state in checkpoints differs between processes
            _redirect(folder / "output")
            if prelude is not None:
                prelude()
            FileHook(here, root, folder / "log", folder / "old", sentinels, fault).install()
            code = _call(command, arguments)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def signal(self, number: int) -> None:
        """Send a signal to the command, not to its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, timeout: float = TIMEOUT) -> Run:
        """Wait for the end; after `timeout` seconds the command is killed and counts as hung."""
        status, hung = None, False
        while status is None:
            pid, value = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                status = value
            elif time.monotonic() - self.began > timeout and not hung:
                hung = True
                self._kill_all()
            else:
                time.sleep(0.004)
        seconds = time.monotonic() - self.began
        self._kill_all()
        code = None if hung else os.waitstatus_to_exitcode(status)
        text = (self._folder / "output").read_text(errors="replace")
        return Run(self.command, code, text, seconds, hung, self.read_log())

    def read_log(self) -> list[dict[str, Any]]:
        """Return the lines of the file hook's log so far."""
        log = self._folder / "log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def _kill_all(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def _redirect(output: Path) -> None:
    """Redirect stdout and stderr of this process to a file, and empty stdin."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for target, number in ((null, 0), (file, 1), (file, 2)):
        os.dup2(target, number)
    sys.stdin, sys.stdout, sys.stderr = map(os.fdopen, (0, 1, 2), "rww")


def _call(command: str, arguments: tuple[str, ...]) -> int:
    """Run `python -m realsr.COMMAND ARGUMENTS`, including its exit; return the exit code."""
    sys.argv = [f"realsr.{command}", *arguments]
    sys.modules.pop(f"realsr.{command}", None)
    code = 0
    try:
        runpy.run_module(f"realsr.{command}", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            sys.stderr.write(end.code + "\n")
    except KeyboardInterrupt:
        traceback.print_exc()
        code = 130
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    return code
