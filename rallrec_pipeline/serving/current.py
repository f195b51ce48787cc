"""The snapshot that requests get, and the watch for a newer one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from rallrec_pipeline.serving.loading import Loader, one_line
from rallrec_pipeline.serving.work import Work

RETRY_S = 30  # what could not be loaded is tried again after so long, if nothing else happens


class Current:
    """Holds a snapshot; a newer one takes its place between two requests."""

    def __init__(self, loader: Loader, work: Work, log: Callable[[str], None]) -> None:
        self._loader, self._work, self._log = loader, work, log
        self._state = loader.state()  # before it is loaded: what lands meanwhile is noticed
        self.snapshot, _ = loader.load()
        self._tried = time.monotonic()
        self._failure = ""  # the last one of the watch, until a load succeeds

    async def watch(self, poll_s: float) -> None:
        """Look every `poll_s` seconds whether another result is in force; never ends by itself."""
        while True:
            await asyncio.sleep(poll_s)
            try:
                if self._is_due():
                    await self._renew()
                    self._failure = ""
            except Exception as error:  # settings that are being edited, or a defect: the watch must not end
                if self._failure != one_line(error):  # it is tried again and again, and told once
                    self._failure = one_line(error)
                    self._log(f"what was loaded before is kept: {self._failure}")

    def _is_due(self) -> bool:
        if self._loader.state() != self._state:
            return True
        has_failed = bool(self._failure) or self._loader.has_failed
        return has_failed and time.monotonic() > self._tried + RETRY_S

    async def _renew(self) -> None:
        self._state, self._tried = self._loader.state(), time.monotonic()
        before = self.snapshot.versions
        snapshot, gone = await asyncio.to_thread(self._loader.load)
        self.snapshot = snapshot  # no request is between two lines of this loop
        if snapshot.versions != before:
            self._log(f"a new result of {snapshot.dataset} is in force")
        for close in gone:
            self._work.after_all(close)
