"""Rows that leave measures undefined: a report has figures or reasons, no NaN, and its pages can be drawn."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from io import StringIO
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from rallrec_pipeline.evaluation.measures.metrics import MEASURES
from rallrec_pipeline.evaluation.pages.console import print_report, print_study
from rallrec_pipeline.evaluation.pages.csv_tables import methods_csv, slices_csv
from rallrec_pipeline.evaluation.pages.evaluation_page import render_html
from rallrec_pipeline.evaluation.pages.study_page import render_study
from rallrec_pipeline.evaluation.plots.report_plots import report_plots, study_plots
from rallrec_pipeline.evaluation.reports.evaluation_report import ReportContext, build_report
from rallrec_pipeline.evaluation.reports.study import build_study
from rallrec_pipeline_tests.evaluation.examples import facts, predictions, scored, study_context

CONTEXT = ReportContext("d", "D", "demo", 0, 10)
NAMES = ("rallrec", "recent", "boosted_trees")


def report_of(
    test: pl.DataFrame, valid: pl.DataFrame, rows: pl.DataFrame | None = None, resamples: int = 30
) -> dict[str, Any]:
    """A report of three methods on `test` and `valid`: `label` and `p_yes`; the methods differ a little."""
    both = pl.concat([test.with_columns(split=pl.lit("test")), valid.with_columns(split=pl.lit("valid"))])
    both = both.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("sample_id"), pl.col("label").cast(pl.Int8))
    frames = {name: both.with_columns(p_yes=pl.col("p_yes") ** power) for power, name in enumerate(NAMES, start=1)}
    if rows is not None:
        rows = rows.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("sample_id"))
    return build_report(CONTEXT, scored(frames), rows, resamples)


def frame(labels: list[int], p: list[float] | None = None) -> pl.DataFrame:
    chosen = p if p is not None else np.linspace(0.1, 0.9, len(labels)).tolist()
    return pl.DataFrame({"label": labels, "p_yes": chosen}, schema={"label": pl.Int64, "p_yes": pl.Float64})


def users(*names: str | None) -> pl.DataFrame:
    return pl.DataFrame(
        {"user_id": names, "item_id": ["i"] * len(names), "history_length": [3] * len(names)}
        | {"item_train_count": [7] * len(names)},
        schema_overrides={"user_id": pl.String, "item_id": pl.String},
    )


def assert_it_says_why(report: Mapping[str, Any]) -> None:
    """Every null measure or error has a reason, and everything that is drawn of the report is drawn."""
    json.dumps(report, allow_nan=False)
    for figures in report["methods"].values():
        for measure in MEASURES:
            if figures[measure] is None:
                assert figures["not_defined"][measure] and figures[f"{measure}_se"] is None
            elif figures[f"{measure}_se"] is None:
                assert figures["not_defined"][f"{measure}_se"]
            else:
                assert measure not in figures["not_defined"]
        if figures["calibration"] is None:
            assert figures["not_defined"]["calibration"]
            assert figures["log_loss"] == figures["log_loss_raw"]
    for told in report["slices"].values():
        assert (told["slices"] == []) is (told["not_defined"] is not None)
        for part in told["slices"]:
            for figures in part["methods"].values():
                for measure in ("auc", "uauc", "log_loss"):
                    if figures[measure] is None:
                        assert part["not_defined"][measure]
    page = render_html(report, report_plots(report))
    print_report(report, Console(file=(printed := StringIO()), width=160))
    assert methods_csv(report).count("\n") == 1 + len(report["methods"]) and slices_csv(report)
    assert not re.search(r"\bnan\b", page.lower() + printed.getvalue().lower())


def why(report: Mapping[str, Any], key: str) -> str:
    """The reason that all methods give."""
    (reason,) = {figures["not_defined"][key] for figures in report["methods"].values()}
    return str(reason)


VALID = frame([0, 1, 1, 0, 1], [0.2, 0.7, 0.4, 0.5, 0.9])


@pytest.mark.parametrize(("label", "word"), [(1, "liked"), (0, "disliked")])
def test_test_rows_of_one_class_have_no_auc_and_all_other_figures(label: int, word: str) -> None:
    report = report_of(frame([label] * 4), VALID, users("a", "a", "b", "b"))
    assert why(report, "auc") == f"all 4 rows are {word}"
    assert why(report, "uauc") == why(report, "gauc") == "no user has both a liked and a disliked row"
    figures = report["methods"]["rallrec"]
    assert figures["log_loss"] > 0 and figures["log_loss_se"] > 0 and figures["ece"] is not None
    assert report["best"]["auc"] is None and report["best"]["log_loss"]["method"] in NAMES
    assert report["curves"]["rallrec"]["roc"] is None
    assert_it_says_why(report)
    assert f"AUC: not defined, because all 4 rows are {word}" in render_html(report, {})


@pytest.mark.parametrize(
    ("valid", "reason"),
    [(frame([1] * 3), "all 3 validation rows are liked"), (frame([]), "it has no validation rows")],
)
def test_validation_rows_of_one_class_calibrate_nothing_and_choose_nothing(valid: pl.DataFrame, reason: str) -> None:
    report = report_of(frame([0, 1, 0, 1]), valid, users("a", "a", "b", "b"))
    assert why(report, "calibration") == why(report, "validation_auc") == reason
    assert report["reference"] == {
        "method": "boosted_trees",
        "chosen_by": None,
        "not_defined": "validation rows give no AUC, so none was chosen by it",
    }
    assert_it_says_why(report)


def test_one_user_or_none_has_figures_and_no_error_over_users() -> None:
    test = frame([0, 1, 0, 1, 1])
    for rows, reason in (
        (users(*"aaaaa"), "all rows are of one user"),
        (users(None, *"abcd"), "the rows have no users to resample"),
        (None, "the rows have no users to resample"),
    ):
        report = report_of(test, VALID, rows)
        assert why(report, "auc_se") == why(report, "log_loss_se") == reason
        figures = report["methods"]["rallrec"]
        assert figures["auc"] > 0 and figures["auc_se"] is None and figures["auc_se_rows"] > 0
        pair = report["paired"]["rallrec - boosted_trees"]["log_loss"]
        assert pair["p_value"] is pair["p_holm"] is None and not pair["significant"] and pair["se_rows"] > 0
        assert (figures["uauc"] is None) is (reason != "all rows are of one user")
        assert_it_says_why(report)


def test_users_with_one_row_each_have_errors_and_no_uauc() -> None:
    report = report_of(frame([0, 1, 0, 1]), VALID, users(*"abcd"))
    assert why(report, "uauc") == "no user has both a liked and a disliked row"
    assert report["users"] == {"n": 4, "with_both_answers": 0}
    assert report["methods"]["rallrec"]["auc_se"] is not None
    assert_it_says_why(report)


def test_one_user_with_both_answers_has_a_uauc_without_an_error() -> None:
    report = report_of(frame([0, 1, 0, 0]), VALID, users(*"aabb"))
    assert report["methods"]["rallrec"]["uauc"] == 1 and report["methods"]["rallrec"]["uauc_users"] == 1
    assert why(report, "uauc_se") == "only one user has both a liked and a disliked row"
    assert_it_says_why(report)


def test_no_test_row_at_all_says_so() -> None:
    report = report_of(frame([]), VALID, users())
    assert why(report, "auc") == why(report, "log_loss") == "there are no rows"
    assert report["n_test"] == 0 and report["share_liked"] is None
    assert_it_says_why(report)


def test_a_method_of_one_p_ranks_nothing() -> None:
    report = report_of(frame([0, 1, 0, 1], [0.5] * 4), VALID, users(*"aabb"))
    figures = report["methods"]["rallrec"]
    assert figures["auc"] == figures["uauc"] == 0.5
    assert_it_says_why(report)


def test_a_method_without_validation_rows_is_judged_as_it_is_and_the_others_are_calibrated() -> None:
    frames = predictions()
    frames["recent"] = frames["recent"].filter(pl.col("split") == "test")
    report = build_report(CONTEXT, scored(frames), facts(), 20)
    assert report["methods"]["recent"]["not_defined"]["calibration"] == "it has no validation rows"
    assert report["methods"]["recent"]["validation_auc"] is None
    assert report["methods"]["rallrec"]["calibration"] is not None and report["validation"]["n"] == 100
    apart = predictions()
    valid = pl.col("split") == "valid"
    apart["recent"] = apart["recent"].filter(~valid | (pl.col("sample_id") >= 1350))
    apart["rallrec"] = apart["rallrec"].filter(~valid | (pl.col("sample_id") < 1350))
    report = build_report(CONTEXT, scored(apart), facts(), 20)
    assert why(report, "calibration") == "there are no validation rows that all methods have"


def test_methods_are_calibrated_on_the_validation_rows_that_all_have() -> None:
    frames = predictions()
    fewer = frames | {"recent": frames["recent"].filter(pl.col("sample_id") < 1360)}
    report = build_report(CONTEXT, scored(fewer), facts(), 20)
    cut = {name: frame.filter(pl.col("sample_id") < 1360) for name, frame in frames.items()}
    assert report["validation"]["n"] == 60
    assert report["methods"] == build_report(CONTEXT, scored(cut), facts(), 20)["methods"]


def test_a_study_of_one_class_is_told_and_drawn() -> None:
    frames = {name: frame.with_columns(label=pl.lit(1, pl.Int8)) for name, frame in predictions().items()}
    report = build_study(study_context(), scored(frames), 20, facts())
    json.dumps(report, allow_nan=False)
    page = render_study(report, study_plots(report))
    assert "No method has an AUC: all 300 rows are liked." in page and "AUC: not defined, because" in page
    print_study(report, Console(file=(printed := StringIO()), width=160), {})
    assert "300 test rows" in printed.getvalue()


@settings(max_examples=40)
@given(
    st.integers(0, 2**31),
    st.integers(0, 20),
    st.integers(0, 6),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.booleans(),
)
def test_twenty_interactions_or_fewer_of_any_kind_make_a_report(
    seed: int, rows: int, valid: int, n_users: int, liked: float, tied: bool
) -> None:
    rng = np.random.default_rng(seed)

    def some(n: int) -> pl.DataFrame:
        p = rng.random(n).round(1) if tied else rng.random(n)
        return frame((rng.random(n) < liked).astype(int).tolist(), p.tolist())

    whose = [f"u{user}" for user in rng.integers(0, n_users, rows)]
    report = report_of(some(rows), some(valid), users(*whose), resamples=5)
    json.dumps(report, allow_nan=False)
    for figures in report["methods"].values():
        for measure in MEASURES:
            assert (figures[measure] is None) is (measure in figures["not_defined"])
            if figures[measure] is not None and figures[f"{measure}_se"] is None:
                assert figures["not_defined"][f"{measure}_se"]
