"""The figures and the page of the report on recommendations."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rallrec_pipeline.evaluation.pages.top_n_page import lead, ordered, render_top_n_page, summary, top_n_csv, top_n_png
from rallrec_pipeline.evaluation.reports.top_n import Ranked, build_top_n
from rallrec_pipeline.recommendation.measures import DEPTHS, names_of
from rallrec_pipeline_tests.browser import assert_pages_fit, needs_chromium

ABOUT: dict[str, Any] = {
    "dataset": "shop",
    "dataset_title": "A <b>shop</b>",
    "profile": "demo",
    "items": 30,
    "valid_users": 20,
    "test_users": 40,
    "cold_user": 10,
    "cold_item": 5,
    "cold_users": 0,
    "cold_items": 3,
    "in_force": "factorisation",
    "cost": {"candidates": {"title": "candidates", "predictions": 10, "seconds": 1.0, "seconds_per_million": 1e5}},
    "provenance": {},
}


def ranked(title: str, level: float, users: int = 40, valid: float | None = None) -> Ranked:
    rng = np.random.default_rng(0)  # the same users for all

    def by_user(count: int, around: float) -> dict[str, np.ndarray]:
        return {name: np.clip(rng.normal(around, 0.1, count), 0, 1) for name in names_of()}

    return Ranked(
        title,
        by_user(20, level if valid is None else valid),
        by_user(users, level),
        by_user(0, level),
        {name: np.where(np.arange(users) < 3, 0.5, np.nan) for name in names_of()},
        {f"coverage_at_{k}": 0.1 for k in DEPTHS},
        2.0,
        1_000_000,
    )


def report(users: int = 40) -> dict[str, Any]:
    methods = {
        "popularity": ranked("popularity", 0.2, users),
        "item_knn": ranked("item <kNN>", 0.4, users),
        "lucky": ranked("lucky on test", 0.6, users, valid=0.1),
    }
    return build_top_n(methods, ABOUT, resamples=200, seed=0)


def test_validation_chooses_and_test_is_told_with_paired_differences() -> None:
    found = report()
    assert found["chosen"] == "item_knn" and ordered(found)[0] == "lucky"
    told = found["methods"]["item_knn"]["test"]["ndcg_at_10"]
    assert told["ci"][0] < told["value"] < told["ci"][1] and told["users"] == 40
    against = found["against_chosen"]
    assert against["popularity"]["ndcg_at_10"]["difference"] == pytest.approx(0.2, abs=0.02)
    assert against["popularity"]["ndcg_at_10"]["significant"] and against["lucky"]["ndcg_at_10"]["difference"] < 0
    assert found["methods"]["item_knn"]["seconds_per_million"] == 2.0
    (line,) = (one for one in lead(found) if "Holm's" in one)
    assert "Of 2 others it is better by NDCG@10 than 1 and worse than 1, told apart" in line
    json.dumps(found, allow_nan=False)


def test_what_asking_changes_is_told_by_every_measure_on_the_same_users_and_a_loss_stays() -> None:
    methods = {"expert": ranked("expert", 0.4), "worse": ranked("worse", 0.3), "same": ranked("same", 0.4)}
    line = {"asked": 5, "valid_ndcg_at_10": 0.1, "test_ndcg_at_10": 0.2, "test_recall_at_10": None}
    pairs = {"worse": "expert", "same": "expert"}
    found = build_top_n(methods, ABOUT | {"by_shortlist": [line]}, resamples=200, seed=0, pairs=pairs)
    worse, same = found["pairs"]["worse"], found["pairs"]["same"]
    assert worse["other"] == "expert" and set(worse) - {"other"} == {
        f"{measure}_at_{k}" for measure in ("ndcg", "recall") for k in DEPTHS
    }
    assert all(worse[f"ndcg_at_{k}"]["difference"] == pytest.approx(-0.1, abs=0.02) for k in DEPTHS)
    assert worse["ndcg_at_10"]["significant"] and not same["ndcg_at_10"]["significant"]
    told = list(lead(found))
    assert any("worse: asking the LLM changes NDCG@10 by −0.1" in one for one in told)
    assert any("same: " in one and "not told apart from none" in one for one in told)
    page = render_top_n_page(found)
    assert "What asking the LLM changes" in page and "By the candidates of a user" in page
    json.dumps(found, allow_nan=False)


def test_users_without_a_figure_are_left_out_of_its_mean() -> None:
    told = report()["methods"]["item_knn"]["cold_items"]["recall_at_5"]
    assert told["value"] == 0.5 and told["users"] == 3


def test_the_page_tells_all_and_escapes_what_is_not_ours() -> None:
    found = report()
    page = render_top_n_page(found)
    assert "item &lt;kNN&gt;" in page and "<b>shop</b>" not in page and "<script" not in page
    assert "Chosen on validation users is item <kNN>" in next(lead(found)) and "There is none." in page
    assert summary(found).count("\n") == 4 and top_n_png(found).startswith(b"\x89PNG")
    rows = list(csv.DictReader(io.StringIO(top_n_csv(found))))
    assert len(rows) == 12 and {row["part"] for row in rows} == {"valid", "test", "cold_users", "cold_items"}


def test_a_report_of_no_user_is_a_page_too() -> None:
    found = report(users=0)
    assert found["methods"]["popularity"]["test"]["ndcg_at_10"]["value"] is None
    assert "Nothing is measured" in next(lead(found)) and "recommendations" in render_top_n_page(found)


@pytest.mark.process
@needs_chromium
def test_the_page_fits_a_phone_and_a_desktop_in_light_and_dark(tmp_path: Path) -> None:
    assert_pages_fit({"recommendations": render_top_n_page(report())}, tmp_path)
