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

LOOK_S = 1.0
"""How often is looked at what chunks in work have done so far."""
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
) -> Iterator[R]:
    """What `work` makes of each chunk of `rows`, as they are finished; `at_once` chunks are in work at a time.

    `work` gets the chunk and a progress of its own. After an error no further chunk is begun, those in work are still
    given out, and then the error is raised.
    """
    report = _Reported(progress)
    starts = range(0, len(rows), size)
    if at_once == 1:
        for start in starts:
            chunk = rows[start : start + size]
            yield work(chunk, part_of(report, start, len(rows)))
            report(start + len(chunk), len(rows))
        return
    done = 0
    under_way: dict[int, int] = {}
    chunks = (rows[start : start + size] for start in starts)
    for count, result in _side_by_side(work, chunks, at_once, under_way):
        if count:
            yield result  # type: ignore[misc]  # of a chunk there is one
        done += count
        report(done + sum(list(under_way.values())), len(rows))  # a copy: threads write to it


def _side_by_side(
    work: Callable[[Sequence[T], Progress | None], R],
    chunks: Iterator[Sequence[T]],
    at_once: int,
    under_way: dict[int, int],
) -> Iterator[tuple[int, R | None]]:
    """(rows, result) of each chunk, and (0, None) now and then, so that what is `under_way` can be told.

    `work` runs in threads, everything else in the caller's: a thread says how much of its chunk is done, and no more.
    """
    pool = ThreadPoolExecutor(at_once, "chunk")
    running: dict[Future[R], tuple[int, int]] = {}
    numbered = enumerate(chunks)
    failure: BaseException | None = None
    try:
        while True:
            if failure is None:
                for number, chunk in islice(numbered, at_once - len(running)):
                    running[pool.submit(work, chunk, _noted(under_way, number))] = number, len(chunk)
            if not running:
                break
            ended = wait(running, timeout=LOOK_S, return_when=FIRST_COMPLETED).done
            if not ended:
                yield 0, None
            for future in ended:
                (number, count), error = running.pop(future), future.exception()
                under_way.pop(number, None)
                if error is None:
                    yield count, future.result()
                failure = failure or error
    finally:
        # After Ctrl-C nobody waits here for calls under way: they end when their engine is closed.
        pool.shutdown(wait=False, cancel_futures=True)
    if failure is not None:
        raise failure


def _noted(under_way: dict[int, int], number: int) -> Progress:
    """Progress of a chunk that only writes down what is done of it."""

    def note(done: int, _: int) -> None:
        under_way[number] = done

    return note


class _Reported:
    """Progress that says nothing twice."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress, self.last = progress, -1

    def __call__(self, done: int, total: int) -> None:
        if self.progress is not None and done != self.last:
            self.last = done
            self.progress(done, total)
