"""Progress of long stages: a bar in the terminal, and a line in the run's log every few seconds."""

from __future__ import annotations

import sys
import time
import weakref
from collections import deque
from collections.abc import Callable
from functools import cache, cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # rich loads where a bar is drawn: the definitions, which draw none, load sooner
    from rich.console import Console
    from rich.progress import Progress

LOG_EVERY_S = 20.0
WINDOW_S = 120.0
"""Speed is that of the last so many seconds: loading is no work, and a machine may get busy."""
SURE_AT = 0.02
"""Share of the work, from which on the time left is told."""


class Reporter:
    """Turns (done, total) into a bar with rate and time left; made anew for each stretch of work."""

    def __init__(self, what: str, log: Callable[[str], None], bar: bool | None = None) -> None:
        self.what, self.log = what, log
        self.bar = sys.stderr.isatty() if bar is None else bar
        self.logged = time.monotonic()
        self._seen: deque[tuple[float, int]] = deque()

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
        """What is done; the speed where it is known, and the time left where enough is done to tell it."""
        if not self._seen or done > self._seen[-1][1]:
            self._seen.append((clock, done))
        while len(self._seen) > 2 and self._seen[1][0] <= clock - WINDOW_S:
            self._seen.popleft()
        began, before = self._seen[0]
        # Where nothing was done for long, the pause counts.
        rate = (done - before) / max(clock - began, 1e-9)
        if rate <= 0:
            return f"{done:,}/{total:,}"
        known = f"{done:,}/{total:,} · {speed(rate)}"
        return f"{known} · {(total - done) / rate:,.0f} s left" if done >= SURE_AT * total else known


def speed(rate: float) -> str:
    """`12.3/s`, or `4.5/min` where that is less than one in two seconds."""
    return f"{rate:,.1f}/s" if rate >= 0.5 else f"{rate * 60:,.1f}/min"


@cache
def _terminal() -> Console:
    """One for all bars, so that a bar within another is drawn below it."""
    from rallrec_pipeline.terminal import PlainConsole

    return PlainConsole(stderr=True)
