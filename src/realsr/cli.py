"""The console script: `realsr COMMAND …` is the same as `python -m realsr.COMMAND …`."""

import os
import sys
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from realsr.api.command import fail, run_command, set_up_logging
from realsr.config.help import write_commands, write_versions
from realsr.config.schema import COMMANDS

_COMPLETION_FLAGS = ("--shell-completion", "-sc")


def main() -> None:
    """Run the command that the first argument names; exit with code 2 if it names none."""
    command, arguments = "".join(sys.argv[1:2]), sys.argv[2:]
    if command in COMMANDS:
        _find_custom_modules()
        # Not `realsr` alone: processes that the command starts import realsr with this name.
        sys.argv = [f"realsr {command}", *arguments]
        run_command(command)
        return
    set_up_logging()
    if command in ("--help", "-h"):
        write_commands()
    elif command == "--version":
        write_versions()
    elif command in _COMPLETION_FLAGS:
        _complete(arguments)
    elif not command:
        write_commands()
        sys.exit(2)
    else:
        matches = get_close_matches(command.replace("-", "_"), COMMANDS, n=1)
        advice = f"did you mean {matches[0]}? " if matches else ""
        fail(f"unknown command {command}: {advice}realsr --help lists the commands", code=2)


def _find_custom_modules() -> None:
    """Let custom components be found in the current folder, as `python -m` does.

    The folder comes last, so that its files cannot replace installed modules.
    """
    if not sys.flags.safe_path:
        with suppress(FileNotFoundError):  # the folder was deleted
            sys.path.append(str(Path.cwd()))


def _complete(arguments: list[str]) -> None:
    """Answer a shell's request for completion, as Hydra does for the command in its line.

    A shell calls `realsr -sc query=SHELL` with the line in COMP_LINE. Until the line has a whole
    command, the answer is the names of the commands.
    """
    action, _, shell = "".join(arguments).partition("=")
    if action not in ("query", "install", "uninstall") or shell not in ("bash", "fish", "zsh"):
        fail("-sc: expected install=SHELL or uninstall=SHELL, SHELL is bash, fish or zsh", code=2)
    line = os.environ.get("COMP_LINE", "")
    program, _, rest = line.lstrip().partition(" ")
    command, space, words = rest.lstrip().partition(" ")
    if action == "query" and not space:
        sys.stdout.write("\n".join(name for name in COMMANDS if name.startswith(command)) + "\n")
    elif command in COMMANDS or action != "query":
        os.environ["COMP_LINE"] = f"{program} {words}"
        sys.argv = ["realsr", "-sc", *arguments]  # Hydra's script completes this name
        run_command(command if action == "query" else "upscale")  # all have the same script
