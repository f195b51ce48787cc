"""Report, plots and page on alignment: of a good catalogue, and of those that lack something."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.evaluation.pages.alignment_page import held_out_sentence, memory_sentence, render_alignment_page
from rallrec_pipeline.evaluation.reports.alignment_report import AlignmentInputs
from rallrec_pipeline_tests.browser import assert_pages_fit, needs_chromium
from rallrec_pipeline_tests.datasets.worlds import make_spec
from rallrec_pipeline_tests.evaluation.alignment_examples import catalogue, inputs, made, reported, vectors
from rallrec_pipeline_tests.evaluation.examples import ATTACK, PNG, Tags

BARE = make_spec(items={"file": "s.item", "columns": {"title": "movie_title"}})


def alike(*kinds: str) -> AlignmentInputs:
    parts = vectors()
    return inputs(catalogue(), parts | {kind: np.ones_like(parts[kind]) for kind in kinds})


def without_collaborative() -> AlignmentInputs:
    parts = vectors()
    return inputs(catalogue(), parts | {"collaborative": np.zeros_like(parts["collaborative"])})


WORLDS: dict[str, Callable[[], tuple[AlignmentInputs, DatasetSpec | None]]] = {
    "plain": lambda: (inputs(), None),
    "no category": lambda: (inputs(catalogue().drop("year", "genres")), BARE),
    "no texts": lambda: (inputs(catalogue(title=[""] * 40, genres=[""] * 40, year=[None] * 40)), None),
    "ten items": lambda: (inputs(catalogue(10)), None),
    "nine items": lambda: (inputs(catalogue(9)), None),
    "one item": lambda: (inputs(catalogue(1)), None),
    "like texts": lambda: (alike("text"), None),
    "like collaborative vectors": lambda: (alike("collaborative"), None),
    "all alike": lambda: (alike("text", "collaborative", "aligned"), None),
    "nothing learned": lambda: (without_collaborative(), None),
}


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    """The report of a good catalogue; tests must not change it."""
    return reported()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("world", WORLDS)
def test_every_catalogue_has_a_sound_report_and_page(world: str) -> None:
    from matplotlib.image import imread

    report, measures, maps = made(*WORLDS[world]())
    json.dumps(report, allow_nan=False)
    assert len(measures) == 2 and len(maps) == 4
    for png in (*measures.values(), *maps.values()):
        assert png.startswith(PNG) and len(png) < 100_000
        assert len(np.unique(imread(BytesIO(png), format="png")[..., 0])) > 10, "not blank"
    page = render_alignment_page(report, measures, maps)
    tags = Tags()
    tags.feed(page)
    assert tags.open == [] and "script" not in tags.seen and tags.seen.count("img") == 6
    assert not re.search(r"(https?:)?//\w|@import|url\(|\bnan\b|None", re.sub(r"base64,[^\"]*", "", page))
    assert "prefers-color-scheme" in page and tags.seen.count("details") == 1 + len(report["nearest"])
    assert f"<p>{held_out_sentence(report)}</p>".replace("'", "&#39;") in page


def test_few_items_and_like_vectors_say_what_is_not_defined() -> None:
    nine = reported(inputs(catalogue(9)))
    assert held_out_sentence(nine) == (
        "Nothing is measured, because 9 items have both a text and a collaborative vector, and 10 are needed."
    )
    assert nine["figures"] == {} and nine["maps"]["Axes"]["not_drawn"].keys() == {"text", "collaborative", "after"}
    report = reported(alike("collaborative"))
    assert report["figures"]["held_out"]["recall_at_10"] is None and memory_sentence(report) == []
    page = render_alignment_page(report, {}, {})
    assert "Recall is not defined, because all collaborative vectors are alike." in page
    one = reported(inputs(catalogue(1)))
    assert "not defined, because no other item has such a vector." in render_alignment_page(one, {}, {})


def test_held_out_figures_stand_in_the_first_sentence_and_the_table(plain: dict[str, Any]) -> None:
    report = plain
    held_out, measured = report["figures"]["held_out"], report["measured"]
    assert (measured["items"], measured["fitted"], measured["held_out"]) == (40, 32, 8)
    assert len(measured["held_out_items"]) == 8 and measured["chance"] == {"1": 1 / 40, "10": 0.25}
    page = render_alignment_page(report, {}, {})
    assert f"and for {held_out['recall_at_10']:.1%}" in held_out_sentence(report)
    assert f"<td>{held_out['alignment']:.3f}</td>" in page and "<th>Held out</th>" in page
    assert "By the mixture: 0.5 text + 1 collaborative" in page and "co-rater" in page


def test_memory_is_told_from_what_carries_over() -> None:
    report: dict[str, Any] = {"figures": {"fitted": {"recall_at_10": 1.0}, "held_out": {}}}
    shares = {"recall_at_10_se": 0.01, "own_nearer": 0.58, "own_nearer_se": 0.02}
    report["figures"]["held_out"] = shares | {"recall_at_10": 0.02}
    (memory,) = memory_sentence(report)
    assert memory.startswith("e_ssl memorises the vectors") and "58.0% ± 2.0%" in memory
    report["figures"]["held_out"] = shares | {"recall_at_10": 0.7}
    assert memory_sentence(report)[0].startswith("What e_ssl learns carries over")


@pytest.mark.parametrize("field", ["title", "dataset", "item", "genres", "year", "caption"])
def test_text_from_data_is_escaped(field: str, plain: dict[str, Any]) -> None:
    column = "title" if field == "item" else field
    fields = {"title": "dataset_title", "dataset": "dataset"}
    report = plain | ({fields[field]: ATTACK} if field in fields else {})
    if field in ("item", "genres", "year"):
        report = reported(inputs(catalogue(**{column: [ATTACK] * 40})))
    page = render_alignment_page(report, {}, {ATTACK if field == "caption" else "a map": PNG})
    assert "<script" not in page and "script&gt;alert" in page


def test_categories_that_look_like_formulas_can_be_plotted() -> None:
    _, measures, maps = made(inputs(catalogue(genres=["$\\frac{"] * 20 + ["costs $1 or $2"] * 20)))
    assert all(png.startswith(PNG) for png in (*measures.values(), *maps.values()))


@pytest.mark.process
@needs_chromium
def test_the_page_fits_a_phone_and_a_desktop_in_light_and_dark(tmp_path: Path) -> None:
    long = catalogue(title=["W" * 80] * 40, genres=["x" * 90] * 20 + ["Drama, Comedy, War"] * 20)
    worlds = {"alignment": made(inputs(long)), "too_few": made(inputs(catalogue(4)))}
    assert_pages_fit({name: render_alignment_page(*found) for name, found in worlds.items()}, tmp_path)
