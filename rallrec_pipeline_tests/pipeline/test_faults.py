"""Files that are cut short, lost or full of something else; odd paths; two runs at once; clocks; a closed lake."""

from __future__ import annotations

import gc
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from typer.testing import CliRunner

from rallrec_pipeline.cli import app
from rallrec_pipeline.errors import RallrecError
from rallrec_pipeline.lake import memo_file
from rallrec_pipeline.lake.leftovers import is_temporary
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import DESCRIPTIONS
from rallrec_pipeline.lake.store import all_records, in_force, past_refs
from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline.pipeline.context import SHARED
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.pipeline.load import load
from rallrec_pipeline.pipeline.readiness import model_record
from rallrec_pipeline.pipeline.status.verify import verify_lake
from rallrec_pipeline.settings import ROLES, load_settings
from rallrec_pipeline_tests.lake.flips import flip
from rallrec_pipeline_tests.pipeline.given import in_force_now, make_stages
from rallrec_pipeline_tests.pipeline.given import store as store_result
from rallrec_pipeline_tests.pipeline.tiny import SMALL, copied_world, make_world, replace_once, use_lake

LOOKING = (["status", SMALL], ["lineage", SMALL, "i3"], ["report", SMALL], ["status", SMALL, "--verify"])
NOBODY = 65534
DATA = tuple(stage.name for stage in STAGES.values() if stage.group in ("raw", "data"))


@pytest.fixture
def lake(finished_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = copied_world(finished_world, tmp_path)
    use_lake(copy, finished_world / "settings.toml", monkeypatch)
    monkeypatch.delenv("DAGSTER_HOME")
    memo_file._mended.clear()
    return copy


def look() -> list[str]:
    """What the commands that only look say when they cannot: one line each."""
    told = []
    for command in LOOKING:
        error = CliRunner().invoke(app, command).exception
        if error is not None and not isinstance(error, SystemExit):
            assert isinstance(error, RallrecError) and "\n" not in str(error), (command, error)
            told.append(str(error))
    return told


def test_what_is_cut_short_lost_or_overwritten_is_made_anew(lake: Path) -> None:
    """A file of each kind: results of all stages in turn, records, refs, finished rows, raw files, the model."""
    before = {name: in_force_now(lake, SMALL, name).data_version for name in STAGES if "report" not in name}
    harms = (
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff\x00 garbage \n" * 40),
        Path.unlink,
    )
    folders = ("raw", "models", "results", "refs", "cache")
    found = (path for folder in folders for path in sorted((lake / folder).rglob("*")))
    files = [path for path in found if path.is_file() and not path.is_symlink() and "history" not in path.parts]
    for number, path in enumerate(files):
        harms[number % len(harms)](path)
        if number % 30 == 0:
            look()
    look()
    summary = materialize_dataset(SMALL)
    assert summary.error is None and summary.llm["rows"] > 0
    assert not verify_lake(lake, SMALL, "demo").damages
    assert {name: in_force_now(lake, SMALL, name).data_version for name in before} == before
    assert not look() and not any(make_stages(lake, SMALL, load_settings()).values())


@pytest.mark.parametrize("record", ["manifest.json", ".source.json", "neither"])
@pytest.mark.parametrize("harm", ["cut", "empty", "overwritten", "a bit", "lost"])
def test_a_raw_file_is_fetched_again_also_where_a_record_of_it_is_damaged_too(
    lake: Path, harm: str, record: str
) -> None:
    def versions() -> dict[str, str]:
        return {name: in_force_now(lake, SMALL, name).data_version for name in DATA if "report" not in name}

    make_stages(lake, SMALL, load_settings(), *DATA)  # its source is named by another path now
    before, file, chance = versions(), lake / "raw" / SMALL / "ratings.csv", random.Random(3)
    manifest = in_force_now(lake, SMALL, "raw_files").manifest(lake)
    harms = {
        "cut": lambda: file.write_bytes(file.read_bytes()[:700]),
        "empty": lambda: file.write_bytes(b""),
        "overwritten": lambda: file.write_bytes(b"\xff\x00 garbage \n" * 40),
        "a bit": lambda: flip(file, chance),
        "lost": file.unlink,
    }
    harms[harm]()
    if record == "manifest.json":
        flip(manifest, chance)
    elif record == ".source.json":
        flip(file.with_name(record), chance)
    assert make_stages(lake, SMALL, load_settings(), *DATA)["raw_files"] and versions() == before
    assert not verify_lake(lake, SMALL, "demo").damages
    kept = [path.name for path in file.parent.glob("*.edited")]
    assert kept == (["ratings.csv.edited"] if harm in ("cut", "overwritten") and record != ".source.json" else [])


def test_raw_files_of_today_are_not_held_against_what_was_made_of_earlier_ones(
    lake: Path, finished_world: Path, tmp_path: Path
) -> None:
    place = finished_world / "lake" / "files" / SMALL
    source = shutil.copytree(place, tmp_path / "source")
    replace_once(lake / "catalog" / f"{SMALL}.toml", f"{place.parent.as_posix()}/{SMALL}", source.as_posix())
    make_stages(lake, SMALL, load_settings(), "raw_files")
    with (source / "ratings.csv").open("a", encoding="utf-8") as file:
        file.write("u3,i77,2,900\n")
    make_stages(lake, SMALL, load_settings(), "raw_files")
    assert len(all_records(lake, SMALL, "raw_files")) == 3, "of the path before, and of both contents"
    assert not verify_lake(lake, SMALL, "demo").damages
    flip(lake / "raw" / SMALL / "ratings.csv", random.Random(3))
    assert [damage.file for damage in verify_lake(lake, SMALL, "demo").damages] == [f"raw/{SMALL}/ratings.csv"]


@pytest.mark.process
def test_two_datasets_at_once_in_a_new_lake_whose_path_is_a_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both also meet in a `DAGSTER_HOME` without tables, and in models that neither has fetched."""
    root = tmp_path / "a lake [x]{y}*? %41=1"
    root.mkdir()
    lake = make_world(root, monkeypatch, ("one", "two"))
    monkeypatch.setenv("DAGSTER_HOME", str(shutil.copytree(root / "home", tmp_path / "home")))
    wanted = ",".join((*ROLES, *DATA, "item_descriptions", "title_embeddings"))
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "rallrec_pipeline.cli", "run", name, "--select", wanted],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in ("one", "two")
    ]
    told = [run.communicate(timeout=300)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], told
    assert not [path for path in lake.rglob(".*") if is_temporary(path.name)]
    assert not verify_lake(lake, None, "demo").damages
    assert load("tables/samples", "one", lake=lake).height and load("embeddings/title", "two", lake=lake).height == 10
    for command in (["status"], ["lineage", "one", "i3"], ["check-model", "two"], ["prune"]):
        assert CliRunner().invoke(app, command).exit_code == 0, command


def test_a_clock_that_goes_backwards_hides_nothing(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings()
    monkeypatch.setattr("rallrec_pipeline.lake.store.refs.now", lambda: "1999-01-01T00:00:00+00:00")
    monkeypatch.setattr("rallrec_pipeline.pipeline.stage.now", lambda: "1999-01-01T00:00:00+00:00")
    other = settings.model_copy(update={"seeds": settings.seeds.model_copy(update={"data": 7})})
    assert "samples" in {name for name, worked in make_stages(lake, SMALL, other, *DATA).items() if worked}
    assert not any(make_stages(lake, SMALL, other, *DATA).values())
    last, force = next(past_refs(lake, SMALL)), in_force(lake, SMALL)
    assert force is not None and (last.at, last.results) == (force.at, force.results) and last.at.startswith("1999")
    assert not any(make_stages(lake, SMALL, settings, *DATA).values())
    # The model that was fetched last is known, though an older record has a later time.
    role = in_force_now(lake, SMALL, "predictor")
    source = replace(role, settings={**role.settings, "source": "another"})
    weights = lake / "models" / "tiny" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[::-1])
    fetched = store_result(
        lake, SHARED, "predictor", lambda _: [weights], settings=source.settings, created_at="1999-01-01"
    )
    asked = settings.model_copy(update={"model": settings.model.model_copy(update={"source": "another"})})
    found = model_record(lake, asked.in_role("predictor"))
    assert found is not None and found.fingerprint == fetched.fingerprint
    assert model_record(lake, settings.in_role("predictor")) is None


@contextmanager
def powerless() -> Iterator[None]:
    """Whoever runs the tests, this is somebody whom the permissions of files stop."""
    is_root = os.geteuid() == 0
    if is_root:
        os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        if is_root:
            os.setresuid(0, 0, 0)


def test_a_lake_that_may_only_be_read_is_read_and_a_run_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with TemporaryDirectory(prefix="rallrec-closed-", dir="/tmp") as name:  # where anybody may go
        root = Path(name)
        root.chmod(0o755)
        lake = make_world(root, monkeypatch, (SMALL,))
        monkeypatch.delenv("DAGSTER_HOME")
        assert not any(materialize_dataset(SMALL, DATA).error or "" for _ in range(2))
        Memo(lake, DESCRIPTIONS).add(pl.DataFrame({"key": ["a"], "text": ["A"]}))
        told = look()  # of what was never made; all that is needed is imported now
        everything = [path for path in (lake, *lake.rglob("*")) if not path.is_symlink()]
        for path in everything:
            path.chmod(0o555 if path.is_dir() else 0o444)
        gc.collect()  # or what earlier runs have left is removed while nobody may
        with powerless():
            assert look() == told
            assert load("tables/samples", SMALL, lake=lake).height
            assert Memo(lake, DESCRIPTIONS).find(["a"])["text"].to_list() == ["A"]
            with pytest.raises(RallrecError, match="make the folder writable and run again") as error:
                materialize_dataset(SMALL, DATA)
            assert "cannot write" in str(error.value) and "\n" not in str(error.value)
        for path in everything:
            path.chmod(0o755)
