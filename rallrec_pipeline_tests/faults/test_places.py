"""Where a lake may lie: at another path, of another user, under two paths at once, with times of any age."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from rallrec_pipeline.lake import memo_file
from rallrec_pipeline.lake.leftovers import is_temporary
from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline.pipeline.status.verify import verify_lake
from rallrec_pipeline.settings import ROLES
from rallrec_pipeline_tests.orchestration.services import DATA
from rallrec_pipeline_tests.orchestration.shop import make_shop
from rallrec_pipeline_tests.pipeline.test_faults import NOBODY, powerless
from rallrec_pipeline_tests.pipeline.tiny import SMALL, use_lake

AT_ANOTHER_PATH = {"raw_files", "evaluation_report", *ROLES}
"""Stages that look again where the source and the model lie elsewhere, and the report, which says where."""


def moved_world(world: Path, root: Path, patch: pytest.MonkeyPatch) -> Path:
    """A copy of all of a finished world: lake, sources and model."""
    root.chmod(0o755)
    shutil.copytree(world, root / "world", symlinks=True)
    settings = root / "world" / "settings.toml"
    settings.write_text(settings.read_text(encoding="utf-8").replace(str(world), str(root / "world")), encoding="utf-8")
    use_lake(root / "world" / "lake", settings, patch)
    patch.delenv("DAGSTER_HOME", raising=False)
    memo_file._mended.clear()
    return root / "world" / "lake"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a lake to another user")
def test_a_lake_that_was_copied_to_another_path_and_user_is_up_to_date(
    finished_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TemporaryDirectory(prefix="rallrec-moved-") as name:
        lake = moved_world(finished_world, Path(name), monkeypatch)
        for path in (lake.parent, *lake.parent.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        materialize_dataset(SMALL, ["raw_files"])  # all that is needed is imported now
        for path in lake.rglob("*"):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        with powerless():
            summary = materialize_dataset(SMALL)
            assert summary.error is None and not summary.llm["rows"]
            assert {name for name, worked in summary.worked.items() if worked} <= AT_ANOTHER_PATH
            assert not verify_lake(lake, SMALL, "demo").damages
            assert not any(materialize_dataset(SMALL).worked.values())


@pytest.mark.parametrize("moment", [0, 915_148_800, 4_102_444_800], ids=["1970", "1999", "2100"])
def test_files_of_any_age_are_what_they_were(
    moment: int, finished_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that was wrong has dated them; their bytes tell."""
    lake = moved_world(finished_world, tmp_path, monkeypatch)
    assert materialize_dataset(SMALL).error is None
    for path in lake.rglob("*"):
        os.utime(path, (moment, moment), follow_symlinks=False)
    assert not verify_lake(lake, SMALL, "demo").damages
    summary = materialize_dataset(SMALL)
    assert summary.error is None
    assert {name for name, worked in summary.worked.items() if worked} <= {"raw_files"}, "it looks at the source again"


@pytest.mark.process
@pytest.mark.slow
def test_two_machines_on_a_shared_folder_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other has another host name, where the system lets this user give itself one, and another path."""
    lake = make_shop(tmp_path, "shop")
    (tmp_path / "mounted").symlink_to(lake)
    monkeypatch.delenv("RALLREC_SETTINGS", raising=False)
    renamed = ["unshare", "--uts", "sh", "-c", 'hostname another && exec "$@"', "sh"]
    can_rename = subprocess.run([*renamed, "true"], capture_output=True).returncode == 0
    command = [sys.executable, "-m", "rallrec_pipeline.cli", "run", "shop", "--select", ",".join(DATA)]
    runs = []
    for place, start in ((lake, []), (tmp_path / "mounted", renamed if can_rename else [])):
        home = tmp_path / f"home-{place.name}"
        home.mkdir()
        environment = os.environ | {"RALLREC_LAKE": str(place), "DAGSTER_HOME": str(home)}
        pipe = subprocess.PIPE
        runs.append(subprocess.Popen([*start, *command], env=environment, stdout=pipe, stderr=pipe, text=True))
    told = ["".join(run.communicate(timeout=300)) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], told
    assert sum("stages did work" in text for text in told) == 1, told
    assert not verify_lake(lake, "shop", "demo").damages
    assert not [path for path in lake.rglob(".*") if is_temporary(path.name)]
    assert len(list((lake / "results" / "shop" / "interactions").iterdir())) == 1
