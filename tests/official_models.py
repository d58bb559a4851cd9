"""The published generators, which not every machine has."""

from collections.abc import Callable

Published = Callable[[str], str]
"""Takes a published model's name and returns it, or skips the test where its file is not here."""
