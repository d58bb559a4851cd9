"""Real-world super-resolution via kernel estimation and noise injection."""

__version__ = "0.1.0"
