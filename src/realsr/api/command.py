"""The main function of all commands: configuration, messages and exit code."""

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, cast

from realsr.config.help import write_help, write_versions
from realsr.core.errors import ImageError, Interrupted, UserError, WeightsError
from realsr.core.file_names import printable

if TYPE_CHECKING:
    from omegaconf import DictConfig

logger = logging.getLogger("realsr")


def run_command(name: str) -> None:
    """Compose the configuration from the command line and pass it to `realsr.api.<name>`.

    An error that the user can fix prints its message and exits with code 1; Ctrl-C exits with 130.
    Other exceptions are not caught.
    """
    set_up_logging()
    arguments = sys.argv[1:]
    if {"--help", "-h"}.intersection(arguments):
        write_help(name, arguments)
    elif "--version" in arguments:
        write_versions()
    else:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # see realsr/__init__.py
        _explain_errors(name)


def _explain_errors(name: str) -> None:
    """Run the jobs of a command line; print the errors of Hydra and of the jobs, and exit."""
    # Imported here because Hydra takes longer to import than the help takes to print.
    from hydra.core.global_hydra import GlobalHydra

    from realsr.config.command_line import key_types
    from realsr.config.messages import CONFIG_ERRORS, explain
    from realsr.config.schema import COMMANDS

    command_line, explain_errors = sys.argv, os.environ.get("HYDRA_FULL_ERROR") is None
    try:
        # Otherwise Hydra would print its errors and exit before they are explained below.
        os.environ["HYDRA_FULL_ERROR"] = "1"
        _run_jobs(name)
    except UserError as error:
        fail(str(error))
    except KeyboardInterrupt:
        _exit_interrupted(name)
    except CONFIG_ERRORS as error:
        if not explain_errors:
            raise
        fail(explain(error, COMMANDS[name].schema, key_types(COMMANDS[name].part)))
    except JobFailedError as error:
        message, process = error.args
        if process != os.getpid():  # a launcher may redirect the output of its processes to files
            logger.error("a job failed: %s", message)
        sys.exit(1)
    finally:
        if explain_errors:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        sys.argv = command_line
        GlobalHydra.instance().clear()


def _run_jobs(name: str) -> None:
    """Let Hydra compose the configuration and run the command, or each job of a sweep."""
    import hydra
    from omegaconf import DictConfig

    from realsr.config.command_line import keep_hydra_quiet, quote_arguments, read_paths_as_text
    from realsr.config.composition import register_schemas
    from realsr.config.options import conf_dir
    from realsr.config.run_config import choose_file
    from realsr.config.schema import COMMANDS

    def main(config: DictConfig) -> None:
        """Run one job: the command itself, or one set of values of a sweep."""
        with _record_job(config):
            _run_job(name, config)

    specification = COMMANDS[name]
    register_schemas()
    arguments = quote_arguments(sys.argv[1:], specification.schema, specification.photos)
    sys.argv = [sys.argv[0], *arguments]
    with keep_hydra_quiet(arguments), read_paths_as_text(specification.schema):
        decorate = hydra.main(str(conf_dir()), choose_file(name, arguments), version_base="1.3")
        decorate(main)()


def _run_job(name: str, config: "DictConfig") -> None:
    """Call `realsr.api.<name>` with its part of the configuration, and exit if it fails."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from realsr.config.composition import to_part

    set_up_logging()  # repeated, since with -m a launcher may have started another process
    # Errors are caught here. If they reached Hydra, it would print its overrides first.
    try:
        if HydraConfig.get().job.chdir:
            raise UserError(
                "hydra.job.chdir=true: paths are relative to the folder of the command: remove it"
            )
        overrides = OmegaConf.to_container(HydraConfig.get().overrides.task)
        part = to_part(config, name, cast(list[str], overrides))
        getattr(import_module("realsr.api"), name)(part)
    except (UserError, ImageError, WeightsError) as error:
        _exit_job(str(error))
    except MemoryError:
        _exit_job(
            "out of memory; finished work is kept: set smaller values, or free memory, and repeat"
        )
    except OSError as error:
        _exit_job(
            f"{error}: finished work is kept; free disk space or choose another work_dir, "
            "then repeat the command"
        )
    except Interrupted as interruption:
        fail(str(interruption), interruption.code)
    except KeyboardInterrupt:
        _exit_interrupted(name)


@contextmanager
def _record_job(config: "DictConfig") -> Iterator[None]:
    """Write the record of a sweep's job, which `realsr.report sweep=DIR` reads, to hydra.sweep.dir.

    The folder is temporary unless it is set, see `keep_hydra_quiet`.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        yield
        return
    from realsr.reporting.sweep_page import Job, write_job  # imports torch

    folder, overrides = Path(hydra.runtime.output_dir), OmegaConf.to_container(hydra.overrides.task)
    keys = ("run", "output")  # the folder of a training's or an evaluation's metrics.json
    values = [OmegaConf.select(config, key, throw_on_missing=False) for key in keys]
    result = next((Path(str(value)).expanduser() for value in values if value is not None), None)
    job = Job(hydra.job.num, cast(list[str], overrides), result, None, None)
    start = time.monotonic()
    write_job(folder, job)
    try:
        yield
    except Exception as error:
        reason = str(error.args[0]) if isinstance(error, JobFailedError) else repr(error)
        write_job(folder, replace(job, error=reason, seconds=time.monotonic() - start))
        raise
    write_job(folder, replace(job, seconds=time.monotonic() - start))


class JobFailedError(Exception):
    """One job of a sweep failed (message, process id). Hydra finishes the other jobs first."""


def _exit_job(message: str) -> None:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if HydraConfig.get().mode == RunMode.MULTIRUN:
        logger.error("error: %s", message)
        raise JobFailedError(message, os.getpid())
    fail(message)


def _exit_interrupted(name: str) -> NoReturn:
    from realsr.config.schema import COMMANDS

    fail(f"interrupted; {COMMANDS[name].after_interrupt}", code=130)


class _LineFormatter(logging.Formatter):
    """Formats the message only, and escapes control characters, which a terminal would execute."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).expandtabs().split("\n")))


def set_up_logging() -> None:
    """Log messages to stderr; let stdout escape characters that its encoding lacks."""
    # The encoding of stdout may lack characters of a help text or of a file name.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def fail(message: str, code: int = 1) -> NoReturn:
    """Exit with a code; log the message, unless it is empty, as an error if the code is 1 or 2."""
    if message:
        logger.error("error: %s" if code in (1, 2) else "%s", message)
    sys.exit(code)
