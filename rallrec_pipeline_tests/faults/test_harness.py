"""The harness of kills and damaged files, with as many as a test has time for: nothing is lost; and its figures.

RALLREC_FAULT_KILLS and RALLREC_FAULT_DAMAGES set other numbers.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from rallrec_pipeline.lake.files import read_json, write_json
from rallrec_pipeline_tests.faults.forks import RunFailed, apart, killed_after, killed_at_change, measured
from rallrec_pipeline_tests.faults.harness import HARMED
from rallrec_pipeline_tests.faults.kept import Tried, add, mended, totals
from rallrec_pipeline_tests.faults.page import PAGE, table, with_table
from rallrec_pipeline_tests.faults.worlds import REAL, TINY

KILLS = os.environ.get("RALLREC_FAULT_KILLS") or "60"
DAMAGES = os.environ.get("RALLREC_FAULT_DAMAGES") or "120"


@pytest.mark.process
@pytest.mark.slow
def test_kills_and_damaged_files_cost_nothing_that_was_finished(finished_world: Path, tmp_path: Path) -> None:
    out = tmp_path / "faults.json"
    command = [sys.executable, "-m", "rallrec_pipeline_tests.faults.harness", "--world", str(finished_world)]
    options = ["--kills", KILLS, "--damages", DAMAGES, "--real-every", "0", "--json", str(out)]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    faults = totals(out)
    assert sum(fault["times"] for fault in faults) == int(KILLS) + int(DAMAGES)
    assert not [fault for fault in faults if fault["losses"]], done.stderr[-4000:]


def test_each_run_adds_its_figures_and_the_table_is_of_all(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    add([Tried("a", "p", times=3), Tried("b", "q", times=1, not_healed=1), Tried("never", "r")], 10.4, path)
    for times in (1_000, 2_000):  # after each round
        add([Tried("b", "better", times=times, unnamed=2)], 5.0, path, "2026-11-29T20:00:00+00:00", 7.6)
    first, second = read_json(path)["runs"]
    assert (
        first["seconds"] == 10 and second["cpu_seconds"] == 8 and first["processor"] and first["day"] <= second["day"]
    )
    assert [(one["fault"], one["promise"], one["times"], one["losses"]) for one in totals(path)] == [
        ("a", "p", 3, 0),
        ("b", "better", 2_001, 3),
    ]
    assert "| b | better |  | 2,001 | 3 | 0 |" in table(totals(path)) and not mended(path)
    first["faults"][1]["mended"] = "b was weak"
    first["faults"][0]["rows_lost"] = 4
    write_json(path, {"runs": [first, second]})
    assert "| b | better |  | 2,001 | 3 | 1 |" in table(totals(path))
    assert "| a | p |  | 3 | 4 | 0 |" in table(totals(path)), "another fault of that run is not mended"
    assert mended(path) == [f"{first['day']}, commit {first['commit']}: b was weak"]
    both = Tried("a", "p", "x", 3, *range(1, 6)) + Tried("a", "p", "x", 4, *range(10, 15))
    assert both == Tried("a", "p", "x", 7, 11, 13, 15, 17, 19) and both.losses == 75


def test_figures_of_each_llm_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    add([Tried("a", "p", TINY, times=3), Tried("a", "p", REAL, times=1)], 1.0, path)
    add([Tried("a", "p", TINY, times=4)], 1.0, path)
    assert [(one["llm"], one["times"]) for one in totals(path)] == [(TINY, 7), (REAL, 1)]
    assert f"| a | p | {TINY} | 7 | 0 | 0 |" in table(totals(path))


def test_the_page_has_the_table_of_the_figures() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_table(page, totals(), mended()) == page, "python -m rallrec_pipeline_tests.faults.page"


@pytest.mark.parametrize("fault", HARMED)
def test_each_harm_changes_a_file(fault: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    for seed in range(20):
        file.write_bytes(b"0123456789")
        HARMED[fault](file, random.Random(seed))
        assert not file.exists() or file.read_bytes() != b"0123456789"


@pytest.mark.process
def test_a_process_is_killed_at_a_change_or_a_moment_and_one_that_has_ended_is_not(tmp_path: Path) -> None:
    def work() -> None:
        for number in range(3):
            (tmp_path / f"{number}.new").write_bytes(b"")
            (tmp_path / f"{number}.new").rename(tmp_path / str(number))

    for change, left in enumerate(([], ["0.new"], ["0"], ["0", "1.new"], ["0", "1"], ["0", "1", "2.new"]), 1):
        assert killed_at_change(work, change)
        assert sorted(path.name for path in tmp_path.iterdir()) == left
        for path in tmp_path.iterdir():
            path.unlink()
    assert not killed_at_change(work, 7) and not killed_after(lambda: None, 0.5)
    assert killed_after(lambda: sum(iter(int, 1)), 0.1), "an endless sum"
    assert measured(work)[1] == 6


@pytest.mark.process
def test_a_run_that_fails_by_itself_is_none_that_has_ended() -> None:
    for kill in (lambda run: killed_at_change(run, 7), lambda run: killed_after(run, 60.0), measured):
        with pytest.raises(RunFailed, match=r"ZeroDivisionError|measured"):
            kill(lambda: 1 / 0)


def test_what_a_process_returns_comes_back_and_nothing_of_one_that_fails() -> None:
    assert apart(lambda: {"a": [1]}) == {"a": [1]} and apart(lambda: [][1]) is None
