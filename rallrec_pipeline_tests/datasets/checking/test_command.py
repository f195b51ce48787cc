"""The command `rallrec check`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rallrec_pipeline.cli import app
from rallrec_pipeline_tests.datasets.brought import told
from rallrec_pipeline_tests.datasets.checking.good_dataset import changed, make


def test_the_command_says_what_is_ready_and_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = tmp_path / "lake"
    monkeypatch.setenv("RALLREC_LAKE", str(lake))
    path = make(tmp_path)
    done = CliRunner().invoke(app, ["check", str(path)])
    assert done.exit_code == 0, done.output
    assert f"ready: put it into {lake / 'catalog'}/ and run `rallrec run mine`" in done.output
    for words in (("ratings", "1,500"), ("samples", "1,200"), ("liked", "%")):
        assert told(done.output.splitlines(), *words)
    (lake / "catalog").mkdir(parents=True)
    listed = CliRunner().invoke(app, ["check", str(path.rename(lake / "catalog" / "mine.toml"))])
    assert listed.exit_code == 0 and "ready: run `rallrec run mine`" in listed.output
    assert CliRunner().invoke(app, ["check", "mine"]).output == listed.output
    (lake / "catalog" / "mine.toml").rename(lake / "catalog" / "mine.v2.toml")
    assert "ready: run `rallrec run mine.v2`" in CliRunner().invoke(app, ["check", "mine.v2"]).output
    unknown = CliRunner().invoke(app, ["check", "mine.v3"])
    assert unknown.exit_code == 1 and "unknown dataset 'mine.v3', did you mean 'mine.v2'? known are" in str(
        unknown.exception or unknown.output
    )


def test_data_are_no_toml_file_and_new_writes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RALLREC_LAKE", str(tmp_path / "lake"))
    make(tmp_path)
    (data,) = tmp_path.rglob("ratings.csv")
    for path, kind in ((data, "file"), (data.parent, "folder")):
        refused = CliRunner().invoke(app, ["check", str(path)])
        assert refused.exit_code == 1
        assert f"{path} is a {kind} of data: `rallrec new {path} -o NAME.toml` writes" in str(refused.exception)


def test_the_command_fails_on_problems_and_reads_no_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RALLREC_LAKE", str(tmp_path / "lake"))
    frames = changed("ratings", "stars", "[red]x[/blue]")
    done = CliRunner().invoke(app, ["check", str(make(tmp_path, **frames))])
    assert done.exit_code == 1, done.output
    assert "✗ ratings.csv, line 2: 150 of 1,500 ratings (10.00%) have a rating that is no number" in done.output
    assert "'[red]x[/blue]'" in done.output and "not ready: 2 problems" in done.output
    assert told(done.output.splitlines(), "left out of interactions: rating is not a number", "150")
    assert told(done.output.splitlines(), "neighbours of one time", "0.0%")


def test_the_command_says_that_the_data_were_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RALLREC_LAKE", str(tmp_path / "lake"))
    path = make(tmp_path, toml=(("like_above = 3", "like_above = 5"),), **changed("ratings", "stars", "9"))
    done = CliRunner().invoke(app, ["check", str(path)])
    assert done.exit_code == 1 and "not ready: 1 problem to mend" in done.output
    assert "! the data were not looked at: mend mine.toml and check again" in done.output


def test_the_command_works_without_dagster(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom rallrec_pipeline.cli import app\n"
        "try:\n    app()\nfinally:\n    print(sorted({name.split('.')[0] for name in sys.modules} & "
        "{'dagster', 'torch', 'sklearn', 'transformers'}))"
    )
    environment = os.environ | {"RALLREC_LAKE": str(tmp_path / "lake")}
    done = subprocess.run(
        [sys.executable, "-c", code, "check", str(make(tmp_path))],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
