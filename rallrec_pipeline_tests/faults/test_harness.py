"""The harness of kills and damaged files, with as many as a test has time for: nothing is lost.

RALLREC_FAULT_KILLS and RALLREC_FAULT_DAMAGES set other numbers, RALLREC_FAULT_JSON where the figures go.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.process, pytest.mark.slow]

KILLS = os.environ.get("RALLREC_FAULT_KILLS") or "60"
DAMAGES = os.environ.get("RALLREC_FAULT_DAMAGES") or "120"


def test_kills_and_damaged_files_cost_nothing_that_was_finished(finished_world: Path, tmp_path: Path) -> None:
    out = Path(os.environ.get("RALLREC_FAULT_JSON") or tmp_path / "faults.json")
    command = [
        sys.executable,
        "-m",
        "rallrec_pipeline_tests.faults.harness",
        str(finished_world),
        str(tmp_path / "copy"),
    ]
    options = ["--kills", KILLS, "--damages", DAMAGES, "--json", str(out)]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    faults = json.loads(out.read_text(encoding="utf-8"))["faults"]
    assert sum(fault["times"] for fault in faults) > 0.9 * (int(KILLS) + int(DAMAGES))
    assert not [fault for fault in faults if fault["losses"]], done.stderr[-4000:]
