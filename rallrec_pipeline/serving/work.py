"""Scoring beside the loop that talks to callers: one thread for the LLM, one for the expert, and a bounded queue.

An answer that nobody waits for any more is given up: before its turn, or between two parts of its work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar, copy_context
from threading import Event
from typing import Any, TypeVar

from rallrec_pipeline.errors import RequestError
from rallrec_pipeline.settings import ServingSettings

T = TypeVar("T")
BAD, BUSY = 400, 503
_GIVEN_UP: ContextVar[Event] = ContextVar("given_up")


class Work:
    """Runs calls; all of its methods are for the thread of the loop."""

    def __init__(self, limits: ServingSettings) -> None:
        self._limits, self._under_way = limits, dict[Future[Any], Event]()
        self._llm = ThreadPoolExecutor(1, "llm")  # an engine computes one call at a time
        self._expert = ThreadPoolExecutor(1, "expert")

    async def run(self, call: Callable[[], T], uses_llm: bool, gone: asyncio.Future[None] | None = None) -> T:
        """What `call` gives. Raises RequestError when too much waits, it takes too long, or its caller is `gone`."""
        if len(self._under_way) >= self._limits.waiting:
            raise RequestError(BUSY, f"{len(self._under_way)} requests are being scored: try again later")
        loop, given_up, begun = asyncio.get_running_loop(), Event(), Event()
        context = copy_context()
        context.run(_GIVEN_UP.set, given_up)

        def work() -> T:
            begun.set()
            return context.run(call)

        future = (self._llm if uses_llm else self._expert).submit(work)
        self._under_way[future] = given_up
        future.add_done_callback(lambda done: self._tell(loop, done))
        answer = asyncio.wrap_future(future)
        try:
            either = (answer,) if gone is None else (answer, gone)
            await asyncio.wait(either, timeout=self._limits.timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            if gone is not None and gone.done():
                raise RequestError(BAD, "the caller has gone")
            why = "ask for less at once" if begun.is_set() else "others are being scored, try again later"
            raise RequestError(BUSY, f"no answer within {self._limits.timeout_s:g} s: {why}")
        except asyncio.CancelledError as error:  # nobody else cancels a request
            raise RequestError(BUSY, "the server is being stopped") from error
        finally:
            answer.cancel()  # one that has not begun never will
            given_up.set()  # one that has ends before its next part

    def after_all(self, call: Callable[[], Any]) -> Future[Any]:
        """Call it when everything that uses the LLM now is done."""
        return self._llm.submit(call)

    def close(self) -> None:
        """Begin nothing any more, and give up what has begun."""
        for given_up in self._under_way.values():
            given_up.set()
        for pool in (self._llm, self._expert):
            pool.shutdown(wait=False, cancel_futures=True)

    def _tell(self, loop: asyncio.AbstractEventLoop, done: Future[Any]) -> None:
        with suppress(RuntimeError):  # the server has been stopped, and with it the loop
            loop.call_soon_threadsafe(self._under_way.pop, done)


def require_wanted() -> None:
    """Raise RequestError where nobody waits for this answer any more."""
    given_up = _GIVEN_UP.get(None)
    if given_up is not None and given_up.is_set():
        raise RequestError(BUSY, "nobody waits for this answer")
