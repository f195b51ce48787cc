"""The page of a study: what it tells, which method stands out, and that it fits every screen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rallrec_pipeline.evaluation.study_page import render_study, study_plot, study_plots, study_verdict
from rallrec_pipeline_tests.browser import assert_pages_fit, needs_chromium
from rallrec_pipeline_tests.evaluation.examples import ATTACK, PNG, Tags, study

MANY = {f"variant_{n}_{'v' * 40}": {f"stage_{s}": f"{n}{s}" * 16 for s in range(8)} for n in range(6)}


def bold(page: str) -> list[str]:
    """Rows that stand out."""
    return re.findall(r'<tr class="main"><td><span[^>]*></span>([^<]*)<', page)


def test_the_page_is_well_formed_and_self_contained_and_tells_everything() -> None:
    report = study()
    page = render_study(report, {"AUC": PNG})
    tags = Tags()
    tags.feed(page)
    assert tags.open == [] and "script" not in tags.seen
    assert not re.search(r"(https?:)?//\w|@import|url\(", page)
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
    (picture,) = study_plots(report).values()
    assert picture.startswith(PNG) and 5_000 < len(picture) < 100_000
    report["methods"] |= {f"{name} {n}": f for n in range(7) for name, f in list(report["methods"].items())[:5]}
    report["paired"] |= {name: report["paired"]["rallrec"] for name in report["methods"] if " " in name}
    assert len(study_plot(report)) < 100_000


@pytest.mark.parametrize("field", ["title", "note", "dataset", "profile", "titles", "variants"])
def test_text_from_a_file_is_escaped(field: str) -> None:
    changed = {"titles": {"rallrec": ATTACK}, "variants": {ATTACK: {"samples": "a"}}}.get(field, ATTACK)
    page = render_study(study(**{field: changed}), {})
    assert "<script" not in page and "&lt;script&gt;alert" in page


@pytest.mark.process
@needs_chromium
def test_the_page_fits_a_phone_and_a_desktop_in_light_and_dark(tmp_path: Path) -> None:
    pages = {}
    for name, report in {
        "plain": study(),
        "long": study(title="T" * 120, note="n" * 500, titles={"rallrec": "W" * 120}, variants=MANY),
    }.items():
        pages[name] = render_study(report, study_plots(report))
    assert_pages_fit(pages, tmp_path)
