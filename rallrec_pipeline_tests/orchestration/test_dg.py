"""`dg` from the root of the repository: it finds the project; `.ci/run` also has it check the definitions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rallrec_pipeline.pipeline.graph import EVERY_STAGE
from rallrec_pipeline_tests.orchestration.shop import make_instance, make_shop
from rallrec_pipeline_tests.pipeline.tiny import REPOSITORY

pytestmark = pytest.mark.process


def dg(root: Path, *arguments: str) -> str:
    """What `dg` prints, with a lake and an instance below `root`."""
    own = {"RALLREC_LAKE": str(root / "lake"), "DAGSTER_HOME": str(root / "home")}
    command = [str(Path(sys.executable).with_name("dg")), *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, env=os.environ | own, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_dg_lists_and_launches_from_the_root(tmp_path: Path) -> None:
    lake = make_shop(tmp_path, "shop")
    make_instance(tmp_path)
    listed = json.loads(dg(tmp_path, "list", "defs", "--json"))
    assert {asset["asset_key"] for asset in listed["assets"]} >= set(EVERY_STAGE)
    dg(tmp_path, "launch", "--assets", "raw_files", "--partition", "shop")
    assert (lake / "results" / "shop" / "raw_files").exists()
