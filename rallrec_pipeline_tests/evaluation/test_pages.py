from __future__ import annotations

import re
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest

from rallrec_pipeline.evaluation.dataset_page import render_dataset_page
from rallrec_pipeline.evaluation.dataset_plots import dataset_plots
from rallrec_pipeline.evaluation.html import render_html
from rallrec_pipeline.evaluation.plots import methods_plot, report_plots
from rallrec_pipeline_tests.browser import assert_pages_fit, needs_chromium
from rallrec_pipeline_tests.evaluation.examples import ATTACK, PNG, Tags, profile_of, report, some_ratings


def test_plots_are_small_pngs_and_not_blank() -> None:
    from io import BytesIO

    from matplotlib.image import imread

    plots = report_plots(report())
    assert len(plots) == 3
    for png in plots.values():
        assert png.startswith(PNG) and 5_000 < len(png) < 100_000
        pixels = imread(BytesIO(png), format="png")
        assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 20


def test_methods_plot_takes_formula_like_titles_missing_intervals_and_no_paper() -> None:
    found = report(paper_dataset=None, titles={"rallrec": "RALLRec $\\frac{", "recent": "costs $1 or $2"})
    found["methods"]["recent"] |= {"auc_ci": [None, None], "auc_se": None}
    assert methods_plot(found).startswith(PNG)
    assert "costs $1 or $2" in render_html(found, {})


def test_page_is_well_formed_and_self_contained() -> None:
    png = PNG + b"picture"
    page = render_html(report(), {"AUC": png})
    tags = Tags()
    tags.feed(page)
    assert tags.open == [] and "script" not in tags.seen
    assert f'src="data:image/png;base64,{b64encode(png).decode()}"' in page
    assert not re.search(r"(https?:)?//\w|@import|url\(", page)
    assert "prefers-color-scheme" in page and 'name="viewport"' in page
    assert "MovieLens-1M" in page and "0.7772" in page and "do not compare method with method" in page


@pytest.mark.parametrize("field", ["title", "dataset", "profile", "titles", "provenance", "caption"])
def test_text_from_data_is_escaped(field: str) -> None:
    changes: dict[str, object] = {field: ATTACK}
    if field == "titles":
        changes = {field: {"rallrec": ATTACK, "recent": ATTACK}}
    elif field == "provenance":
        changes = {field: {ATTACK: ATTACK}}
    caption = ATTACK if field == "caption" else "AUC"
    page = render_html(report(**({} if field == "caption" else changes)), {caption: PNG})
    assert "<script" not in page and "&lt;script&gt;alert" in page


@pytest.mark.process
@needs_chromium
def test_both_pages_fit_a_phone_and_a_desktop_in_light_and_dark(tmp_path: Path) -> None:
    pages = {"evaluation": render_html(report(titles={"rallrec": "W" * 80}), report_plots(report()))}
    profile = profile_of(some_ratings(), reasons={"x" * 80: 2}) | {"dataset": "d" * 80}
    pages["dataset"] = render_dataset_page(profile, dataset_plots(profile), {"long": "y" * 200})
    assert_pages_fit(pages, tmp_path)
