"""Ctrl-C while the LLM writes: one line, status 130, nothing half-written, and the next run goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from rallrec_pipeline.lake.memo_rows import DESCRIPTIONS
from rallrec_pipeline_tests.lake.stored import stored_rows
from rallrec_pipeline_tests.pipeline.tiny import make_world

pytestmark = pytest.mark.process

START_S = 120


def test_ctrl_c_is_one_line_and_leaves_nothing_half_written(slice_lake: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    for name in ("catalog", "models"):
        shutil.copytree(slice_lake / name, lake / name, symlinks=True)
    settings, plain = tmp_path / "settings.toml", Path(os.environ["RALLREC_SETTINGS"]).read_text(encoding="utf-8")
    # Texts one at a time, each stored at once.
    settings.write_text(plain.replace("batch_size = 16", "batch_size = 1"), encoding="utf-8")
    environment = os.environ | {"RALLREC_LAKE": str(lake), "RALLREC_SETTINGS": str(settings), "DAGSTER_HOME": ""}
    process = started("run", "slice", environment=environment)
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "loading" in line:
            threading.Thread(target=interrupt_at_work, args=(process, lake), daemon=True).start()
    assert process.wait(START_S) == 130
    assert lines[-1].startswith("rallrec: interrupted") and not any("Traceback" in line for line in lines)
    assert not list(lake.rglob(".*.tmp")) and (lake / "tables" / "samples" / "slice.parquet").exists()
    assert not (lake / "provenance" / "slice" / "item_descriptions.json").exists()


def test_ctrl_c_in_a_terminal_is_one_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There it reaches every process of the group, and with an instance of its own Dagster has some."""
    make_world(tmp_path, monkeypatch, ("books",))
    process = started("run", "books")
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        if ": done" in line and not any(": done" in said for said in lines):
            os.killpg(process.pid, signal.SIGINT)
        lines.append(line)
    assert process.wait(START_S) == 130
    assert lines[-1].startswith("rallrec: interrupted") and not any("Traceback" in line for line in lines)


def started(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """`rallrec` in a group of its own, as a shell starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "rallrec_pipeline.cli", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def interrupt_at_work(process: subprocess.Popen[str], lake: Path) -> None:
    """As Ctrl-C, as soon as a first text is stored: then the LLM is at the second."""
    while stored_rows(lake, DESCRIPTIONS).is_empty():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
