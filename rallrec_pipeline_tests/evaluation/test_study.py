"""Figures of a study against `evaluate`, its paired differences, its CSV, and what the terminal says of it."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.evaluation.console import print_study
from rallrec_pipeline.evaluation.metrics import METRICS, evaluate
from rallrec_pipeline.evaluation.report import align_predictions
from rallrec_pipeline.evaluation.significance import bootstrap_metrics
from rallrec_pipeline.evaluation.study import build_study, study_csv
from rallrec_pipeline.evaluation.wording import counted, number
from rallrec_pipeline_tests.evaluation.examples import predictions, study, study_context

SEED, RESAMPLES = 3, 100


def test_figures_are_those_of_evaluate() -> None:
    report = study()
    _, labels, scores = align_predictions(predictions())
    assert list(report["methods"]) == list(scores) and report["n_test"] == labels.size
    for name, figures in report["methods"].items():
        point = evaluate(labels, scores[name]).as_array()
        assert [figures[metric] for metric in METRICS] == pytest.approx(point.tolist())
        assert figures["n"] == labels.size
        for metric in METRICS:
            low, high = figures[f"{metric}_ci"]
            assert low < figures[metric] < high and figures[f"{metric}_se"] > 0


def test_differences_are_paired_with_the_reference_on_the_same_resamples() -> None:
    report = study(reference="item_mean")
    _, labels, scores = align_predictions(predictions())
    samples = bootstrap_metrics(labels, scores, RESAMPLES, SEED)
    assert set(report["paired"]) == set(scores) - {"item_mean"}
    for name, found in report["paired"].items():
        for column, metric in enumerate(METRICS):
            methods, told = report["methods"], found[metric]
            assert told["difference"] == pytest.approx(methods[name][metric] - methods["item_mean"][metric])
            both = samples[name][:, column] - samples["item_mean"][:, column]
            assert told["se"] == pytest.approx(float(np.std(both, ddof=1)))
            assert told["ci"] == pytest.approx(np.quantile(both, (0.025, 0.975)).tolist())
    assert report["paired"]["rallrec"]["auc"]["p_value"] < 0.05


def test_the_pairs_do_not_depend_on_what_else_is_compared() -> None:
    two = {name: frame for name, frame in predictions().items() if name in ("rallrec", "recent")}
    titles = dict.fromkeys(two, "t")
    alone = build_study(study_context(), two, titles, RESAMPLES)
    assert alone["paired"]["rallrec"] == study()["paired"]["rallrec"]


def test_methods_of_other_rows_are_refused() -> None:
    found = predictions()
    found["recent"] = found["recent"].head(10)
    with pytest.raises(DataError, match="not scored on the same"):
        build_study(study_context(), found, dict.fromkeys(found, "t"), RESAMPLES)


def test_the_csv_has_a_line_for_each_method_with_the_figures_of_the_report() -> None:
    report = study(titles={"recent": 'costs "5", or more'})
    rows = list(csv.DictReader(io.StringIO(study_csv(report))))
    assert [row["method"] for row in rows] == list(report["methods"])
    for row in rows:
        figures, found = report["methods"][row["method"]], report["paired"].get(row["method"])
        assert row["title"] == figures["title"] and int(row["n"]) == figures["n"]
        for metric in METRICS:
            assert float(row[metric]) == figures[metric] and float(row[f"{metric}_se"]) == figures[f"{metric}_se"]
        told = [row[name] for name in ("auc_difference", "auc_difference_se", "auc_p_value")]
        if found is None:
            assert row["method"] == report["reference"] and told == ["", "", ""]
        else:
            assert [float(part) for part in told] == [found["auc"][name] for name in ("difference", "se", "p_value")]


def printed(report: Any) -> str:
    console = Console(record=True, width=140, file=io.StringIO())
    print_study(report, console, {"report": Path("study.html"), "figures": Path("study.json")})
    return console.export_text()


def test_the_terminal_tells_figures_differences_results_and_files() -> None:
    report = study(titles={"recent": "the [last] five"})
    text = printed(report)
    found = report["paired"]["rallrec"]["auc"]
    assert f"{number(found['difference'], 4, sign=True)} ± {number(found['se'], 4)}" in text
    assert "the [last] five" in text and "300 test rows" in text
    assert "2 variants need 6 results, of which 5 are distinct" in text
    assert "report: study.html" in text and "figures: study.json" in text


def test_one_is_told_as_one() -> None:
    assert (counted(1, "variant"), counted(0, "variant"), counted(2000, "row")) == (
        "1 variant",
        "0 variants",
        "2,000 rows",
    )
    text = printed(study(variants={"one": {"samples": "a" * 32}}))
    assert "1 variant needs 1 result, of which 1 is distinct" in text


def test_one_resample_gives_no_error_and_breaks_nothing() -> None:
    report = build_study(study_context(), predictions(), dict.fromkeys(predictions(), "t"), 1)
    assert report["methods"]["recent"]["auc_se"] is None
    assert "±" not in printed(report).split("differences to")[0]
