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

T = TypeVar("T")
R = TypeVar("R")


def calls_at_once(engine: object) -> int:
    """How many calls an engine can work on at a time: those of several models (`ray_engine.py`) say so."""
    return int(getattr(engine, "calls_at_once", 1))


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
    done = 0
    for count, result in _side_by_side(work, (rows[start : start + size] for start in starts), at_once, enough):
        yield result
        done += count
        report(done, len(rows))


def _side_by_side(
    work: Callable[[Sequence[T], Progress | None], R],
    chunks: Iterator[Sequence[T]],
    at_once: int,
    enough: Callable[[], bool],
) -> Iterator[tuple[int, R]]:
    """(rows, result) of each chunk; `work` runs in threads, everything else in the caller's."""
    pool = ThreadPoolExecutor(at_once, "chunk")
    running: dict[Future[R], int] = {}
    failure: BaseException | None = None
    try:
        while True:
            if failure is None and not enough():
                running |= {pool.submit(work, c, None): len(c) for c in islice(chunks, at_once - len(running))}
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                count, error = running.pop(future), future.exception()
                if error is None:
                    yield count, future.result()
                failure = failure or error
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
