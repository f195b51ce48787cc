"""Many callers while a new result lands: no request fails. The server is a process of its own, as a user starts it."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rallrec_pipeline_tests.pipeline.tiny import SMALL, copied_world, rallrec, read_until, use_lake
from rallrec_pipeline_tests.serving.load import Load, get, post, put_load_on
from rallrec_pipeline_tests.serving.served import put_recommendations

HISTORY = [{"item_id": f"i{number}", "rating": 4} for number in range(4)]
BODY = json.dumps({"history": HISTORY, "targets": [{"item_id": "i7"}, {"item_id": "i8"}]}).encode()
REQUESTS = [get("/users/u1/recommendations"), post("/score", BODY), get("/users/u2/recommendations"), get("/version")]


@pytest.fixture
def lake(finished_world: Path, tmp_path: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        lake = copied_world(finished_world, tmp_path)
        settings = tmp_path / "settings.toml"
        more = '\n[serving]\nmethods = ["factorisation"]\nwaiting = 1000\npoll_s = 0.1\n'
        settings.write_text((finished_world / "settings.toml").read_text() + more)
        use_lake(lake, settings, patch)
        put_recommendations(lake, {"u1": ["i3"], "u2": ["i4"]})
        yield lake


@contextmanager
def served() -> Iterator[int]:
    """A server in a process of its own; gives its port."""
    with rallrec("serve", SMALL, "--port", "0") as process:
        line = read_until(process, "serving")[-1]
        yield int(re.search(r":(\d+);", line)[1])  # type: ignore[index]


def load_while_results_land(lake: Path, port: int, callers: int, seconds: float) -> tuple[Load, int]:
    """What callers saw, and how many results landed meanwhile."""
    landed, done = 0, threading.Event()

    def land() -> None:
        nonlocal landed
        while not done.wait(seconds / 6):
            landed += 1
            put_recommendations(lake, {"u1": [f"i{landed % 10}"], "u2": ["i4", "i5"]})

    thread = threading.Thread(target=land)
    thread.start()
    try:
        return put_load_on("127.0.0.1", port, REQUESTS, callers, seconds), landed
    finally:
        done.set()
        thread.join()


@pytest.mark.process
def test_no_request_fails_while_new_results_land(lake: Path) -> None:
    with served() as port:
        load, landed = load_while_results_land(lake, port, callers=50, seconds=3)
    assert not load.failures and landed >= 3 and len(load.seconds) > 100


@pytest.mark.slow
def test_no_request_of_two_hundred_callers_fails_for_a_minute(lake: Path) -> None:
    with served() as port:
        load, landed = load_while_results_land(lake, port, callers=200, seconds=60)
    print(f"{len(load.seconds):,} requests, p95 {load.p95_ms():.0f} ms, {landed} results, {os.cpu_count()} cores")
    assert not load.failures and landed >= 4
