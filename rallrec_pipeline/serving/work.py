"""Scoring beside the loop that talks to callers: one thread for the LLM, one for the expert, and a bounded queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from rallrec_pipeline.errors import RequestError
from rallrec_pipeline.settings import ServingSettings

T = TypeVar("T")
BUSY = 503


class Work:
    """Runs calls; all of its methods are for the thread of the loop."""

    def __init__(self, limits: ServingSettings) -> None:
        self._limits, self._under_way = limits, 0
        self._llm = ThreadPoolExecutor(1, "llm")  # an engine computes one call at a time
        self._expert = ThreadPoolExecutor(1, "expert")

    async def run(self, call: Callable[[], T], uses_llm: bool) -> T:
        """What `call` gives. Raises RequestError when too much waits, or when it takes too long."""
        if self._under_way >= self._limits.waiting:
            raise RequestError(BUSY, f"{self._under_way} requests are being scored: try again later")
        self._under_way += 1
        loop = asyncio.get_running_loop()
        future = (self._llm if uses_llm else self._expert).submit(call)
        future.add_done_callback(lambda _: self._tell(loop))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._limits.timeout_s)
        except TimeoutError as error:  # one that has not begun never will; one that has keeps its place till it ends
            raise RequestError(BUSY, f"no answer within {self._limits.timeout_s:g} s: ask for less at once") from error

    def after_all(self, call: Callable[[], Any]) -> Future[Any]:
        """Call it when everything that uses the LLM now is done."""
        return self._llm.submit(call)

    def close(self) -> None:
        """Begin nothing any more."""
        for pool in (self._llm, self._expert):
            pool.shutdown(wait=False, cancel_futures=True)

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(RuntimeError):  # the server has been stopped, and with it the loop
            loop.call_soon_threadsafe(self._ended)

    def _ended(self) -> None:
        self._under_way -= 1
