"""How a command's main runs: its configuration, its messages and its exit code."""

import logging
import os
import signal
import sys
from contextlib import ExitStack
from importlib import import_module
from io import TextIOWrapper
from typing import cast

from realsr.config.help import ask_help, write_help
from realsr.core.errors import ImageError, Interrupted, UserError, WeightsError
from realsr.core.file_names import printable

logger = logging.getLogger("realsr")


def run_command(name: str) -> None:
    """Compose the command line's configuration and call `realsr.api`'s function of that name with it.

    A mistake a user can mend ends in its message and exit code 1, Ctrl-C in 130; nothing else is caught.
    """
    _set_up_logging()
    if ask_help(sys.argv[1:]):
        write_help(name, sys.argv[1:])
        return
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # see realsr/__init__.py
    # Hydra takes longer to import than the help to print.
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig, OmegaConf

    from realsr.config.command_line import quote_arguments, read_paths_as_text, sweep_into_temporary
    from realsr.config.composition import register_schemas, to_part
    from realsr.config.messages import CONFIG_ERRORS, explain
    from realsr.config.options import conf_dir
    from realsr.config.schema import COMMANDS

    specification = COMMANDS[name]
    register_schemas()

    def main(config: DictConfig) -> None:
        _set_up_logging()  # once more: with -m a launcher may have started another process
        # Errors are met here, since Hydra would write about its overrides first.
        try:
            if HydraConfig.get().job.chdir:
                raise UserError(
                    "hydra.job.chdir=true: paths are relative to the folder of the command: remove it"
                )
            overrides = OmegaConf.to_container(HydraConfig.get().overrides.task)
            part = to_part(config, name, cast(list[str], overrides))
            getattr(import_module("realsr.api"), name)(part)
        except (UserError, ImageError, WeightsError) as error:
            _leave_job(str(error))
        except MemoryError:
            _leave_job(
                "memory does not suffice; what is done is kept: set smaller values, or free memory, and repeat"
            )
        except OSError as error:
            _leave_job(
                f"{error}: what is done is kept; make room or choose another work_dir, then repeat the command"
            )
        except Interrupted as interrupted:
            _leave(str(interrupted), interrupted.code)
        except KeyboardInterrupt:
            resumption = "what is done is kept, and the same command goes on from there"
            restart = "the same command restarts"
            _leave(f"interrupted; {resumption if specification.resumable else restart}", code=130)

    command_line, own_errors = sys.argv, os.environ.get("HYDRA_FULL_ERROR") is None
    cleanup = ExitStack()
    try:
        arguments = quote_arguments(command_line[1:], specification.whole, specification.photos)
        sys.argv = [command_line[0], *cleanup.enter_context(sweep_into_temporary(arguments))]
        cleanup.enter_context(read_paths_as_text(specification.whole))
        os.environ["HYDRA_FULL_ERROR"] = (
            "1"  # Hydra would print its errors and exit; they are explained below
        )
        hydra.main(config_path=str(conf_dir()), config_name=specification.file, version_base="1.3")(
            main
        )()
    except UserError as error:
        _leave(str(error))
    except CONFIG_ERRORS as error:
        if not own_errors:
            raise
        _leave(explain(error, specification.whole))
    except JobFailedError as error:
        message, process = error.args
        if process != os.getpid():  # a launcher may keep in files what its processes say
            logger.error("a job failed: %s", message)
        sys.exit(1)
    finally:
        if own_errors:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        sys.argv = command_line
        cleanup.close()
        GlobalHydra.instance().clear()


class JobFailedError(Exception):
    """One job of a sweep has failed (reason, process id). Hydra does the others before it ends."""


def _leave_job(message: str) -> None:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if HydraConfig.get().mode == RunMode.MULTIRUN:
        logger.error("error: %s", message)
        raise JobFailedError(message, os.getpid())
    _leave(message)


class _LineFormatter(logging.Formatter):
    """The message alone, in which control characters of file names are escaped: a terminal would obey them."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).expandtabs().split("\n")))


def _set_up_logging() -> None:
    if isinstance(
        sys.stdout, TextIOWrapper
    ):  # whose encoding may lack what a help text or a name of a photo holds
        sys.stdout.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _leave(message: str, code: int = 1) -> None:
    if message:
        logger.error("error: %s" if code == 1 else "%s", message)
    sys.exit(code)
