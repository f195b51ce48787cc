"""What callers do to their connections, over a real socket."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

import numpy as np

from rallrec_pipeline.serving.current import Current
from rallrec_pipeline.serving.loading import Loader
from rallrec_pipeline.serving.methods import Answer
from rallrec_pipeline.serving.questions import Question
from rallrec_pipeline.serving.snapshot import ServedMethod
from rallrec_pipeline.serving.work import Work, require_wanted
from rallrec_pipeline.settings import lake_root, load_settings
from rallrec_pipeline_tests.pipeline.tiny import SMALL
from rallrec_pipeline_tests.serving.served import listening, posted

LONG_S = 20


@dataclass
class Slow:
    """A method that takes long, and looks now and then whether anybody waits."""

    uses_llm: bool = True
    begun: Event = field(default_factory=Event)
    ended: Event = field(default_factory=Event)

    def answer(self, question: Question, explain: int) -> Answer:
        self.begun.set()
        end = time.monotonic() + LONG_S
        try:
            while time.monotonic() < end:
                require_wanted()
                time.sleep(0.01)
        finally:
            self.ended.set()
        return Answer(np.full(len(question.targets), 0.5))


def test_the_work_for_a_caller_who_closes_the_connection_ends(finished_lake: Path) -> None:
    limits = load_settings().serving.model_copy(update={"methods": ("factorisation",), "timeout_s": 2.0 * LONG_S})
    work, slow = Work(limits), Slow()
    current = Current(Loader(lake_root(), SMALL, None, print), work, print)
    expert = current.snapshot.methods["factorisation"]
    assert isinstance(expert, ServedMethod)
    current.snapshot = replace(current.snapshot, methods={"slow": replace(expert, answerer=slow)})
    body = json.dumps({"targets": [{"item_id": "i7"}], "history": [{"item_id": "i1", "rating": 4}]}).encode()
    with listening(current, work, limits) as connection:
        connection.sendall(posted(body))
        assert slow.begun.wait(10)
        connection.close()
        assert slow.ended.wait(LONG_S / 4), "nobody waits, and the work goes on"


def test_a_body_that_is_too_long_closes_the_connection(finished_lake: Path) -> None:
    limits = load_settings().serving
    work = Work(limits)
    current = Current(Loader(lake_root(), SMALL, None, print), work, print)
    with listening(current, work, limits) as connection:
        connection.sendall(posted(b"x" * (3 * limits.body_bytes)))  # a caller sends all of it before it listens
        told = b""
        while part := connection.recv(4096):  # ends when the server has closed it
            told += part
    assert told.startswith(b"HTTP/1.1 413") and b"serving.body_bytes" in told
