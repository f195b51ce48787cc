"""Locks: two processes never hold one together, and a killed one leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rallrec_pipeline.lake.locks import lake_lock

pytestmark = pytest.mark.process

HOLD = """
import sys, time
from pathlib import Path
from rallrec_pipeline.lake.locks import lake_lock
with lake_lock(Path(sys.argv[1]), sys.argv[2], print):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(lake: Path, name: str = "slice") -> subprocess.Popen[str]:
    """Another process that holds the lock `name`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(lake), name], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_lock_waits_says_for_whom_and_is_free_after_a_kill(tmp_path: Path) -> None:
    other = hold(tmp_path)
    said: list[str] = []
    taken = threading.Event()

    def take() -> None:
        with lake_lock(tmp_path, "slice", said.append):
            taken.set()

    thread = threading.Thread(target=take)
    thread.start()
    deadline = time.monotonic() + 20
    while not said and time.monotonic() < deadline:
        time.sleep(0.05)
    assert f"waiting for another run (process {other.pid} on " in said[0] and not taken.is_set()
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert taken.wait(20)
    thread.join()


def test_other_names_do_not_wait(tmp_path: Path) -> None:
    other, said = hold(tmp_path), list[str]()
    with lake_lock(tmp_path, "another", said.append):
        pass
    other.kill()
    other.wait()
    assert not said


def test_the_holder_may_take_it_again(tmp_path: Path) -> None:
    said: list[str] = []
    with lake_lock(tmp_path, "slice", said.append), lake_lock(tmp_path, "slice", said.append):
        pass
    assert not said
