"""Progress as a user sees it: a bar in a terminal, lines in a log, and a terminal left as it was."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from rallrec_pipeline.pipeline import progress
from rallrec_pipeline.pipeline.progress import Reporter

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
    assert "scoring" in written and "3/3 · " in written and "tuning" in written and "1/2 · " in written
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
    assert len(said) == 1 and said[0].startswith("scoring: 2/1,000 · ") and said[0].endswith(" s left")
    assert capsys.readouterr().err == ""
