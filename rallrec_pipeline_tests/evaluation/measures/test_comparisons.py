"""Tables of paired differences, and when a winner stands out."""

from __future__ import annotations

import numpy as np
import polars as pl

from rallrec_pipeline.evaluation.measures.comparisons import best, claims, strongest, table
from rallrec_pipeline.evaluation.measures.measured import calibrate, compare_methods
from rallrec_pipeline.evaluation.measures.significance import holm
from rallrec_pipeline_tests.evaluation.examples import facts, predictions

OTHERS = ("zero_shot_rating", "recent", "item_mean", "boosted_trees")


def test_holms_correction_is_over_the_comparisons_of_a_table_for_each_measure() -> None:
    measured = compare_methods(predictions(), facts(), 200, seed=0).measured
    found = table(measured, {other: ("rallrec", other) for other in OTHERS})
    for measure in ("auc", "uauc", "log_loss"):
        assert [found[other][measure]["p_holm"] for other in OTHERS] == holm(
            [found[other][measure]["p_value"] for other in OTHERS]
        )
    assert found["item_mean"]["auc"]["significant"] and not found["boosted_trees"]["auc"]["significant"]
    back = table(measured, {"back": ("item_mean", "rallrec")})["back"]["auc"]
    assert back["difference"] == -found["item_mean"]["auc"]["difference"]
    assert back["p_value"] == found["item_mean"]["auc"]["p_value"]


def test_holms_correction_of_claims_is_over_all_of_them_each_by_its_own_measure() -> None:
    measured = compare_methods(predictions(), facts(), 200, seed=0).measured
    asked = [("rallrec", "recent", "auc"), ("rallrec", "item_mean", "uauc"), ("rallrec", "boosted_trees", "log_loss")]
    found = claims(measured, asked)
    alone = [table(measured, {"one": (first, second)})["one"][by] for first, second, by in asked]
    assert [one["p_value"] for one in found] == [one["p_value"] for one in alone]
    assert [one["p_holm"] for one in found] == holm([one["p_value"] for one in alone])


def test_a_difference_of_ece_has_no_p_and_decides_nothing() -> None:
    measured = compare_methods(predictions(), facts(), 200, seed=0).measured
    found = table(measured, {other: ("rallrec", other) for other in OTHERS})
    assert all(np.isnan(found[other]["ece"]["p_value"]) and not found[other]["ece"]["significant"] for other in OTHERS)
    winner = best(measured)["ece"]
    assert winner is not None and not winner["significant"]


def test_the_winner_is_significant_only_where_the_next_is_told_apart() -> None:
    frames = predictions(rows=600)
    close = best(compare_methods(frames, facts(600), 200, seed=0).measured)["auc"]
    assert close is not None and {close["method"], close["next"]} == {"rallrec", "boosted_trees"}
    assert not close["significant"]
    without = {name: frame for name, frame in frames.items() if name != "boosted_trees"}
    clear = best(compare_methods(without, facts(600), 200, seed=0).measured)["auc"]
    assert clear is not None and (clear["method"], clear["next"]) == ("rallrec", "recent")
    assert clear["significant"] and clear["p_holm"] < 0.05 and clear["difference"] > 0


def test_the_winner_of_a_loss_is_the_lowest() -> None:
    measured = compare_methods(predictions(), facts(), 20, seed=0).measured
    found = best(measured)
    for measure in ("log_loss", "brier", "ece"):
        winner = found[measure]
        assert winner is not None and winner["difference"] <= 0


def test_one_method_wins_alone() -> None:
    one = {"rallrec": predictions()["rallrec"]}
    found = best(compare_methods(one, facts(), 20, seed=0).measured)["auc"]
    assert found == {"method": "rallrec", "next": None, "significant": False}


def test_the_strongest_is_by_auc_on_validation_rows_or_unknown() -> None:
    frames = predictions()
    calibration = calibrate(frames)
    expected = max(OTHERS, key=calibration.auc)
    assert strongest(OTHERS, calibration) == expected and strongest([], calibration) is None
    unknown = calibrate({name: frame.filter(pl.col("split") == "test") for name, frame in frames.items()})
    assert np.isnan(unknown.auc("recent")) and strongest(OTHERS, unknown) is None
