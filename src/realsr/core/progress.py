"""Progress with remaining time: a bar on a terminal, log lines at intervals elsewhere."""

import logging
import sys
import time
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

logger = logging.getLogger("realsr")

INTERVAL = 20.0  # seconds between two log lines


class Progress:
    """A counter of finished items; use it in a `with` block and call `advance`.

    Args:
        title: the name of the work, e.g. "kernels".
        total: the number of items.
        done: the number of items that an earlier run finished.
        silent: show nothing, because another process shows the progress.
        percent: the items are percents, so that log lines need no total.
    """

    def __init__(
        self, title: str, total: int, done: int = 0, silent: bool = False, percent: bool = False
    ):
        self.title, self.total, self.count, self._percent = title, total, done, percent
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
        self._start = self._last_log = time.monotonic()
        if not self._bar.disable:
            self._redirect.__enter__()
        elif self.count == self.total and not self._silent:
            logger.info("%s: %d of %d, already done", self.title, self.count, self.total)
        return self

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Add finished items; `note`, e.g. the loss, is shown beside the count."""
        self.count += steps
        if note is not None:
            self._note = f": {note}"
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(steps)
        now = time.monotonic()
        is_due = now - self._last_log >= INTERVAL or self.count == self.total
        if is_due and self._bar.disable and not self._silent:
            self._last_log = now
            logger.info(self._line(now - self._start))

    def _line(self, seconds: float) -> str:
        times = f"{tqdm.format_interval(seconds)} elapsed"
        if self.count < self.total:
            seconds_per_item = seconds / max(self.count - self._first, 1)
            remainder = seconds_per_item * (self.total - self.count)
            times += f", {tqdm.format_interval(remainder)} left"
        count = f" {self.count} %" if self._percent else f": {self.count} of {self.total}"
        return f"{self.title}{count}, {times}{self._note}"

    def __exit__(self, *details: Any) -> None:
        self._bar.close()
        if not self._bar.disable:
            self._redirect.__exit__(*details)
