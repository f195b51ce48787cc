"""Long lists are worked off in chunks: what is finished can be stored, and several engines can be kept busy.

How a list is cut depends on nothing but the list, and a chunk is computed on its own. So results are the same whether
one engine works or many do, and after a run that was broken off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

from rallrec_pipeline.language_models.protocols import Progress, part_of

LOOK_EVERY_S = 1.0  # at how far chunks in work have come

T = TypeVar("T")
R = TypeVar("R")


def calls_at_once(engine: object) -> int:
    """How many calls an engine can work on at a time: those of several models (`ray_engine.py`) say so."""
    return int(getattr(engine, "calls_at_once", 1))


def writes_at_once(engine: object) -> int:
    """How many batches of texts it can write at a time; one that scores and encodes call by call may write several."""
    return int(getattr(engine, "writes_at_once", calls_at_once(engine)))


def in_chunks(
    work: Callable[[Sequence[T], Progress | None], R],
    rows: Sequence[T],
    size: int,
    at_once: int = 1,
    progress: Progress | None = None,
    enough: Callable[[], bool] = lambda: False,
) -> Iterator[R]:
    """What `work` makes of each chunk of `rows`, as they are finished; `at_once` chunks are in work at a time.

    `work` gets the chunk and a progress of its own. When there is `enough`, and after an error, no further chunk is
    begun and those in work are still given out; then the error is raised.
    """
    report = _Reported(progress)
    starts = range(0, len(rows), size)
    if at_once == 1:
        for start in starts:
            if enough():
                return
            chunk = rows[start : start + size]
            yield work(chunk, part_of(report, start, len(rows)))
            report(start + len(chunk), len(rows))
        return
    chunks = (rows[start : start + size] for start in starts)
    yield from _side_by_side(work, chunks, at_once, enough, lambda done: report(done, len(rows)))


class _Part:
    """How far a chunk in work has come; its thread writes this, and the caller's reads it."""

    def __init__(self, rows: int) -> None:
        self.rows, self.done = rows, 0

    def __call__(self, done: int, total: int) -> None:
        self.done = done


def _side_by_side(
    work: Callable[[Sequence[T], Progress | None], R],
    chunks: Iterator[Sequence[T]],
    at_once: int,
    enough: Callable[[], bool],
    report: Callable[[int], None],
) -> Iterator[R]:
    """The result of each chunk; `work` runs in threads, everything else in the caller's, `report` of all rows too."""
    pool = ThreadPoolExecutor(at_once, "chunk")
    running: dict[Future[R], _Part] = {}
    failure: BaseException | None = None
    finished = 0
    try:
        while True:
            if failure is None and not enough():
                for chunk in islice(chunks, at_once - len(running)):
                    part = _Part(len(chunk))
                    running[pool.submit(work, chunk, part)] = part
            if not running:
                break
            for future in wait(running, LOOK_EVERY_S, FIRST_COMPLETED).done:
                part, error = running.pop(future), future.exception()
                if error is None:
                    yield future.result()
                    finished += part.rows
                failure = failure or error
            report(finished + sum(part.done for part in running.values()))
    finally:
        # After Ctrl-C nobody waits here for calls under way: they end when their engine is closed.
        pool.shutdown(wait=False, cancel_futures=True)
    if failure is not None:
        raise failure


class _Reported:
    """Progress that says nothing twice."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress, self.last = progress, -1

    def __call__(self, done: int, total: int) -> None:
        if self.progress is not None and done != self.last:
            self.last = done
            self.progress(done, total)
