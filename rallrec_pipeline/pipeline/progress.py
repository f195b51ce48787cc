"""Progress of long stages: a bar in the terminal, and a line in the run's log every few seconds."""

from __future__ import annotations

import sys
import time
import weakref
from collections.abc import Callable
from functools import cache, cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # rich loads where a bar is drawn: the definitions, which draw none, load sooner
    from rich.console import Console
    from rich.progress import Progress

LOG_EVERY_S = 20.0


class Reporter:
    """Turns (done, total) into a bar with rate and time left; made anew for each stretch of work."""

    def __init__(self, what: str, log: Callable[[str], None], bar: bool | None = None) -> None:
        self.what, self.log = what, log
        self.bar = sys.stderr.isatty() if bar is None else bar
        self.start = self.logged = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        clock = time.monotonic()
        state = self._state(done, total, clock)
        if self.bar:
            self._drawn.update(self._drawn.task_ids[0], completed=done, total=total, state=state)
            if done >= total:
                self._drawn.stop()
        if clock - self.logged >= LOG_EVERY_S:
            self.logged = clock
            self.log(f"{self.what}: {state}")

    @cached_property
    def _drawn(self) -> Progress:
        """The bar, which is taken off the terminal with this reporter where the work is broken off."""
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
        drawn = Progress(*columns, console=_terminal(), refresh_per_second=2)
        drawn.add_task(self.what, state="")
        drawn.start()
        weakref.finalize(self, drawn.stop)
        return drawn

    def _state(self, done: int, total: int, clock: float) -> str:
        elapsed = max(clock - self.start, 1e-9)
        rate = done / elapsed
        left = (total - done) / rate if rate > 0 else 0.0
        return f"{done:,}/{total:,} · {rate:,.1f}/s · {left:,.0f} s left"


@cache
def _terminal() -> Console:
    """One for all bars, so that a bar within another is drawn below it."""
    from rallrec_pipeline.terminal import PlainConsole

    return PlainConsole(stderr=True)
