"""A disk that is really full, at every stage: one clear line, nothing half-written, and with room it goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline_tests.faults.small_disk import namespace, needs_small_disk
from rallrec_pipeline_tests.pipeline.given import in_force_now
from rallrec_pipeline_tests.pipeline.tiny import REPOSITORY, SMALL, add_odd_items, make_world

pytestmark = pytest.mark.process

FEW = (3,)
MANY = (*range(33), *range(36, 64, 4), *range(64, 128, 16))
"""Free pages of 4 KiB: each place where a stage may run out of them."""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lake in which nothing was made."""
    needs_small_disk()
    lake = make_world(tmp_path, monkeypatch, (SMALL,))
    add_odd_items(lake)
    return lake


def fill(lake: Path, disk: Path, pages: tuple[int, ...]) -> dict[str, Any]:
    start = namespace()
    assert start is not None
    module = "rallrec_pipeline_tests.faults.full_disk"
    command = [*start, sys.executable, "-m", module, str(lake), str(disk), json.dumps(pages)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def judge(found: dict[str, Any], finished: Path) -> int:
    """Each try that failed did so in one line and left nothing; returns how many failed."""
    failed = 0
    assert found["tries"].keys() == STAGES.keys()
    for stage, tries in found["tries"].items():
        for one in tries:
            assert not one["left"] and not one["lost"], (stage, one)
            if one["error"]:
                assert "no space left" in one["error"] and "\n" not in one["error"], (stage, one)
                failed += 1
        assert not tries[-1]["error"]
    assert not found["damages"] and not found["again"]
    whole = {name: in_force_now(finished / "lake", SMALL, name).data_version for name in found["versions"]}
    assert found["versions"] == whole
    return failed


def test_a_full_disk_is_one_line_at_every_stage_and_nothing_is_half_written(
    world: Path, finished_world: Path, tmp_path: Path
) -> None:
    failed = judge(fill(world, tmp_path / "disk", FEW), finished_world)
    assert failed >= 20


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_page_is_one_line(world: Path, finished_world: Path, tmp_path: Path) -> None:
    failed = judge(fill(world, tmp_path / "disk", MANY), finished_world)
    print(f"{failed} times full")
    assert failed >= 5 * len(STAGES)


@pytest.mark.slow
def test_a_storage_of_dagster_without_room_is_one_line(world: Path, tmp_path: Path) -> None:
    start, home = namespace(), tmp_path / "home"
    assert start is not None
    mounted = 'mount -t tmpfs -o "size=$1" none "$2" && cp "$3" "$2" && shift 3 && exec "$@"'
    command = [sys.executable, "-m", "rallrec_pipeline.cli", "run", SMALL, "--select", "raw_files"]
    for size, works in (("64k", False), ("300k", False), ("700k", False), ("64m", True)):
        told = subprocess.run(
            [*start, "sh", "-c", mounted, "sh", size, home, REPOSITORY / "dagster.yaml", *command],
            capture_output=True,
            text=True,
            timeout=200,
        )
        said = (told.stdout + told.stderr).splitlines()
        assert (told.returncode == 0) == works, (size, said)
        assert not any("Traceback" in line for line in said), said
        if not works:
            assert said[-1].startswith("rallrec: ") and ("storage" in said[-1] or "no space left" in said[-1]), said
