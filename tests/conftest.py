"""Imported before any test: realsr sets how OpenMP waits, which must precede torch."""

import realsr  # noqa: F401
