from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.evaluation.console import print_report
from rallrec_pipeline.evaluation.html import render_html
from rallrec_pipeline.evaluation.metrics import evaluate
from rallrec_pipeline.evaluation.papers import PAPER_DATASETS, paper_figures
from rallrec_pipeline.evaluation.report import ReportContext, build_report
from rallrec_pipeline.evaluation.wording import duration, headline, p_text, verdict
from rallrec_pipeline_tests.evaluation.examples import predictions, report
from rallrec_pipeline_tests.evaluation.test_significance import paired_bootstrap

CONTEXT = ReportContext("d", "D", "demo", 0, 10)


def test_report_survives_json_without_nan() -> None:
    found = report(provenance={"path": Path("a/b"), "loss": float("nan")})
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["provenance"] == {"path": "a/b", "loss": None}


def test_report_holds_the_metrics_of_each_method_on_the_shared_rows() -> None:
    found, frames = report(), predictions()
    assert list(found["methods"]) == list(frames)
    for method, figures in found["methods"].items():
        metrics = evaluate(frames[method]["label"].to_numpy(), frames[method]["p_yes"].to_numpy())
        assert figures["auc"] == pytest.approx(metrics.auc)
        assert figures["log_loss"] == pytest.approx(metrics.log_loss)
        assert figures["auc_ci"][0] < figures["auc"] < figures["auc_ci"][1]
        assert figures["n"] == found["n_test"] == 300
    kinds = {method: figures["kind"] for method, figures in found["methods"].items()}
    assert kinds["boosted_trees"] == kinds["item_mean"] == "baseline"
    assert kinds["rallrec"] == kinds["recent"] == "llm"
    assert found["methods"]["rallrec"]["seconds"] == 403.0 and found["methods"]["recent"]["seconds"] is None


def test_pairs_are_rallrec_minus_each_other_method_boosted_trees_first() -> None:
    found, frames = report(), predictions()
    assert next(iter(found["paired"])) == "rallrec - boosted_trees"
    assert set(found["paired"]) == {f"rallrec - {m}" for m in frames if m != "rallrec"}
    p = {method: frame["p_yes"].to_numpy() for method, frame in frames.items()}
    expected = paired_bootstrap(frames["rallrec"]["label"].to_numpy(), p["rallrec"], p["item_mean"], 100, seed=3)
    assert found["paired"]["rallrec - item_mean"]["auc"]["difference"] == pytest.approx(expected["auc"].difference)
    assert found["paired"]["rallrec - item_mean"]["auc"]["se"] == pytest.approx(expected["auc"].se)


def test_order_of_rows_is_no_matter_but_other_rows_and_labels_are_refused() -> None:
    frames = predictions()
    shuffled = frames | {"recent": frames["recent"].sample(fraction=1, shuffle=True, seed=1)}
    assert build_report(CONTEXT, shuffled, {}, {}, 20) == build_report(CONTEXT, frames, {}, {}, 20)
    wrong = {
        "not scored on the same": [
            frames["recent"].head(299),
            frames["recent"].with_columns(label=1 - pl.col("label")),
        ],
        "repeat sample ids": [pl.concat([frames["recent"], frames["recent"].head(1)])],
        "not in": [frames["recent"].with_columns(p_yes=pl.lit(None, pl.Float64))],
    }
    for words, broken in wrong.items():
        for frame in broken:
            with pytest.raises(DataError, match=words):
                build_report(CONTEXT, frames | {"recent": frame}, {}, {}, 20)
    with pytest.raises(DataError, match="no predictions"):
        build_report(CONTEXT, {}, {}, {})


def test_paper_figures_are_those_of_both_main_tables() -> None:
    figures = paper_figures("movielens-1m")
    by_key = {(row["paper"], row["method"]): row for row in figures["rows"]}
    assert by_key["rallrec", "rallrec"]["auc"] == 0.7772
    assert by_key["rallrec_plus", "rallrec_plus"]["log_loss"] == 0.6118
    assert by_key["rallrec", "rella"]["accuracy"] == 0.6804
    assert len(by_key) == len(figures["rows"]) == 10
    assert all(len(paper_figures(name)["rows"]) == 10 for name in PAPER_DATASETS)
    assert paper_figures(None)["rows"] == []
    with pytest.raises(DataError, match="choose one of"):
        paper_figures("netflix")


def test_verdict_follows_the_paired_difference() -> None:
    found = report()
    pair = found["paired"]["rallrec - boosted_trees"]["auc"]
    for difference, p_value, words in (
        (0.01, 0.01, "earns its cost in ranking"),
        (-0.01, 0.01, "does not earn"),
        (0.01, 0.4, "cannot be told apart"),
        (0.01, None, "cannot be told apart"),
    ):
        pair |= {"difference": difference, "p_value": p_value}
        assert words in verdict(found)
    assert "6 min 43 s against 0.5 s" in verdict(found)
    assert "open" in verdict(found | {"paired": {}})


def test_headline_names_the_best_method() -> None:
    found = report()
    best = max(found["methods"].values(), key=lambda figures: figures["auc"])
    assert best["title"] in headline(found) and "300 test rows" in headline(found)


def test_numbers_in_words() -> None:
    assert [duration(s) for s in (None, 0.55, 59.4, 403, 7500)] == ["–", "0.6 s", "59 s", "6 min 43 s", "2 h 5 min"]
    assert p_text(0.034, 1000) == "p = 0.034" and p_text(0.000999, 1000) == "p < 0.002"


def test_console_prints_every_method_and_where_files_lie() -> None:
    found = report(title="[bold]Films[/nothing]", titles={"rallrec": "RALLRec [/]"})
    stream = StringIO()
    print_report(found, Console(file=stream, width=140), {"page": Path("lake/reports/evaluation.html")})
    text = stream.getvalue()
    assert "[bold]Films[/nothing]" in text and "RALLRec [/]" in text
    assert all(figures["title"] in text for figures in found["methods"].values())
    assert "page: lake/reports/evaluation.html" in text and "0.7772" in text


def test_how_many_samples_the_llm_and_the_baselines_saw_is_told_where_it_is_known() -> None:
    told = "256 training samples for the LLM, 75,657 for the baselines"
    for found, words in ((report(), told), (report(n_train_baselines=None), "256 training samples for the LLM")):
        page = render_html(found, {})
        assert words in page and ("for the baselines" in page) is (words == told)
        print_report(found, Console(file=(stream := StringIO()), width=200))
        assert (told in stream.getvalue()) is (words == told)
