"""Studies outlive their lake: what is kept makes the same page, and the newest report of a study is told of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rallrec_pipeline.cli import app, reports
from rallrec_pipeline.cli.reports import KEPT
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.evaluation.pages.results_page import results_page
from rallrec_pipeline.evaluation.reports.kept import kept_form, newest
from rallrec_pipeline.evaluation.reports.study import build_study
from rallrec_pipeline.lake.files import write_json
from rallrec_pipeline.lake.store import Record, finish_result, publish_links, unfinished_result
from rallrec_pipeline.pipeline.studies.kept import keep_studies, kept_studies, lake_studies
from rallrec_pipeline_tests.evaluation.examples import facts, parts, predictions, scored, study, study_context
from rallrec_pipeline_tests.evaluation.reasoning_examples import responses

DAY = "2026-11-29T10:00:00+00:00"


def told(at: str | None = DAY, **changes: Any) -> dict[str, Any]:
    """A study with tables, figures and claims, as it is read from a lake."""
    made = {"at": at, "machines": ["A processor, 2 threads"]}
    report = build_study(study_context(parts=parts(), **changes), scored(predictions()), 100, facts())
    return report | {"provenance": report["provenance"] | {"made": made}}


def put_in_lake(lake: Path, report: dict[str, Any], at: str = DAY) -> None:
    """`report` as the result of a study, with its link among the reports."""
    stage, fingerprint = f"study_{report['study']}", "f" * 32
    record = Record(stage, report["dataset"], fingerprint, "", {}, {}, "2", "run", at, 1.0)
    with unfinished_result(lake, report["dataset"], stage, fingerprint) as draft:
        file = draft / "reports" / report["dataset"] / f"{stage}.json"
        write_json(file, report)
        made = finish_result(lake, draft, record, [file], None)
    publish_links(lake, made)


def test_a_kept_study_is_small_and_makes_the_same_page() -> None:
    report = told()
    kept = json.loads(json.dumps(kept_form(report), allow_nan=False))
    assert results_page([kept]) == results_page([report])
    assert len(json.dumps(kept)) < len(json.dumps(report)) / 4
    plain = study()
    plain["provenance"]["made"] = {"at": None, "machines": []}
    assert results_page([kept_form(plain)]) == results_page([plain])  # a study without tables is one table


def test_a_report_of_an_earlier_version_is_kept_and_told_of_too() -> None:
    report = told(responses={"one": responses()})
    old = {name: value for name, value in report.items() if name != "beside"}
    old["figures"] = {
        name: {
            "title": one["title"],
            "x": one["x"],
            "lines": {line: _bare(part) for line, part in one["lines"].items()},
        }
        for name, one in report["figures"].items()
    }
    cascade = report["responses"]["one"]["cascades"]["cascade"]
    old["responses"]["one"]["cascades"] = {"cascade": cascade | {"curve": _bare(cascade["curve"])}}
    page = results_page([kept_form(old)])
    assert "**More samples** (AUC)" in page and f"| {cascade['curve'][0]['auc']:.4f} |" in page


def _bare(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Points without errors but that of AUC, as they once were."""
    return [{k: v for k, v in point.items() if not k.endswith(("_se", "_ci"))} for point in points]


def test_a_cascade_is_told_at_a_few_shares_with_its_knee_and_its_tokens() -> None:
    page = results_page([told(responses={"one": responses()})])
    heading, table = page.split("over the share of rows asked** ")[1].split("\n", 1)
    assert heading == "(in order of doubt; knee of validation rows 35%; probabilities before calibration)"
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert [line.split(" | ")[0] for line in lines[2:7]] == ["| 0%", "| 10%", "| 20%", "| 50%", "| 100%"]
    assert lines[6].endswith("| 420,000,000 |") and lines[6].count("±") == 3


def test_the_page_tells_day_machine_and_figures() -> None:
    page = results_page([told()])
    assert "Made on 2026-11-29, by A processor, 2 threads." in page
    assert "**More samples** (AUC)" in page and "| samples | tuned | plain |" in page
    assert "Made" not in results_page([told(at=None) | {"provenance": {"command": "c"}}])


def test_of_two_reports_of_a_study_the_newest_counts_and_that_of_the_lake_where_they_are_of_one_time() -> None:
    old, new, other = told("2026-11-28T10:00:00+00:00"), told(), told(dataset="bookcrossing")
    assert newest([old, new, other]) == [other, new]
    assert newest([new, old]) == [new] and newest([told(at=None), old]) == [old]
    again = kept_form(new)
    assert newest([new, again])[0] is new


def test_studies_of_other_rows_stand_beside_each_other_without_a_p() -> None:
    one, other = told(name="split_time", beside="splits"), told(name="split_last", beside="splits")
    page = results_page([kept_form(one), kept_form(other)])
    table = page.split("## Splits of MovieLens-100K, beside each other")[1]
    assert "| method | split_time: AUC | split_time: UAUC | split_last: AUC | split_last: UAUC |" in table
    assert "| | 300 test rows of 40 users," in table and " p = " not in table
    assert "beside each other" not in results_page([one])


def test_a_study_is_read_from_the_lake_with_its_day_and_kept_as_a_file_of_its_own(tmp_path: Path) -> None:
    lake, folder = tmp_path / "lake", tmp_path / "kept"
    report = build_study(replace(study_context(), parts=parts()), scored(predictions()), 100, facts())
    put_in_lake(lake, report)
    found = lake_studies(lake)
    assert found[0]["provenance"]["made"] == {"at": DAY, "machines": []}
    files = keep_studies(found, folder)
    assert [file.name for file in files] == ["movielens-100k-which.json"]
    kept = kept_studies(folder)
    assert kept[0]["provenance"]["made"]["at"] == DAY
    assert kept_studies(tmp_path / "no folder") == []


def test_the_command_tells_of_lost_lakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, folder, page = tmp_path / "lake", tmp_path / "results", tmp_path / "results.md"
    monkeypatch.setenv("RALLREC_LAKE", str(lake))
    put_in_lake(lake, build_study(study_context(parts=parts()), scored(predictions()), 100, facts()))
    assert CliRunner().invoke(app, ["results", "--keep", str(folder), "--kept", str(folder)]).exit_code == 0
    monkeypatch.setenv("RALLREC_LAKE", str(tmp_path / "another lake"))
    done = CliRunner().invoke(app, ["results", "--kept", str(folder), "--out", str(page)])
    assert done.exit_code == 0 and "from 1 report" in done.output
    assert "## Which is best?" in page.read_text(encoding="utf-8")


def test_the_studies_of_this_project_are_told_of_wherever_the_command_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RALLREC_LAKE", str(tmp_path / "lake"))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["results", "--out", "page.md"])
    assert done.exit_code == 0 and done.output.startswith("wrote page.md from ")
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert all(f"--study {file.stem.rpartition('-')[2]}" in text for file in KEPT.glob("*.json"))


def test_where_no_study_is_kept_two_lines_say_so_and_a_folder_that_is_asked_for_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RALLREC_LAKE", str(tmp_path / "lake"))
    monkeypatch.setattr(reports, "KEPT", tmp_path / "site-packages" / "docs" / "results")
    done = CliRunner().invoke(app, ["results"])
    assert done.exit_code == 0 and "No study was run yet" in done.stdout
    assert "docs/results of its repository, and --kept names" in done.stderr
    refused = CliRunner().invoke(app, ["results", "--kept", str(tmp_path / "nowhere")])
    assert refused.exit_code == 1 and f"there is no folder {tmp_path / 'nowhere'}" in str(refused.exception)


@pytest.mark.parametrize("content", ["[1]", "{", '{"study": "x", "provenance": {}}'])
def test_a_file_that_is_no_kept_study_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"x\.json"):
        kept_studies(tmp_path)
