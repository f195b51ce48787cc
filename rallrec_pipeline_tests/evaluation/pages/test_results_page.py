"""The page of results says of each claim what the report says, and shows no figure that is not in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rallrec_pipeline.evaluation.pages.results_page import results_page
from rallrec_pipeline.evaluation.reports.study import build_study
from rallrec_pipeline.evaluation.reports.study_parts import StudyParts
from rallrec_pipeline_tests.evaluation.examples import facts, predictions, scored, study, study_context

CLAIMS = [
    {"says": "The tuned one is better", "better": "rallrec", "than": "item_mean", "by": "auc"},
    {"says": "The noise is better", "better": "item_mean", "than": "rallrec", "by": "log_loss"},
    {"says": "It equals itself", "better": "rallrec", "than": "rallrec", "by": "uauc"},
]
TABLE = {
    "title": "Table 1",
    "note": "",
    "published": "rallrec_table_1_main",
    "reference": "recent",
    "rows": {"rallrec": "rallrec", "recent": "", "item_mean": "deepfm"},
}


def report() -> Any:
    parts = StudyParts({"table_1": TABLE}, {}, CLAIMS, "movielens-1m")
    context = replace(study_context(), parts=parts, provenance={"command": "rallrec run small --study s"})
    return build_study(context, scored(predictions()), 100, facts())


def test_each_claim_has_its_verdict_and_its_difference() -> None:
    found = report()
    assert [claim["verdict"] for claim in found["claims"]] == ["holds", "refuted", "open"]
    page = results_page([found])
    difference = found["claims"][0]["paired"]["auc"]["difference"]
    assert f"| The tuned one is better | AUC | **holds**: +{difference:.4f} ±" in page
    assert "| The noise is better | log loss | **the opposite holds**: +" in page
    assert "| It equals itself | UAUC | **cannot be told**: +0.0000" in page


def test_a_table_stands_beside_the_published_figures_and_is_compared_with_its_own_reference() -> None:
    found = report()
    rows = {row["row"]: row for row in found["tables"]["table_1"]["rows"]}
    assert rows["recent"]["paired"] is None and rows["recent"]["published"] is None
    assert rows["rallrec"]["published"] == {"auc": 0.7772, "log_loss": 0.6102, "accuracy": 0.6904}
    expected = found["methods"]["rallrec"]["auc"] - found["methods"]["recent"]["auc"]
    assert abs(rows["rallrec"]["paired"]["auc"]["difference"] - expected) < 1e-12
    page = results_page([found])
    assert "| published on movielens-1m: AUC |" in page and "| 0.7772 | 0.6102 | 0.6904 |" in page
    assert "`rallrec run small --study s`: 300 test rows of 40 users." in page


def test_a_study_without_tables_is_one_table_and_no_study_is_a_sentence() -> None:
    plain = study()
    plain["provenance"] = {"command": "c"}
    page = results_page([plain])
    assert all(f"title of {name}" in page for name in plain["methods"])
    assert "No study was run yet" in results_page([])
