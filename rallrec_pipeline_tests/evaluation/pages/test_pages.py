from __future__ import annotations

import re
from base64 import b64decode, b64encode
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from rallrec_pipeline.evaluation.pages.csv_tables import methods_csv, slices_csv
from rallrec_pipeline.evaluation.pages.dataset_page import render_dataset_page
from rallrec_pipeline.evaluation.pages.evaluation_page import render_html
from rallrec_pipeline.evaluation.plots.cost_plot import cost_plots
from rallrec_pipeline.evaluation.plots.dataset_plots import dataset_plots
from rallrec_pipeline.evaluation.plots.overview import overview_png
from rallrec_pipeline.evaluation.plots.report_plots import report_plots
from rallrec_pipeline.evaluation.plots.slice_plots import slice_plots
from rallrec_pipeline_tests.browser import assert_pages_fit, needs_chromium
from rallrec_pipeline_tests.evaluation.examples import ATTACK, PNG, Tags, profile_of, report, some_ratings


def test_the_picture_of_the_ui_is_a_small_png_and_not_blank() -> None:
    from io import BytesIO

    from matplotlib.image import imread

    png = overview_png(report())
    assert png.startswith(PNG) and 5_000 < len(png) < 100_000
    pixels = imread(BytesIO(png), format="png")
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 20


def test_the_pictures_of_a_page_are_svgs_with_every_title_as_text_and_equal_for_equal_reports() -> None:
    plots = report_plots(report())
    assert {section: len(shown) for section, shown in plots.items()} == {
        "overview": 1,
        "curves": 3,
        "slices": 3,
        "cost": 1,
    }
    for section, shown in plots.items():
        for svg in shown.values():
            said = " ".join(ElementTree.fromstring(svg).itertext())
            assert "RALLRec: tuned" in said and "prefers-color-scheme:dark" in said and len(svg) < 150_000, section
    assert report_plots(report()) == plots


def test_pictures_take_formula_like_titles_signs_that_xml_forbids_missing_intervals_and_no_paper() -> None:
    found = report(paper_dataset=None, titles={"rallrec": "RALLRec $\\frac{ <b>&\x01", "recent": "costs $1 or $2"})
    found["methods"]["recent"] |= {"auc_ci": [None, None], "auc_se": None}
    assert overview_png(found).startswith(PNG)
    for shown in report_plots(found).values():
        for svg in shown.values():
            assert "RALLRec $\\frac{ <b>&" in " ".join(ElementTree.fromstring(svg).itertext())
    assert "costs $1 or $2" in render_html(found, {})


def test_slices_without_an_auc_and_unknown_costs_are_told_in_words() -> None:
    found = report()
    for told in found["slices"].values():
        told |= {"slices": [], "not_defined": "a reason"}
    for figures in found["methods"].values():
        figures["cost"] |= {"seconds_per_million": None}
    assert slice_plots(found) == cost_plots(found) == {}
    page = render_html(found, {"slices": {}, "cost": {}})
    assert page.count("not defined, because a reason") == 3 and "nan" not in words_of(page)


def test_the_csv_files_are_those_of_the_report_and_the_command_stands_at_the_foot() -> None:
    found = report()
    page = render_html(found, {})
    links = re.findall(r'download="([^"]+)" href="data:text/csv;charset=utf-8;base64,([^"]+)">([^<]+)<', page)
    assert [(file, b64decode(content).decode(), name) for file, content, name in links] == [
        ("evaluation_methods.csv", methods_csv(found), "methods as CSV"),
        ("evaluation_slices.csv", slices_csv(found), "slices as CSV"),
    ]
    assert "rallrec run movielens-100k --profile demo" in page


def test_model_numbers_date_code_and_command_are_in_view_and_provenance_opens_part_by_part() -> None:
    made = {"model": "tiny", "number type": "bfloat16 (auto: AMX)", "made at": "2026-01-02", "code": "0.1, commit 1a2b"}
    settings = {"model": {"name": "tiny", "modules": ["q", "v"]}, "seed": 3}
    page = render_html(report(provenance={"made": made, "settings": settings}), {})
    head = page.split('<section class="lead">')[0]
    assert all(f"<dt>{name}</dt><dd>{value}</dd>" in head for name, value in made.items())
    assert "<dt>command</dt><dd>rallrec run movielens-100k --profile demo</dd>" in head
    opened = page.split("<summary>Provenance</summary>")[1]
    assert "<summary>model</summary>" in opened and '<span class="soft">seed</span> 3</p>' in opened
    assert "<pre" not in opened and "{&#34;" not in opened
    assert 'href="dataset.html"' in page and 'href="alignment_report.html"' in page


def words_of(page: str) -> list[str]:
    """The page's words, in small letters, without what is embedded."""
    return re.findall(r"[a-z]+", re.sub(r'"data:[^"]*"', "", page).lower())


def test_each_method_is_compared_with_rallrec_and_with_the_strongest_without_an_llm() -> None:
    found = report()
    page = render_html(found, {})
    strong = found["methods"][found["reference"]["method"]]["title"]
    assert "RALLRec minus …" in page and f"Minus {strong}" in page
    for name, told in found["against_reference"].items():
        assert found["methods"][name]["title"] in page
        assert f"{told['uauc']['difference']:+.4f}".replace("-", "−") in page


def test_page_is_well_formed_and_self_contained() -> None:
    png = PNG + b"picture"
    page = render_html(report(), {"overview": {"AUC": png}})
    tags = Tags()
    tags.feed(page)
    assert tags.open == [] and "script" not in tags.seen
    assert f'src="data:image/png;base64,{b64encode(png).decode()}"' in page
    assert not re.search(r"(https?:)?//\w|@import|url\(", re.sub(r'"data:[^"]*"', "", page))
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
    page = render_html(report(**({} if field == "caption" else changes)), {"overview": {caption: PNG}})
    assert "<script" not in page and "&lt;script&gt;alert" in page


@pytest.mark.process
@needs_chromium
def test_both_pages_fit_a_phone_and_a_desktop_in_light_and_dark(tmp_path: Path) -> None:
    pages = {"evaluation": render_html(report(titles={"rallrec": "W" * 80}), report_plots(report()))}
    profile = profile_of(some_ratings(), reasons={"x" * 80: 2}) | {"dataset": "d" * 80}
    pages["dataset"] = render_dataset_page(profile, dataset_plots(profile), {"long": "y" * 200})
    assert_pages_fit(pages, tmp_path)
