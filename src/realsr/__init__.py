"""Real-world super-resolution via kernel estimation and noise injection."""

import os

# Threads that spin while they wait make small batched steps up to 40 times slower as soon as another program
# wants the same cores. OpenMP reads this once, when torch is loaded, so it stands here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
