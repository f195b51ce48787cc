from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.evaluation.measures.calibration import fit_platt
from rallrec_pipeline.evaluation.measures.metrics import MEASURES, evaluate
from rallrec_pipeline.evaluation.pages.console import print_report
from rallrec_pipeline.evaluation.pages.evaluation_page import render_html
from rallrec_pipeline.evaluation.plots.report_plots import report_plots
from rallrec_pipeline.evaluation.reports.evaluation_report import ReportContext, build_report
from rallrec_pipeline.evaluation.reports.papers import PAPER_DATASETS, paper_figures
from rallrec_pipeline.evaluation.reports.verdict import verdict
from rallrec_pipeline.evaluation.reports.wording import duration, headline, holm_text
from rallrec_pipeline_tests.evaluation.examples import facts, predictions, report, scored

CONTEXT = ReportContext("d", "D", "demo", 0, 10)


def test_report_survives_json_without_nan() -> None:
    found = report(provenance={"path": Path("a/b"), "loss": float("nan")})
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["provenance"] == {"path": "a/b", "loss": None}


def split_of(frame: pl.DataFrame, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of a split."""
    rows = frame.filter(pl.col("split") == split)
    return rows["label"].to_numpy(), rows["p_yes"].to_numpy()


def test_report_holds_the_measures_of_each_method_on_the_shared_rows() -> None:
    found, frames = report(), predictions()
    assert list(found["methods"]) == list(frames)
    for method, figures in found["methods"].items():
        labels, p = split_of(frames[method], "test")
        raw = evaluate(labels, p)
        assert figures["auc"] == pytest.approx(raw.auc)
        assert figures["log_loss_raw"] == pytest.approx(raw.log_loss)
        assert figures["accuracy_raw"] == pytest.approx(raw.accuracy)
        assert figures["brier_raw"] == pytest.approx(float(((p - labels) ** 2).mean()))
        for measure in MEASURES:
            low, high = figures[f"{measure}_ci"]
            assert low <= figures[measure] <= high and figures[f"{measure}_se"] > 0
            assert (f"{measure}_se_rows" in figures) is (measure not in ("uauc", "gauc"))
        assert figures["n"] == found["n_test"] == 300
        assert figures["uauc_users"] == found["users"]["with_both_answers"] <= found["users"]["n"] == 40
    kinds = {method: figures["kind"] for method, figures in found["methods"].items()}
    assert kinds["boosted_trees"] == kinds["item_mean"] == "baseline"
    assert kinds["rallrec"] == kinds["recent"] == "llm"
    ours, other = found["methods"]["rallrec"], found["methods"]["recent"]
    assert ours["seconds"] == 403.0 and other["seconds"] is None and "seconds" in other["not_defined"]
    assert ours["cost"]["seconds_per_million"] == 403 / 500 * 1e6 and ours["cost"]["tokens_per_million"] == 180e6


def test_all_methods_are_calibrated_alike_on_the_validation_rows() -> None:
    found, frames = report(), predictions()
    assert found["validation"]["n"] == 100
    for method, figures in found["methods"].items():
        platt = fit_platt(*split_of(frames[method], "valid")[::-1])
        assert figures["calibration"] == {"slope": platt.slope, "intercept": platt.intercept}
        labels, p = split_of(frames[method], "test")
        calibrated = evaluate(labels, platt.apply(p))
        assert figures["log_loss"] == pytest.approx(calibrated.log_loss)
        assert figures["accuracy"] == pytest.approx(calibrated.accuracy)
        assert figures["validation_auc"] == pytest.approx(evaluate(*split_of(frames[method], "valid")).auc)
        assert "calibration" not in figures["not_defined"]


def test_what_the_llm_said_itself_is_raw_where_its_table_is_calibrated() -> None:
    frames = predictions()
    cold = {name: frame.with_columns(p_raw=pl.col("p_yes") / 4) for name, frame in frames.items()}
    found = build_report(CONTEXT, scored(cold), facts(), 20)["methods"]["rallrec"]
    plain = build_report(CONTEXT, scored(frames), facts(), 20)["methods"]["rallrec"]
    assert found["auc"] == plain["auc"] and found["uauc"] == plain["uauc"]
    assert found["log_loss_raw"] > plain["log_loss_raw"]
    assert found["calibration"]["intercept"] > plain["calibration"]["intercept"]


def test_pairs_are_rallrec_minus_each_other_method_boosted_trees_first() -> None:
    found, frames = report(), predictions()
    assert next(iter(found["paired"])) == "rallrec - boosted_trees"
    assert set(found["paired"]) == {f"rallrec - {m}" for m in frames if m != "rallrec"}
    assert set(found["against_reference"]) == set(frames) - {"boosted_trees"}
    ours, back = found["paired"]["rallrec - boosted_trees"]["auc"], found["against_reference"]["rallrec"]["auc"]
    figures = found["methods"]
    assert ours["difference"] == pytest.approx(figures["rallrec"]["auc"] - figures["boosted_trees"]["auc"])
    assert all(ours[key] == back[key] for key in ("difference", "se", "ci", "p_value", "se_rows"))


def test_the_reference_is_chosen_by_validation_rows_whatever_the_test_rows_say() -> None:
    frames = predictions()
    liked_on_test = (pl.col("split") == "test") & (pl.col("label") == 1)
    worse = pl.when(liked_on_test).then(pl.col("p_yes") / 10).otherwise("p_yes").alias("p_yes")
    frames["boosted_trees"] = frames["boosted_trees"].with_columns(worse)
    found = build_report(CONTEXT, scored(frames), facts(), 20)
    figures = found["methods"]
    assert figures["boosted_trees"]["auc"] < figures["item_mean"]["auc"]
    assert figures["boosted_trees"]["validation_auc"] > figures["item_mean"]["validation_auc"]
    assert found["reference"]["method"] == "boosted_trees" and "validation" in found["reference"]["chosen_by"]


def test_without_a_method_without_an_llm_there_is_no_reference() -> None:
    frames = predictions()
    alone = build_report(CONTEXT, scored({name: frames[name] for name in ("rallrec", "recent")}), facts(), 20)
    assert alone["reference"]["method"] is None and alone["reference"]["not_defined"]
    assert alone["against_reference"] == {} and set(alone["paired"]) == {"rallrec - recent"}
    assert "open" in verdict(alone) and "RALLRec" in render_html(alone, report_plots(alone))


def test_order_of_rows_is_no_matter_but_other_rows_and_labels_are_refused() -> None:
    frames = predictions()
    shuffled = frames | {"recent": frames["recent"].sample(fraction=1, shuffle=True, seed=1)}
    assert build_report(CONTEXT, scored(shuffled), facts(), 20) == build_report(CONTEXT, scored(frames), facts(), 20)
    wrong = {
        "not scored on the same": [
            frames["recent"].tail(399),
            frames["recent"].with_columns(label=1 - pl.col("label")),
        ],
        "repeat sample ids": [pl.concat([frames["recent"], frames["recent"].head(1)])],
        "not in": [frames["recent"].with_columns(p_yes=pl.lit(None, pl.Float64))],
    }
    for words, broken in wrong.items():
        for frame in broken:
            with pytest.raises(DataError, match=words):
                build_report(CONTEXT, scored(frames | {"recent": frame}), facts(), 20)
    with pytest.raises(DataError, match="no predictions"):
        build_report(CONTEXT, {})
    with pytest.raises(DataError, match="200 facts on 300 test rows"):
        build_report(CONTEXT, scored(frames), facts(200), 20)


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


@pytest.mark.parametrize(
    ("auc", "uauc", "log_loss", "words"),
    [
        ((0.01, 0.01), (0.01, 0.4), (-0.01, 0.4), "earns its cost: it is better in AUC."),
        ((0.01, 0.01), (0.01, 0.01), (-0.01, 0.01), "earns its cost: it is better in AUC, UAUC and log loss."),
        ((-0.01, 0.01), (0.01, 0.4), (0.01, 0.01), "does not earn its cost: it is worse in AUC and log loss."),
        ((-0.01, 0.4), (0.01, None), (0.02, 0.025), "does not earn its cost: it is worse in log loss."),
        ((0.01, 0.01), (0.01, 0.4), (0.01, 0.01), "depends on the use: it is better in AUC and worse in log loss."),
        ((0.01, 0.4), (0.01, 0.4), (0.01, 0.06), "cannot be told apart in AUC, UAUC or log loss."),
        ((0.01, 0.4), (0.01, None), (0.01, 0.06), "cannot be told apart in AUC or log loss."),
        ((0.01, None), (0.01, None), (0.01, None), "is open: too few users tell of an error."),
    ],
)
def test_the_verdict_reads_ranking_and_probabilities_together(auc: Any, uauc: Any, log_loss: Any, words: str) -> None:
    found = report()
    pair = found["paired"]["rallrec - boosted_trees"]
    for measure, (difference, p_value) in (("auc", auc), ("uauc", uauc), ("log_loss", log_loss)):
        pair[measure] |= {"difference": difference, "p_holm": p_value}
    assert words in verdict(found)


def test_the_verdict_compares_with_the_strongest_without_an_llm_whatever_its_name() -> None:
    found = report()
    strongest = max(("item_mean", "boosted_trees"), key=lambda name: found["methods"][name]["validation_auc"])
    assert found["reference"]["method"] == strongest and f"strongest without an LLM ({strongest})" in verdict(found)
    told = dict(found["paired"]["rallrec - boosted_trees"])
    changed = found | {"reference": {"method": "item_mean"}, "paired": {"rallrec - item_mean": told}}
    assert "strongest without an LLM (item_mean)" in verdict(changed)
    assert "A million predictions take 223 h 53 min against 50 s" in verdict(found) and all(
        f"{name} " in verdict(found) for name in ("AUC", "UAUC")
    )
    assert "open" in verdict(found | {"paired": {}})


def test_headline_names_the_best_method() -> None:
    found = report()
    best = max(found["methods"].values(), key=lambda figures: figures["auc"])
    assert best["title"] in headline(found) and "300 test rows" in headline(found)


def test_numbers_in_words() -> None:
    assert [duration(s) for s in (None, 0.55, 59.4, 403, 7500)] == ["–", "0.6 s", "59 s", "6 min 43 s", "2 h 5 min"]
    assert holm_text({"p_holm": 0.034}) == "p = 0.034" and holm_text({"p_holm": None}) == holm_text({}) == "p –"


def test_console_prints_every_method_and_where_files_lie() -> None:
    found = report(title="[bold]Films[/nothing]", titles={"rallrec": "RALLRec [/]"})
    stream = StringIO()
    print_report(found, Console(file=stream, width=140), {"page": Path("lake/reports/evaluation.html")})
    text = stream.getvalue()
    assert "[bold]Films[/nothing]" in text and "RALLRec [/]" in text
    assert all(figures["title"] in text for figures in found["methods"].values())
    assert "page: lake/reports/evaluation.html" in text and "0.7772" in text


def test_a_report_of_an_earlier_version_is_still_printed() -> None:
    found = report()
    earlier = {key: found[key] for key in ("dataset", "dataset_title", "profile", "n_train", "n_test", "paper")}
    kept = ("auc", "auc_se", "log_loss", "log_loss_se", "accuracy", "accuracy_se", "n", "seconds", "kind", "title")
    earlier["methods"] = {name: {key: told[key] for key in kept} for name, told in found["methods"].items()}
    pair = {"difference": 0.1, "se": 0.01, "ci": [0.08, 0.12], "p_value": 0.002}
    earlier |= {"resamples": 100, "paired": {"rallrec - boosted_trees": {"auc": pair, "log_loss": pair}}}
    print_report(earlier, Console(file=(stream := StringIO()), width=140))
    assert "better in AUC and worse in log loss" in stream.getvalue() and "+0.1000 ± 0.0100" in stream.getvalue()


def test_how_many_samples_the_llm_and_the_baselines_saw_is_told_where_it_is_known() -> None:
    told = "256 training samples for the LLM, 75,657 for the baselines"
    for found, words in ((report(), told), (report(n_train_baselines=None), "256 training samples for the LLM")):
        page = render_html(found, {})
        assert words in page and ("for the baselines" in page) is (words == told)
        print_report(found, Console(file=(stream := StringIO()), width=200))
        assert (told in stream.getvalue()) is (words == told)
