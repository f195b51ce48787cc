"""Several forward passes at a time on a CPU, each with threads of its own.

The threads of one pass wait for each other at every layer. Where other programs share the cores, all of them wait for
the one whose core is taken: beside two busy programs on one of two cores, scoring fell to a twentieth of its speed.
Passes side by side do not wait for each other, so a run loses its share of the cores and no more (docs/engines.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from threading import Barrier
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

PASSES = 8  # at a time, at the most
WRITERS = 2  # batches of texts that are written at a time: each holds keys and values of all its texts
AHEAD = 2  # passes that are given out for each worker before the first result is taken


class Workers:
    """Threads that make forward passes without gradients; the caller's thread does everything else."""

    def __init__(self, device: torch.device, most: int) -> None:
        """Up to `most` workers, which share the threads that torch has; one on a GPU, where passes are not cut up."""
        threads = torch.get_num_threads()
        self.count = min(threads, most) if device.type == "cpu" else 1
        self.threads = threads // self.count

    def map(self, compute: Callable[[T], R], parts: Iterable[T]) -> Iterator[R]:
        """What `compute` makes of each part, in order. Call it, and iterate over it, without gradients."""
        if self.count == 1:
            yield from map(compute, parts)
            return
        waiting: deque[Future[R]] = deque()
        try:
            for part in parts:
                waiting.append(self._pool.submit(_without_gradients, compute, part))
                if len(waiting) == AHEAD * self.count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # after an error, or when nobody asks for the rest
            for future in waiting:
                future.cancel()

    def call(self, compute: Callable[[], R]) -> R:
        """What `compute` returns, by a worker; calls may come from several threads."""
        return next(self.map(lambda _: compute(), (None,)))

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        """All workers are started at once: what one sets, torch would give to every thread that comes later."""
        before, started = torch.get_num_threads(), Barrier(self.count)
        pool = ThreadPoolExecutor(self.count, "pass", _set_threads, (self.threads,))
        for future in [pool.submit(started.wait) for _ in range(self.count)]:
            future.result()
        torch.set_num_threads(before)
        return pool


def _set_threads(threads: int) -> None:
    torch.get_num_threads()  # the first call in a thread sets its number, and would do so later
    torch.set_num_threads(threads)


def _without_gradients(compute: Callable[[T], R], part: T) -> R:
    with torch.inference_mode():  # is said of a thread
        return compute(part)
