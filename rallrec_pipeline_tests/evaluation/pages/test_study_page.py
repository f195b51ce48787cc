"""The page of a study: what it tells, which method stands out, and that it fits every screen."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rallrec_pipeline.evaluation.pages.study_page import render_study, study_verdict
from rallrec_pipeline.evaluation.plots.lines import MOST, lines_of, strongest_without_llm
from rallrec_pipeline.evaluation.plots.overview import overview_png
from rallrec_pipeline.evaluation.plots.report_plots import study_plots
from rallrec_pipeline.evaluation.plots.study_figures import figure_plots, x_places
from rallrec_pipeline.evaluation.reports.wording import number
from rallrec_pipeline_tests.browser import assert_pages_fit, needs_chromium
from rallrec_pipeline_tests.evaluation.examples import ATTACK, PNG, Tags, parts, study

MANY = {f"variant_{n}_{'v' * 40}": {f"stage_{s}": f"{n}{s}" * 16 for s in range(8)} for n in range(6)}


def bold(page: str) -> list[str]:
    """Rows that stand out."""
    return re.findall(r'<tr class="main"><td><span[^>]*></span>([^<]*)<', page)


def test_the_page_is_well_formed_and_self_contained_and_tells_everything() -> None:
    report = study()
    page = render_study(report, {"overview": {"AUC": PNG}})
    tags = Tags()
    tags.feed(page)
    assert tags.open == [] and "script" not in tags.seen
    assert not re.search(r"(https?:)?//\w|@import|url\(", re.sub(r'"data:[^"]*"', "", page))
    assert "Which is best?" in page and "A note." in page and "data:image/png;base64," in page
    for figures in report["methods"].values():
        assert figures["title"] in page
    low, high = (f"{bound:+.4f}".replace("-", "−") for bound in report["paired"]["rallrec"]["auc"]["ci"])
    assert re.search(rf"{re.escape(low)}\s+to\s+{re.escape(high)}", page)
    assert "rallrec run movielens-100k --study which --profile demo" in page
    assert "seeds.fits = 7" in page and "2 variants need 6 results, of which 5 are distinct" in page
    assert "<code>aaaaaaaaaa</code>" in page and "a" * 11 not in page.split("Provenance")[0]
    assert re.search(r"<code>bbbbbbbbbb</code>\s+first<br>\s*<code>cccccccccc</code>\s+second", page)


def test_only_a_best_method_that_is_told_apart_from_the_next_stands_out() -> None:
    unsure = study(reference="item_mean")
    assert unsure["best"]["auc"]["method"] == "rallrec" and unsure["best"]["auc"]["p_holm"] > 0.05
    assert bold(render_study(unsure, {})) == []
    unsure["best"]["auc"]["significant"] = True
    assert bold(render_study(unsure, {})) == ["title of rallrec"]


def test_the_verdict_says_whether_the_best_differs_from_the_reference() -> None:
    assert study_verdict(study(reference="item_mean")).startswith(
        "It ranks better than the reference, title of item_mean"
    )
    assert study_verdict(study(reference="rallrec")).startswith("No method ranks better than the reference")
    unsure = study(reference="item_mean")
    unsure["paired"]["rallrec"]["auc"]["p_holm"] = 0.06
    assert study_verdict(unsure).startswith("It cannot be told apart from the reference")


def test_one_variant_is_told_as_one() -> None:
    page = render_study(study(variants={"one": {"samples": "a" * 32}}), {})
    assert "<li>1 variant</li>" in page and "1 variant needs 1 result, of which 1 is distinct" in page


def test_the_picture_is_a_small_png_that_takes_any_title_and_missing_intervals() -> None:
    report = study(titles={"rallrec": "x $\\frac{ " * 9, "recent": "costs $1 or $2"})
    report["methods"]["recent"] |= {"auc_ci": [None, None], "auc_se": None}
    picture = overview_png(report)
    assert picture.startswith(PNG) and 5_000 < len(picture) < 100_000
    report["methods"] |= {f"{name} {n}": f for n in range(7) for name, f in list(report["methods"].items())[:5]}
    report["paired"] |= {name: report["paired"]["rallrec"] for name in report["methods"] if " " in name}
    assert len(overview_png(report)) < 100_000


def section(page: str, title: str) -> str:
    """The section of the page under a title, as its words with single spaces."""
    found = page.split(f"<h2>{title}</h2>")[1].split("</section>")[0]
    return " ".join(re.sub(r"<[^>]*>", " ", found).split())


def test_a_table_stands_beside_the_published_and_says_which_they_are() -> None:
    report = study(parts=parts())
    told = section(render_study(report, {}), "The main comparison")
    assert "note of The main comparison" in told and "The reference of this table is: title of recent" in told
    assert "Published, MovieLens-1M" in told and "published as Llama-3.1-8B zero-shot" in told
    assert "Published: RALLRec, table 1, on MovieLens-1M" in told and "This run is on MovieLens-100K" in told
    for row in report["tables"]["main"]["rows"]:
        figures, found = report["methods"][row["row"]], row["paired"]["auc"]
        ours = (f"{number(figures[m])} ± {number(figures[f'{m}_se'])}" for m in ("auc", "uauc", "log_loss", "accuracy"))
        theirs = (number(row["published"][m]) if row["published"] else "–" for m in ("auc", "log_loss", "accuracy"))
        low, high = (number(bound, 4, sign=True) for bound in found["ci"])
        difference = f"{number(found['difference'], 4, sign=True)} {low} to {high} p = {number(found['p_holm'])}"
        assert " ".join((*ours, *theirs, difference)) in told
    own = section(render_study(report, {}), "Its own reference")
    assert "Published" not in own and "The reference of this table is: title of item_mean" in own


def test_claims_are_told_with_difference_and_verdict_in_words() -> None:
    report = study(parts=parts())
    told = section(render_study(report, {}), "What the study was asked")
    words = ["holds told apart, in favour", "refuted told apart, against", "open cannot be told apart"]
    assert [told.count(word) for word in words] == [2, 2, 1]
    for claim in report["claims"]:
        found = claim["paired"][claim["by"]]
        assert claim["says"] in told and f"p = {number(found['p_holm'])}" in told
        assert f"title of {claim['better']} minus title of {claim['than']}" in told
    assert "What the study was asked" not in render_study(study(), {})


def test_a_study_of_one_class_is_told_without_a_figure_of_auc_and_drawn() -> None:
    report = study(parts=parts(), one_class=True)
    plots = study_plots(report)
    assert set(plots) == {"figures", "responses", "overview", "curves", "slices", "cost"}
    page = render_study(report, plots)
    assert "open the difference is not defined" in section(page, "What the study was asked")
    assert page.count("not defined, because no slice has both liked and disliked rows") == 3
    assert "nan" not in re.findall(r"\w+", re.sub(r'"data:[^"]*"', "", page).lower())


def test_x_is_an_axis_of_numbers_where_all_are_numbers_and_else_of_names_in_order() -> None:
    assert x_places(["256", "64", "64", "1e3"]) == {"64": 64, "256": 256, "1e3": 1000}
    assert x_places(["recent", "10", "rerank", "10"]) == {"recent": 0, "10": 1, "rerank": 2}
    assert x_places(["1", "nan"]) == {"1": 0, "nan": 1} and x_places([]) == {}


def test_figures_of_a_study_are_drawn_with_their_lines_and_x() -> None:
    size, way = figure_plots(study(parts=parts())).values()
    said = [" ".join(ElementTree.fromstring(svg).itertext()) for svg in (size, way)]
    assert all(word in said[0] for word in ("samples", "64", "256", "tuned", "plain"))
    assert "The main comparison" in said[1] and "rerank" in said[1]


def test_two_figures_of_one_title_are_both_shown() -> None:
    given = parts("More samples")
    assert len(figure_plots(study(parts=given))) == 2


def test_a_crowded_plot_shows_the_reference_the_best_and_the_strongest_without_an_llm() -> None:
    report = study(reference="zero_shot_rating")
    kept = dict(report["methods"])
    report["methods"] = {f"copy {n}": dict(kept["recent"], auc=0.6) for n in range(30)} | kept
    names = [line.name for line in lines_of(report)]
    assert len(names) == MOST and len({(line.colour, line.style) for line in lines_of(report)}) == MOST
    assert strongest_without_llm(report) == "boosted_trees"
    assert {"zero_shot_rating", "rallrec", "boosted_trees"} < set(names)
    assert {"copy 0", "copy 1"} < set(names)


@pytest.mark.parametrize("field", ["title", "note", "dataset", "profile", "titles", "variants", "parts"])
def test_text_from_a_file_is_escaped(field: str) -> None:
    changed: dict[str, object] = {"titles": {"rallrec": ATTACK}, "variants": {ATTACK: {"samples": "a"}}}
    changed["parts"] = parts(ATTACK)
    report = study(**{field: changed.get(field, ATTACK)})
    page = render_study(report, {"figures": figure_plots(report)} if field == "parts" else {})
    assert "<script" not in page and "&lt;script&gt;alert" in page


def test_names_between_backticks_are_code_and_what_they_hold_stays_text() -> None:
    page = render_study(study(note=f"Tuned as `rallrec` or `{ATTACK}`."), {})
    assert "<p>Tuned as <code>rallrec</code> or <code>" in page and "`" not in page.split("Provenance")[0]
    assert "<script" not in page


@pytest.mark.process
@needs_chromium
def test_the_page_fits_a_phone_and_a_desktop_in_light_and_dark(tmp_path: Path) -> None:
    pages = {}
    for name, report in {
        "plain": study(),
        "parts": study(parts=parts()),
        "long": study(
            title="T" * 120, note="n" * 500, titles={"rallrec": "W" * 120}, variants=MANY, parts=parts("x" * 90)
        ),
    }.items():
        pages[name] = render_study(report, study_plots(report))
    assert_pages_fit(pages, tmp_path)
