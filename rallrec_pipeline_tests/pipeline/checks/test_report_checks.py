"""What a reader of the report is warned of: a mean that ranks better, a drop, probabilities that are off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rallrec_pipeline.lake.files import write_json
from rallrec_pipeline.pipeline.checks.reports import (
    STAGE,
    better_than_item_mean,
    no_drop_against_the_last,
    probabilities_are_calibrated,
)
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.stages.reports import report_files
from rallrec_pipeline.settings import load_settings
from rallrec_pipeline_tests.pipeline.given import looking_run, store


@pytest.fixture
def run(tmp_path: Path) -> StageRun:
    return looking_run(tmp_path, "shop", load_settings("demo"))


def give_report(run: StageRun, at: str, auc: float | None = 0.7, profile: str = "demo", **changes: Any) -> None:
    """A report that was made at a time; the last one given is in force."""
    ours = {"auc": auc, "auc_se": 0.02, "ece": 0.04, "ece_ci": [0.01, 0.06]} | changes
    report = {"profile": profile, "n_test": 100, "methods": {"rallrec": ours, "item_mean": {"auc": 0.65}}}

    def write(root: Path) -> list[Path]:
        file, _ = report_files(root, run.dataset)
        write_json(file, report)
        return [file]

    assert isinstance(run.inputs, dict)
    run.inputs[STAGE] = store(run.lake, run.dataset, STAGE, write, created_at=at)


@pytest.mark.parametrize(("auc", "holds"), [(0.7, True), (0.64, False), (0.65, False), (None, True)])
def test_the_mean_of_an_item_is_to_be_beaten(run: StageRun, auc: float | None, holds: bool) -> None:
    give_report(run, "1", auc)
    assert better_than_item_mean(run).passed is holds


@pytest.mark.parametrize(("auc", "holds"), [(0.69, True), (0.665, True), (0.65, False), (0.8, True)])
def test_a_drop_of_more_than_chance_is_told(run: StageRun, auc: float, holds: bool) -> None:
    give_report(run, "1", 0.9)
    give_report(run, "2", 0.7)
    give_report(run, "3", 0.95, profile="full")  # another variant is no earlier state of this one
    give_report(run, "4", auc)
    found = no_drop_against_the_last(run)
    assert found.passed is holds and found.figures["auc_before"] == 0.7


def test_a_first_report_is_compared_with_nothing(run: StageRun) -> None:
    give_report(run, "1", 0.9, profile="full")
    give_report(run, "2")
    assert no_drop_against_the_last(run).passed and "no earlier report" in no_drop_against_the_last(run).figures["note"]


@pytest.mark.parametrize(
    ("changes", "holds"),
    [({}, True), ({"ece": 0.2, "ece_ci": [0.04, 0.3]}, True), ({"ece_ci": [0.06, 0.3]}, False), ({"ece_ci": []}, True)],
)
def test_only_what_surely_is_off_is_told(run: StageRun, changes: dict[str, Any], holds: bool) -> None:
    give_report(run, "1", **changes)
    assert probabilities_are_calibrated(run).passed is holds
