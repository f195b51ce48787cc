"""A small catalogue with vectors, for the tests of the report on alignment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.embeddings.held_out import fit_held_out, measurable_items
from rallrec_pipeline.embeddings.mixture import mix
from rallrec_pipeline.evaluation.measures.alignment import too_few
from rallrec_pipeline.evaluation.measures.maps import categories, category_field, draw_maps
from rallrec_pipeline.evaluation.plots.alignment_plots import maps_plots, measures_plots
from rallrec_pipeline.evaluation.reports.alignment_report import AlignmentInputs, build_alignment_report
from rallrec_pipeline.settings import AlignmentSettings
from rallrec_pipeline_tests.datasets.worlds import make_spec

SETTINGS = AlignmentSettings(hidden=16, epochs=30, learning_rate=5e-3)
GENRES = ("Drama", "Comedy, Romance", "Action", "Horror, Comedy")
WEIGHTS = {"text": 0.5, "collaborative": 1.0, "aligned": 0.0}

Vectors = NDArray[np.float32]


def catalogue(n: int = 40, **columns: Any) -> pl.DataFrame:
    """Items `i0`, `i1`, …; `columns` replace fields."""
    numbers = range(n)
    fields = {
        "item_id": [f"i{number}" for number in numbers],
        "title": [f"Title {number}" for number in numbers],
        "year": [str(1990 + number % 5) for number in numbers],
        "genres": [GENRES[number % len(GENRES)] for number in numbers],
    }
    return pl.DataFrame(fields | columns)


def training(n: int = 40, users: int = 12) -> pl.DataFrame:
    """Ratings in which item 0 is everybody's and the later items are rarer; the last is nobody's."""
    rows = [(f"u{user}", f"i{item}") for user in range(users) for item in range(n - 1) if user * n >= item * users]
    return pl.DataFrame(rows, schema={"user_id": pl.String, "item_id": pl.String}, orient="row")


def vectors(n: int = 40, seed: int = 0) -> dict[str, Vectors]:
    """Text vectors of 12 dimensions; collaborative ones of 6 that follow from them."""
    rng = np.random.default_rng(seed)
    text = rng.normal(size=(n, 12)).astype(np.float32)
    collaborative = (text @ rng.normal(size=(12, 6))).astype(np.float32)
    aligned = (collaborative + 0.1 * rng.normal(size=(n, 6))).astype(np.float32)
    return {"text": text, "collaborative": collaborative, "aligned": aligned}


def inputs(items: pl.DataFrame | None = None, parts: dict[str, Vectors] | None = None) -> AlignmentInputs:
    """What a report is made of; the projector is really fitted, where there are enough items."""
    items = catalogue() if items is None else items
    parts = vectors(items.height) if parts is None else parts
    rows = measurable_items(parts["text"], parts["collaborative"])
    fit = None
    if not too_few(len(rows)):
        fit = fit_held_out(parts["text"], parts["collaborative"], rows, SETTINGS, seed=1)
    mixture = mix(parts, WEIGHTS)  # type: ignore[arg-type]
    return AlignmentInputs(items, training(items.height), parts, mixture, WEIGHTS, len(rows), fit)


def first_axes(unit: Vectors, seed: int) -> Vectors:
    """The quickest projection there is."""
    return unit[:, :2]


def reported(given: AlignmentInputs | None = None, spec: DatasetSpec | None = None) -> dict[str, Any]:
    """A report, without anything drawn."""
    return _made(given or inputs(), spec or make_spec())[0]


def made(
    given: AlignmentInputs | None = None, spec: DatasetSpec | None = None, **changes: Any
) -> tuple[dict[str, Any], dict[str, bytes], dict[str, bytes]]:
    """A report, the plots of its measures and its maps; `changes` replace fields of the inputs."""
    report, maps, category = _made(replace(given or inputs(), **changes), spec or make_spec())
    return report, measures_plots(report), maps_plots(maps, category)


def _made(given: AlignmentInputs, spec: DatasetSpec) -> tuple[dict[str, Any], dict[str, Any], Any]:
    category = categories(given.items, category_field(spec))
    text, collaborative = given.parts["text"], given.parts["collaborative"]
    maps = {"Axes": draw_maps(text, collaborative, given.fit, first_axes, seed=1)}
    return build_alignment_report(given, spec, category, maps, 1, {"run_id": "r"}), maps, category
