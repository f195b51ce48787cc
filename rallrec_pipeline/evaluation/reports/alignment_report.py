"""The figures of the report on alignment, JSON-able: no number is NaN, what is not defined is None with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.embeddings.held_out import HeldOutFit
from rallrec_pipeline.evaluation.measures.alignment import NEAREST, held_out_figures, too_few
from rallrec_pipeline.evaluation.measures.maps import Categories, Maps, why_not_drawn
from rallrec_pipeline.evaluation.measures.nearest import ItemVectors, nearest_items

Vectors = NDArray[np.float32]
Report = dict[str, Any]


@dataclass(frozen=True)
class AlignmentInputs:
    """What is reported on: `items` (n rows, as in `core_items`), `training` interactions, vectors (n, d) by kind.

    `parts` has text, collaborative and aligned; `weights` are those of the parts in `mixture` (eq. 7). `fit` is None
    where too few of the `measurable` items have both vectors that it needs.
    """

    items: pl.DataFrame
    training: pl.DataFrame
    parts: Mapping[str, Vectors]
    mixture: Vectors
    weights: Mapping[str, float]
    measurable: int
    fit: HeldOutFit | None


def build_alignment_report(
    inputs: AlignmentInputs,
    spec: DatasetSpec,
    category: Categories,
    maps: Mapping[str, Maps],
    seed: int,
    provenance: Mapping[str, Any],
) -> Report:
    """All figures of the page; `maps` are by the name of their projection."""
    fit, parts = inputs.fit, inputs.parts
    figures = held_out_figures(fit, parts["text"], parts["collaborative"], parts["aligned"]) if fit else {}
    counts = np.bincount(category.codes[category.codes >= 0], minlength=len(category.names)).tolist()
    return {
        "dataset": spec.name,
        "dataset_title": spec.title,
        "seed": seed,
        "items": inputs.items.height,
        "measured": _measured(inputs),
        "dimensions": {kind: int(vectors.shape[1]) for kind, vectors in parts.items()},
        "weights": dict(inputs.weights),
        "figures": dict(figures),
        "category": {"field": category.field, "items": dict(zip(category.names, counts, strict=True))},
        "maps": {name: _drawn(found) for name, found in maps.items()},
        "nearest": nearest_items(
            inputs.items, inputs.training, ItemVectors.of(parts, inputs.mixture), spec, category.field
        ),
        "provenance": dict(provenance),
    }


def _measured(inputs: AlignmentInputs) -> dict[str, Any]:
    """Which items were measured and which of them held out; why none were."""
    fit = inputs.fit
    if fit is None:
        return {"items": 0, "why": too_few(inputs.measurable)}
    held_out = fit.rows[fit.is_held_out]
    measured = len(fit.rows)
    return {
        "items": measured,
        "have_both_vectors": inputs.measurable,
        "fitted": measured - len(held_out),
        "held_out": len(held_out),
        "chance": {str(k): min(1.0, k / measured) for k in (1, NEAREST)},
        "held_out_items": inputs.items["item_id"].gather(held_out).to_list(),
        "why": "",
    }


def _drawn(maps: Maps) -> dict[str, Any]:
    items = {name: len(getattr(maps, name).rows) for name in ("text", "collaborative", "after")}
    return {"items": items, "not_drawn": dict(why_not_drawn(maps))}
