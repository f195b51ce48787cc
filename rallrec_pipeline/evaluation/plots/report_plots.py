"""All pictures of a report's page, by the section that shows them."""

from __future__ import annotations

from collections.abc import Mapping

from rallrec_pipeline.evaluation.plots.cost_plot import cost_plots
from rallrec_pipeline.evaluation.plots.curves import curve_plots
from rallrec_pipeline.evaluation.plots.overview import CAPTION, overview_svg
from rallrec_pipeline.evaluation.plots.response_plots import response_plots
from rallrec_pipeline.evaluation.plots.slice_plots import slice_plots
from rallrec_pipeline.evaluation.plots.study_figures import figure_plots
from rallrec_pipeline.evaluation.reports.wording import Report

Plots = Mapping[str, Mapping[str, bytes]]
"""Section of the page -> caption -> SVG."""


def report_plots(report: Report) -> dict[str, dict[str, bytes]]:
    """Of a report from `build_report`: `overview`, `curves`, `slices`, `cost`; a section without data is empty."""
    return {
        "overview": {CAPTION: overview_svg(report)},
        "curves": curve_plots(report),
        "slices": slice_plots(report),
        "cost": cost_plots(report),
    }


def study_plots(report: Report) -> dict[str, dict[str, bytes]]:
    """Of a report from `build_study`: also `figures`, which the study's file asks for, and those of the reasoner."""
    told = report["responses"]
    of_reasoner = {
        f"{variant}: {caption}" if len(told) > 1 else caption: plot
        for variant, one in told.items()
        for caption, plot in response_plots(one).items()
    }
    return {"figures": figure_plots(report), "responses": of_reasoner, **report_plots(report)}
