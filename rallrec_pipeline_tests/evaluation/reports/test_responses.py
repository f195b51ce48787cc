"""Curves of the reasoner, of merges and of cascades: their points, their bands over users, and how they are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from rallrec_pipeline.evaluation.measures.banded import with_bands
from rallrec_pipeline.evaluation.measures.metrics import area_under_roc
from rallrec_pipeline.evaluation.pages.study_page import render_study
from rallrec_pipeline.evaluation.plots.report_plots import study_plots
from rallrec_pipeline.evaluation.plots.response_plots import response_plots
from rallrec_pipeline.evaluation.plots.study_figures import figure_plots
from rallrec_pipeline.evaluation.reports.responses import responses_told
from rallrec_pipeline_tests.browser import assert_pages_fit, needs_chromium
from rallrec_pipeline_tests.evaluation.examples import parts, study
from rallrec_pipeline_tests.evaluation.reasoning_examples import TITLES, responses


@pytest.fixture(scope="module")
def told() -> Any:
    return responses_told(responses(), 200, 0)


def test_a_cascade_begins_at_the_expert_and_ends_at_the_dear_model(told: Any) -> None:
    curve, rows = told["cascades"]["cascade"]["curve"], responses().cascades["cascade"]
    assert curve[0]["auc"] == pytest.approx(area_under_roc(rows.labels, rows.expert))
    assert curve[-1]["auc"] == pytest.approx(area_under_roc(rows.labels, rows.dear))
    assert (curve[0]["tokens_per_million"], curve[-1]["tokens_per_million"]) == (0, 420e6)


def test_every_point_lies_within_its_band(told: Any) -> None:
    curves = [told["cascades"]["cascade"]["curve"], *(told["sweeps"]["rallrec_plus"][x] for x in ("alpha", "epsilon"))]
    for one in told["responses"].values():
        curves += [one["by_length"], one["by_variance"]["points"]]
    assert len(curves) == 7
    for point in (point for curve in curves for point in curve):
        for measure in ("auc", "accuracy", "log_loss"):
            low, high = point[f"{measure}_ci"]
            assert low <= point[measure] <= high and point[f"{measure}_se"] > 0


def test_a_band_is_that_of_drawing_users(told: Any) -> None:
    rows = responses().cascades["cascade"]
    rng, found = np.random.default_rng(1), []
    groups = [np.flatnonzero(rows.users == user) for user in np.unique(rows.users)]
    for _ in range(400):
        drawn = np.concatenate([groups[one] for one in rng.integers(0, len(groups), len(groups))])
        found.append(area_under_roc(rows.labels[drawn], rows.expert[drawn]))
    assert told["cascades"]["cascade"]["curve"][0]["auc_se"] == pytest.approx(np.std(found), rel=0.25)


def test_rows_of_one_user_have_figures_without_bands() -> None:
    labels, p = np.array([0, 1, 1], dtype=np.int8), np.array([0.2, 0.4, 0.9])
    point = with_bands(labels, {0.5: p}, np.zeros(3, dtype=np.int64), ("auc", "uauc"), 50, 0)[0.5]
    assert point["auc"] == 1 and np.isnan(point["auc_se"])
    drawn = responses(users=1)
    assert all(plot.startswith(b"<?xml") for plot in response_plots(responses_told(drawn, 50, 0)).values())


def test_figures_2_3_6_7_9_and_the_cascade_are_drawn_with_bands(told: Any) -> None:
    plots = response_plots(told)
    named = " ".join(plots)
    assert all(number in named for number in ("figure 2", "figure 3", "figure 9", "figures 6 and 7", "share of rows"))
    for caption, plot in plots.items():
        assert (b"FillBetweenPolyCollection" in plot) is ("figure 9" not in caption), caption
    latency = next(plot for caption, plot in plots.items() if "figure 9" in caption)
    words = " ".join(ElementTree.fromstring(latency).itertext())
    seconds = told["responses"]["reasoned"]["seconds_per_response"]
    assert f"{seconds:.3g} s, {seconds / 0.07:.1f} times" in words and "0.07 s" in words


def test_a_reasoner_that_wrote_nothing_has_no_figures() -> None:
    silent = responses()
    none = responses_told(
        type(silent)(TITLES, silent.rows.with_columns(traces=pl.lit(0), variance=None), silent.traces.clear()), 50, 0
    )
    assert none["responses"]["reasoned"]["seconds_percentiles"] is None and response_plots(none) == {}


def test_a_figure_draws_the_measure_that_it_names() -> None:
    given = parts()
    given.figures["size"]["measure"] = "log_loss"  # type: ignore[index]
    report = study(parts=given)
    assert report["figures"]["size"]["measure"] == "log_loss" and report["figures"]["way"]["measure"] == "auc"
    size, way = (" ".join(ElementTree.fromstring(svg).itertext()) for svg in figure_plots(report).values())
    assert "log loss" in size and "AUC" not in size and "AUC" in way
    for point in report["figures"]["size"]["lines"]["tuned"]:
        assert point["log_loss_ci"] == report["methods"][point["row"]]["log_loss_ci"]


@needs_chromium
@pytest.mark.slow
def test_the_page_of_a_reasoner_fits_a_phone_and_a_desktop(tmp_path: Path) -> None:
    report = study(parts=parts(), responses={"one": responses()})
    assert_pages_fit({"reasoning": render_study(report, study_plots(report))}, tmp_path)
