"""The page of results says of each claim what the report says, and shows no figure that is not in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rallrec_pipeline.evaluation.pages.results_page import results_page
from rallrec_pipeline.evaluation.reports.kept import kept_form
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
    return build_study(context, scored(predictions()), 400, facts())


def test_each_claim_has_its_verdict_and_its_difference() -> None:
    found = report()
    assert [claim["verdict"] for claim in found["claims"]] == ["holds", "refuted", "open"]
    page = results_page([found])
    difference = found["claims"][0]["paired"]["auc"]["difference"]
    assert f"| The tuned one is better | AUC | **holds**: +{difference:.4f} ±" in page
    assert "| The noise is better | log loss | **the opposite holds**: +" in page
    assert "| It equals itself | UAUC | **cannot be told**: +0.0000" in page


def test_a_claim_or_a_method_that_only_one_dataset_has_is_told_too() -> None:
    first, second = report(), report() | {"dataset": "other"}
    del first["claims"][0]
    page = results_page([first, second])
    assert "| The tuned one is better | AUC |  | **holds**" in page
    first["beside"] = second["beside"] = "splits"
    second["dataset"], second["study"] = first["dataset"], "another"
    del first["methods"]["item_mean"], first["tables"]["table_1"]["rows"][2]
    beside = results_page([first, second]).partition("beside each other")[2]
    assert "| item_mean |  |" in beside


def test_settings_that_lie_over_a_study_stand_beside_its_command() -> None:
    found = report()
    found["provenance"]["laid_over"] = {"prompts.test_samples": 7}
    page = results_page([found])
    assert "`rallrec run small --study s`, `prompts.test_samples = 7`: 300 test rows" in page
    kept = kept_form(found | {"provenance": found["provenance"] | {"made": {}}})
    assert results_page([kept]) == page


def test_a_table_stands_beside_the_published_figures_and_is_compared_with_its_own_reference() -> None:
    found = report()
    rows = {row["row"]: row for row in found["tables"]["table_1"]["rows"]}
    assert rows["recent"]["paired"] is None and rows["recent"]["published"] is None
    assert rows["rallrec"]["published"] == {"auc": 0.7772, "log_loss": 0.6102, "accuracy": 0.6904}
    expected = found["methods"]["rallrec"]["auc"] - found["methods"]["recent"]["auc"]
    assert abs(rows["rallrec"]["paired"]["auc"]["difference"] - expected) < 1e-12
    page = results_page([found])
    assert "| published on movielens-1m: AUC |" in page and "| 0.7772 | 0.6102 | 0.6904 |" in page
    both = found["users"]["with_both_answers"]
    assert f"`rallrec run small --study s`: 300 test rows of 40 users (UAUC of {both})." in page


def test_a_study_without_tables_is_one_table_and_no_study_is_a_sentence() -> None:
    plain = study()
    plain["provenance"] = {"command": "c"}
    page = results_page([plain])
    assert all(f"title of {name}" in page for name in plain["methods"])
    assert "No study was run yet" in results_page([])
