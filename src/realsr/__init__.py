"""Real-world super-resolution via kernel estimation and noise injection."""

import os
import signal
import sys

# Threads that spin long while they wait make small steps up to 40 times slower as soon as another program wants the
# same cores; threads that sleep at once make them a third slower on idle ones. A short spin costs neither much.
# OpenMP reads this once, when torch is loaded, so it stands here.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# While `python -m realsr.<command>` imports, which takes seconds, there is nothing to save: Ctrl-C ends the process at
# once and without a traceback. `run_command` takes the signal back.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

__version__ = "0.1.0"
