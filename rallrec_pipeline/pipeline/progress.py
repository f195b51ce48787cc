"""Progress of long stages: a bar in the terminal, and a line in the run's log every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

LOG_EVERY_S = 20.0
BAR_EVERY_S = 0.5
BAR_WIDTH = 28


class Reporter:
    """Turns (done, total) into a bar with rate and time left; made anew for each stretch of work."""

    def __init__(self, what: str, log: Callable[[str], None], bar: bool | None = None) -> None:
        self.what, self.log = what, log
        self.bar = sys.stderr.isatty() if bar is None else bar
        self.start = self.logged = self.drawn = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        clock = time.monotonic()
        finished = done >= total
        if self.bar and (finished or clock - self.drawn >= BAR_EVERY_S):
            self.drawn = clock
            filled = BAR_WIDTH * done // max(1, total)
            line = f"\r  {self.what} [{'█' * filled}{'·' * (BAR_WIDTH - filled)}] {self._state(done, total, clock)}"
            print(f"{line:<110}", end="\n" if finished else "", file=sys.stderr, flush=True)
        if clock - self.logged >= LOG_EVERY_S:
            self.logged = clock
            self.log(f"{self.what}: {self._state(done, total, clock)}")

    def _state(self, done: int, total: int, clock: float) -> str:
        elapsed = max(clock - self.start, 1e-9)
        rate = done / elapsed
        left = (total - done) / rate if rate > 0 else 0.0
        return f"{done:,}/{total:,} · {rate:,.1f}/s · {left:,.0f} s left"
