"""A user is forgotten for real: raw rows, tables, prompts, answers, adapters; and the next run is without the user."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from rallrec_pipeline.cli import app
from rallrec_pipeline.errors import ConfigError, RallrecError
from rallrec_pipeline.lake.leftovers import is_temporary
from rallrec_pipeline.lake.memo_rows import SCORES
from rallrec_pipeline.lake.store import all_records
from rallrec_pipeline.lake.tombstones import read_tombstones
from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline.pipeline.forgetting.forget import forget_user
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.settings import load_settings
from rallrec_pipeline_tests.lake.stored import stored_rows
from rallrec_pipeline_tests.pipeline.given import in_force_now, make_stages
from rallrec_pipeline_tests.pipeline.tiny import SMALL, copied_world, keep, replace_once, restore, use_lake

USER, OTHER = "u1", "u12"  # an id that is part of others
WITHOUT = {"raw_files", "items", "users", "rejected_rows"}
"""Stages whose results have no row of the user: in this world the last two are empty."""


def rallrec(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def tree(lake: Path) -> dict[str, str]:
    files = (path for path in sorted(lake.rglob("*")) if path.is_file() and "locks" not in path.parts)
    return {path.relative_to(lake).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def tables(lake: Path) -> dict[Path, pl.DataFrame]:
    return {path: pl.read_parquet(path, glob=False) for path in sorted((lake / "results").rglob("*.parquet"))}


def rows_left(lake: Path, user: str, moments: set[int], prompts: set[str]) -> list[str]:
    """Tables with the user, with a time of one of the ratings (each time is of one rating), or with a prompt."""
    found = []
    for path, table in tables(lake).items():
        hits = {
            "user_id": lambda t: (t["user_id"] == user).any(),
            "timestamp": lambda t: t["timestamp"].is_in(list(moments)).any(),
            "prompt": lambda t: t["prompt"].is_in(list(prompts)).any(),
        }
        found += [f"{path} {name}" for name, hit in hits.items() if name in table.columns and hit(table)]
    return found


@pytest.fixture(scope="module")
def seen(finished_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the finished lake, its source, and an instance of its own that has seen a run of it."""
    root = tmp_path_factory.mktemp("forget") / "seen"
    lake, home = copied_world(finished_world, root), root / "home"
    shutil.copytree(finished_world / "lake" / "files", root / "source", symlinks=True)
    replace_once(lake / "catalog" / f"{SMALL}.toml", (finished_world / "lake" / "files").as_posix(), "../../source")
    shutil.rmtree(lake / "files")
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        use_lake(lake, finished_world / "settings.toml", patch)
        patch.setenv("DAGSTER_HOME", str(home))
        assert materialize_dataset(SMALL).error is None
    keep(root)
    return root


@pytest.fixture
def lake(seen: Path, finished_world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lake as that run has left it."""
    restore(seen)
    use_lake(seen / "lake", finished_world / "settings.toml", monkeypatch)
    monkeypatch.setenv("DAGSTER_HOME", str(seen / "home"))
    return seen / "lake"


def test_a_user_is_forgotten_and_the_next_run_is_without(lake: Path) -> None:
    raw = lake / "raw" / SMALL / "ratings.csv"
    ratings = pl.read_csv(raw)
    theirs = ratings.filter(pl.col("user_id") == USER)
    prompts = pl.read_parquet(lake / "prompts" / "evaluation" / f"{SMALL}.parquet")
    own_prompts = set(prompts.filter(pl.col("user_id") == USER)["prompt"])
    moments = set(theirs["timestamp"])
    assert theirs.height == 8 and own_prompts and rows_left(lake, USER, moments, own_prompts)

    before = tree(lake)
    planned = rallrec("forget", SMALL, USER, "--plan")
    assert planned.exit_code == 0 and "would go" in planned.stdout and tree(lake) == before, "a plan changes nothing"
    told = rallrec("forget", SMALL, USER, "--scan")
    assert told.exit_code == 1 and f"raw/{SMALL}/ratings.csv: rows, 8 times" in told.stdout

    done = rallrec("forget", SMALL, USER)
    assert done.exit_code == 0, done.stdout
    assert "no trace in" in done.stdout and f"run `rallrec run {SMALL}`" in done.stdout
    assert not rows_left(lake, USER, moments, own_prompts)
    kept = raw.read_text(encoding="utf-8").splitlines()
    assert kept == [line for line in before_lines(lake) if not line.startswith(f"{USER},")], "all other bytes stay"
    assert not [path for path in lake.rglob("*") if path.is_symlink() and not path.exists()], "no link leads nowhere"
    assert set(stage_names(lake)) <= WITHOUT, "what was made from the rows is gone"

    (file,) = (lake / "reports" / SMALL).glob("forgotten_*.json")
    certificate = json.loads(file.read_text(encoding="utf-8"))
    assert USER not in json.dumps(certificate).replace('"', " ").split()
    assert certificate["raw_files"][0]["rows"] == 8 and certificate["cached_rows"]["scores"] > 0
    assert {held["stage"] for held in certificate["results"]} == set(STAGES) - WITHOUT - models()
    assert set(certificate["to_be_made_anew"]["demo"]) == set(STAGES) - WITHOUT - models()
    assert certificate["adapters"] and certificate["scan"]["traces"] == [] and certificate["made_anew"] == []
    for command in (["status", SMALL], ["report", SMALL], ["lineage", SMALL, "i3"], ["prune"], ["datasets"]):
        error = rallrec(*command).exception
        assert error is None or isinstance(error, SystemExit | RallrecError), (command, error)
        assert "\n" not in str(error), (command, error)
    assert rallrec("status", SMALL, "--verify").exit_code in (0, 1)

    again = materialize_dataset(SMALL)
    assert again.error is None and again.worked["raw_files"] and again.worked["predictions"]
    assert_dagster_names_nobody(lake, lake.parent / "home")
    assert again.llm["rows"] > 0 and stored_rows(lake, SCORES).height > 0
    assert not rows_left(lake, USER, moments, own_prompts) and in_force_now(lake, SMALL, "lora_adapter")
    users = set(pl.read_parquet(lake / "tables" / "interactions" / f"{SMALL}.parquet")["user_id"])
    assert users == set(ratings["user_id"]) - {USER} and OTHER in users
    last = rallrec("forget", SMALL, USER)
    assert last.exit_code == 0 and "no trace in" in last.stdout
    certificate = json.loads(file.read_text(encoding="utf-8"))
    assert {one["asset"] for one in certificate["made_anew"]} == set(certificate["to_be_made_anew"]["demo"])
    assert not any(make_stages(lake, SMALL, load_settings()).values()), "all is up to date"


def assert_dagster_names_nobody(lake: Path, home: Path) -> None:
    """After a run that made everything: neither ids of users, which in this world stand nowhere else, nor histories."""
    prompts = pl.read_parquet(lake / "prompts" / "evaluation" / f"{SMALL}.parquet")["prompt"]
    lines = {line for prompt in prompts for line in prompt.split("\n") if "(" in line}
    words, cells = re.compile(r"(?<![\w-])u\d{1,2}(?![\w-])"), 0
    for file in (path for path in home.rglob("*") if path.suffix == ".db"):
        with closing(sqlite3.connect(file)) as connection:
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                for row in connection.execute(f'SELECT * FROM "{table}"'):
                    for cell in (cell for cell in row if isinstance(cell, str)):
                        cells += 1
                        assert not words.search(cell), (file, table)
                        assert not any(json.dumps(line)[1:-1] in cell for line in lines), (file, table)
    assert cells > 1000


def test_two_users_and_one_who_is_not_there(lake: Path) -> None:
    with pytest.raises(ConfigError, match="'small' has no user 'u77': nothing was changed") as told:
        forget_user(lake, SMALL, "u77", print)
    assert "\n" not in str(told.value)
    before = tree(lake)
    assert isinstance(rallrec("forget", SMALL, "-u1").exception, ConfigError), "an id may begin with a dash"
    assert isinstance(rallrec("forget", "nowhere", USER).exception, ConfigError)
    assert isinstance(rallrec("forget", SMALL, USER, "--plan", "--scan").exception, ConfigError)
    assert tree(lake) == before
    damaged = in_force_now(lake, SMALL, "core_interactions").folder(lake).rglob("*.parquet")
    next(damaged).write_bytes(b"no table")
    before = tree(lake)
    with pytest.raises(ConfigError, match="has no user"):  # whom a damaged table holds nobody knows
        forget_user(lake, SMALL, "u77", print)
    assert tree(lake) == before
    for user in (USER, OTHER):
        assert rallrec("forget", SMALL, user).exit_code == 0
    assert len(list((lake / "reports" / SMALL).glob("forgotten_*.json"))) == 2
    assert len(read_tombstones(lake, SMALL).users) == 2
    assert materialize_dataset(SMALL, ["raw_files", "interactions"]).error is None
    users = set(pl.read_parquet(lake / "tables" / "interactions" / f"{SMALL}.parquet")["user_id"])
    assert not users & {USER, OTHER} and len(users) == 18
    for user in (USER, OTHER):
        assert rallrec("forget", SMALL, user, "--scan").exit_code == 0


def test_copies_of_edited_files_go_and_files_of_any_kind_are_searched(
    lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = lake / "raw" / SMALL
    for name in ("ratings.csv.edited", "ratings.csv.2.edited"):
        (folder / name).write_text("u1,i3,4\n", encoding="utf-8")
    (folder / "parts.edited").mkdir()  # of a table in parts
    (folder / "parts.edited" / "a.csv").write_text("u1,i3,4\n", encoding="utf-8")
    (lake / "notes.old").write_bytes(gzip.compress(b"written for u1"))
    done = rallrec("forget", SMALL, USER)
    assert done.exit_code == 1 and "notes.old: text, 1 times" in done.stdout, "that was put there by somebody else"
    assert not list(folder.glob("*.edited"))
    (lake / "notes.old").unlink()
    (lake.parent / "postgres").mkdir()
    (lake.parent / "postgres" / "dagster.yaml").write_text("storage:\n  postgres:\n    postgres_url: x\n")
    for home, searched in ((lake.parent / "home", True), (lake.parent / "postgres", False)):
        monkeypatch.setenv("DAGSTER_HOME", str(home))
        assert rallrec("forget", SMALL, USER, "--scan").exit_code == 0
        (file,) = (lake / "reports" / SMALL).glob("forgotten_*.json")
        certificate = json.loads(file.read_text(encoding="utf-8"))
        assert any("database" in place for place in certificate["not_reached"]) is not searched
        assert certificate["edited"] == ["parts.edited", "ratings.csv.2.edited", "ratings.csv.edited"]


def test_what_was_made_without_the_user_stays(lake: Path) -> None:
    """Another dataset with a user of that name, and an earlier state of the raw files, before the user came."""
    (lake / "catalog" / "other.toml").write_text((lake / "catalog" / f"{SMALL}.toml").read_text(encoding="utf-8"))
    source = lake.parent / "source" / SMALL / "ratings.csv"
    whole = source.read_text(encoding="utf-8")
    names = ["raw_files", "interactions", "items", "core_interactions", "rejected_rows"]
    source.write_text("".join(line for line in whole.splitlines(keepends=True) if not line.startswith("u1,")))
    make_stages(lake, SMALL, load_settings(), *names)
    early = in_force_now(lake, SMALL, "core_interactions")
    source.write_text(whole)
    for dataset in (SMALL, "other"):
        make_stages(lake, dataset, load_settings(), *names)
    assert rallrec("forget", SMALL, USER).exit_code == 0
    assert [record.fingerprint for record in all_records(lake, SMALL, "core_interactions")] == [early.fingerprint]
    others = pl.read_parquet(lake / "tables" / "interactions" / "other.parquet")
    assert USER in others["user_id"] and USER in (lake / "raw" / "other" / "ratings.csv").read_text().replace(",", " ")


KILLED = """
import os, shutil, sys
from pathlib import Path
left = int(sys.argv.pop(1))
def killing(plain):
    def called(*args, **options):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return plain(*args, **options)
    return called
shutil.rmtree, os.replace, Path.unlink = killing(shutil.rmtree), killing(os.replace), killing(Path.unlink)
from rallrec_pipeline.cli import main
main()
"""


@pytest.mark.process
def test_one_that_is_killed_goes_on(lake: Path, tmp_path: Path) -> None:
    """Killed at its first, later and last changes, each time by the next attempt; a run in between changes nothing."""
    twin = tmp_path / "twin"
    shutil.copytree(lake, twin, symlinks=True)
    (twin / "catalog" / f"{SMALL}.toml").write_text(
        (lake / "catalog" / f"{SMALL}.toml").read_text().replace("../../source", str(lake.parent / "source"))
    )
    ends = []
    for changes in (0, 2, 4, 7, 15, 40, 10_000):
        command = [sys.executable, "-c", KILLED, str(changes), "forget", SMALL, USER]
        ends.append(subprocess.run(command, capture_output=True, text=True, check=False).returncode)
        if changes == 4:
            assert materialize_dataset(SMALL, ["raw_files", "interactions"]).error is None
    assert ends[0] == 9 and ends[-1] == 0 and ends.count(9) >= 5, ends
    undisturbed = forget_user(twin, SMALL, USER, print)
    (file,) = (lake / "reports" / SMALL).glob("forgotten_*.json")
    certificate = json.loads(file.read_text(encoding="utf-8"))
    assert certificate["state"] == "done" and certificate["scan"]["traces"] == []
    assert {held["stage"] for held in certificate["results"]} == {held.stage for held in undisturbed.results}
    assert certificate["cached_rows"] == undisturbed.cached_rows
    assert not [path for path in lake.rglob("*") if is_temporary(path.name)]
    summary = materialize_dataset(SMALL)
    assert summary.error is None and rallrec("forget", SMALL, USER, "--scan").exit_code == 0


def before_lines(lake: Path) -> list[str]:
    return (lake.parent / "source" / SMALL / "ratings.csv").read_text(encoding="utf-8").splitlines()


def stage_names(lake: Path) -> list[str]:
    folder = lake / "results" / SMALL
    return [path.name for path in sorted(folder.iterdir()) if all_records(lake, SMALL, path.name)]


def models() -> set[str]:
    return {name for name, stage in STAGES.items() if not stage.partitioned}
