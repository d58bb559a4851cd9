"""Progress of long work with the time left: a bar on a terminal, a line now and then elsewhere."""

import logging
import sys
import time
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

logger = logging.getLogger("realsr")

INTERVAL = 20.0  # seconds between two lines off a terminal


class Progress:
    """A counter of done items; use it in a `with` and call `advance`.

    Args:
        title: what is being done, e.g. "kernels".
        total: the number of items.
        done: the number of items that an earlier run has done.
        silent: show nothing, since another process does.
    """

    def __init__(self, title: str, total: int, done: int = 0, silent: bool = False):
        self.title, self.total, self.count = title, total, done
        self._first, self._note, self._silent = done, "", silent
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=title,
            disable=silent or None,
            file=sys.stderr,
            dynamic_ncols=True,
        )
        self._redirect = logging_redirect_tqdm()

    def __enter__(self) -> "Progress":
        self._start = self._logged = time.monotonic()
        if not self._bar.disable:
            self._redirect.__enter__()
        elif self.count == self.total and not self._silent:
            logger.info("%s: %d of %d, done before", self.title, self.count, self.total)
        return self

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Count items as done; `note` is shown beside the count, e.g. the loss."""
        self.count += steps
        if note is not None:
            self._note = f"  {note}"
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(steps)
        now = time.monotonic()
        if (
            self._bar.disable
            and not self._silent
            and (now - self._logged >= INTERVAL or self.count == self.total)
        ):
            self._logged = now
            logger.info(self._line(now - self._start))

    def _line(self, elapsed: float) -> str:
        times = f"{tqdm.format_interval(elapsed)} elapsed"
        if self.count < self.total:
            left = elapsed / max(self.count - self._first, 1) * (self.total - self.count)
            times += f", {tqdm.format_interval(left)} left"
        return f"{self.title}: {self.count} of {self.total}, {times}{self._note}"

    def __exit__(self, *details: Any) -> None:
        self._bar.close()
        if not self._bar.disable:
            self._redirect.__exit__(*details)
