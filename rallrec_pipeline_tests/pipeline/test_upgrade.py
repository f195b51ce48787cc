"""A lake that an earlier commit of this program made, before files and rows had checksums: this one goes on with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from rallrec_pipeline.lake.memo_rows import KINDS
from rallrec_pipeline.lake.store import read_ref
from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline.pipeline.status.verify import verify_lake
from rallrec_pipeline_tests.lake.stored import stored_rows
from rallrec_pipeline_tests.pipeline.tiny import REPOSITORY, SMALL, make_world

pytestmark = [pytest.mark.process, pytest.mark.slow]

EARLIER = "1be7c32a61ab20990f77f85d92bda578437c2dd6"


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lake in which the earlier program has run the whole job."""
    known = subprocess.run(["git", "-C", REPOSITORY, "cat-file", "-e", EARLIER], capture_output=True)
    if known.returncode:
        pytest.skip("this copy of the repository has no history")
    old = tmp_path / "old"
    old.mkdir()
    archive = subprocess.run(
        ["git", "-C", REPOSITORY, "archive", EARLIER, "rallrec_pipeline"], capture_output=True, check=True
    )
    subprocess.run(["tar", "-x", "-C", old], input=archive.stdout, check=True)
    made = make_world(tmp_path, monkeypatch, (SMALL,))
    with (made / "catalog" / f"{SMALL}.toml").open("a", encoding="utf-8") as file:
        file.write('\n[words]\nitem = "film"\nitems = "films"\n')  # later commits ask other questions about things
    command = [sys.executable, "-m", "rallrec_pipeline.cli", "run", SMALL]
    done = subprocess.run(
        command, cwd=old, env=os.environ | {"PYTHONPATH": str(old)}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"{old}" not in line for line in done.stderr.splitlines() if "Traceback" in line)
    return made


def rows(lake: Path) -> set[tuple[str, ...]]:
    """Key, run and time of all finished rows."""
    found = [stored_rows(lake, kind).select("key", "run_id", "created_at") for kind in KINDS]
    return set(pl.concat(found).iter_rows())


def test_a_lake_of_an_earlier_commit_is_taken_over_without_a_call_of_the_llm(lake: Path) -> None:
    ref = read_ref(lake, SMALL, "demo")
    assert ref is not None and ref.format == 1 and len(ref.results) > 20
    finished = rows(lake)
    assert finished
    summary = materialize_dataset(SMALL)
    assert summary.error is None and not summary.llm["rows"]
    assert rows(lake) == finished, "nothing was lost or made again"
    assert not verify_lake(lake, SMALL, "demo").damages
    assert not any(materialize_dataset(SMALL).worked.values())
