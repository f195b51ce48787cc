"""Progress as a user sees it: a bar in a terminal, lines in a log, and a terminal left as it was."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from rallrec_pipeline.language_models.protocols import Sampling
from rallrec_pipeline.pipeline import progress
from rallrec_pipeline.pipeline.progress import Reporter

if TYPE_CHECKING:
    from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine

WORK = """
import sys
from rallrec_pipeline.pipeline.progress import Reporter
report = Reporter("scoring", print)
for done in range(1, 4):
    report(done, 3)
    print(f"line {done}", file=sys.stderr)
second = Reporter("tuning", print)
second(1, 2)
raise RuntimeError("broken off")
"""
SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


def in_a_terminal(code: str) -> str:
    """What a process writes whose stderr is a terminal."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen([sys.executable, "-c", code], stderr=theirs, stdout=subprocess.DEVNULL, env=environment)
    os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 4096):
            written += part
    except OSError:  # the other end is closed
        pass
    process.wait(60)
    return written.decode()


def test_a_terminal_shows_bars_and_lines_and_has_its_cursor_at_the_end() -> None:
    written = in_a_terminal(WORK)
    assert "scoring" in written and "3/3 · " in written and "tuning" in written and "1/2" in written
    assert all(f"line {done}\r\n" in written for done in (1, 2, 3))
    assert "broken off" in written
    assert written.count(HIDE_CURSOR) == 2 and written.rindex(SHOW_CURSOR) > written.rindex(HIDE_CURSOR)


def test_a_log_has_a_line_every_few_seconds_and_no_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    report = Reporter("scoring", said.append)
    report(1, 1000)
    assert said == []
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.0)
    report(2, 1000)
    report(300, 1000)
    assert [line.split(" · ")[0] for line in said] == ["scoring: 2/1,000", "scoring: 300/1,000"]
    assert said[1].endswith(" s left")
    assert capsys.readouterr().err == ""


def test_the_time_left_is_that_of_the_work_of_late_and_told_once_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading is no work, the first hundredth tells little, and a machine may get busy."""
    clock = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    report = Reporter("descriptions", [].append)
    clock[0] += 600  # the model is loaded

    def state(seconds: float, done: int) -> str:
        clock[0] += seconds
        return report._state(done, 1000, clock[0])

    assert state(0, 0) == "0/1,000"
    assert state(10, 10) == "10/1,000 · 1.0/s"
    assert state(40, 50) == "50/1,000 · 1.0/s · 950 s left"
    slow = [state(100, done) for done in (60, 70, 80, 90)][-1]
    assert slow == "90/1,000 · 6.0/min · 9,100 s left"


def test_a_batch_of_texts_gives_a_sign_of_life_before_it_ends(engine: TransformersEngine) -> None:
    said: list[tuple[int, int]] = []
    engine.generate(["Name a film.", "Name a book."] * 4, Sampling(8, 1.0, 1.0, 1), lambda *done: said.append(done))
    assert said[0] == (0, 8) and said == sorted(said) and 3 < len(said) <= 8 and said[-1][0] < 8
