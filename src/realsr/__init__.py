"""Real-world super-resolution via kernel estimation and noise injection."""

import os
import signal
import sys
from pathlib import Path

# OpenMP threads spin while they wait for each other. If another program takes the core of one of
# them, the others spin until it gets its core back: see experiments/benchmarks/busy.py. Without
# spinning they sleep. OpenMP reads the variable when torch is loaded, so it is set here.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

# A command imports for seconds and has nothing to save in that time. Ctrl-C then ends the process
# without a traceback. `run_command` restores the handler. The first argument is -m for
# `python -m realsr.<command>`, the path of the script for `realsr <command>`.
_program = Path("".join(sys.argv[:1])).name
if (
    _program in ("-m", "realsr", "realsr.exe")
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, signal.SIG_DFL)

__version__ = "0.1.0"
