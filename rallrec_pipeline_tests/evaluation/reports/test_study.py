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
from rallrec_pipeline.evaluation.measures.bootstrap import COLUMNS
from rallrec_pipeline.evaluation.measures.measured import compare_methods
from rallrec_pipeline.evaluation.measures.metrics import MEASURES, RAW
from rallrec_pipeline.evaluation.pages.console import print_study
from rallrec_pipeline.evaluation.pages.csv_tables import methods_csv, slices_csv
from rallrec_pipeline.evaluation.reports.study import build_study
from rallrec_pipeline.evaluation.reports.wording import counted, number
from rallrec_pipeline_tests.evaluation.examples import facts, predictions, scored, study, study_context

SEED, RESAMPLES = 3, 400


def test_figures_are_those_of_the_methods_compared_alone() -> None:
    report = study()
    measured = compare_methods(predictions(), facts(), RESAMPLES, SEED).measured
    assert list(report["methods"]) == list(measured.points) and report["n_test"] == 300
    for name, figures in report["methods"].items():
        assert [figures[measure] for measure in COLUMNS] == pytest.approx(measured.points[name].tolist())
        assert figures["n"] == 300 and figures["title"] == f"title of {name}"
        for measure in MEASURES:
            low, high = figures[f"{measure}_ci"]
            assert low <= figures[measure] <= high and figures[f"{measure}_se"] > 0


def test_differences_are_paired_with_the_reference_on_the_same_resamples() -> None:
    report = study(reference="item_mean")
    measured = compare_methods(predictions(), facts(), RESAMPLES, SEED).measured
    assert set(report["paired"]) == set(measured.points) - {"item_mean"}
    assert measured.by_users is not None and measured.by_rows is not None
    for name, found in report["paired"].items():
        for column, measure in enumerate(MEASURES):
            methods, told = report["methods"], found[measure]
            assert told["difference"] == pytest.approx(methods[name][measure] - methods["item_mean"][measure])
            for samples, suffix in ((measured.by_users, ""), (measured.by_rows, "_rows")):
                both = samples[name][:, column] - samples["item_mean"][:, column]
                if suffix and measure in ("uauc", "gauc"):
                    assert told["se_rows"] is told["p_value_rows"] is None
                    continue
                assert told[f"se{suffix}"] == pytest.approx(float(np.std(both, ddof=1)))
                assert told[f"ci{suffix}"] == pytest.approx(np.quantile(both, (0.025, 0.975)).tolist())
            if measure == "ece":
                assert told["p_value"] is told["p_holm"] is None and not told["significant"]
                continue
            assert told["p_holm"] >= told["p_value"] and told["significant"] is (told["p_holm"] < 0.05)
    assert report["paired"]["rallrec"]["auc"]["p_value"] < 0.05


def test_the_pairs_do_not_depend_on_what_else_is_compared_but_for_holms_correction() -> None:
    two = {name: frame for name, frame in predictions().items() if name in ("rallrec", "recent")}
    alone = build_study(study_context(), scored(two), RESAMPLES, facts())["paired"]["rallrec"]
    for measure, found in study()["paired"]["rallrec"].items():
        free = alone[measure]
        assert {key for key in found if found[key] != free[key]} <= {"p_holm", "significant"}
        assert measure == "ece" or free["p_holm"] == free["p_value"] <= found["p_holm"]


def test_methods_of_other_rows_are_refused() -> None:
    found = predictions()
    found["recent"] = found["recent"].head(10)
    with pytest.raises(DataError, match="not scored on the same"):
        build_study(study_context(), scored(found), RESAMPLES, facts())


def test_the_csv_has_a_line_for_each_method_with_the_figures_of_the_report() -> None:
    report = study(titles={"recent": 'costs "5", or more'})
    rows = list(csv.DictReader(io.StringIO(methods_csv(report))))
    assert [row["method"] for row in rows] == list(report["methods"])
    for row in rows:
        figures, found = report["methods"][row["method"]], report["paired"].get(row["method"])
        assert row["title"] == figures["title"] and int(row["n"]) == figures["n"]
        for measure in (*MEASURES, *RAW):
            assert float(row[measure]) == figures[measure]
        for measure in MEASURES:
            assert float(row[f"{measure}_se"]) == figures[f"{measure}_se"]
            assert [float(row[f"{measure}_{end}"]) for end in ("low", "high")] == figures[f"{measure}_ci"]
            told = [row[f"{measure}_{name}"] for name in ("difference", "difference_se", "p_value", "p_holm")]
            if found is None:
                assert row["method"] == report["reference"] and told == ["", "", "", ""]
            else:
                keys = ("difference", "se", "p_value", "p_holm")
                assert [float(part) if part else None for part in told] == [found[measure][key] for key in keys]


def test_the_csv_of_slices_has_a_line_for_each_slice_and_method() -> None:
    report = study()
    rows = list(csv.DictReader(io.StringIO(slices_csv(report))))
    parts = [
        (slicing, part, method)
        for slicing, told in report["slices"].items()
        for part in told["slices"]
        for method in report["methods"]
    ]
    assert len(rows) == len(parts) > 0
    for row, (slicing, part, method) in zip(rows, parts, strict=True):
        assert (row["slicing"], row["slice"], row["method"], row["n"]) == (
            slicing,
            part["slice"],
            method,
            str(part["n"]),
        )
        auc = part["methods"][method]["auc"]
        assert row["auc"] == ("" if auc is None else str(auc))
        told = dict(line.split(": ", 1) for line in row["not_defined"].split("; ") if line)
        assert told == part["not_defined"] and ("auc" in told) is (auc is None)


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
    report = build_study(study_context(), scored(predictions()), 1, facts())
    figures = report["methods"]["recent"]
    assert figures["auc_se"] is None and "two resamples" in figures["not_defined"]["auc_se"]
    assert "±" not in printed(report).split("differences to")[0]
