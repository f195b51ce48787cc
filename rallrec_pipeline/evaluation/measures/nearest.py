"""The items nearest to a few sample items by each kind of vector, and what could be the reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.embeddings.mixture import unit_rows
from rallrec_pipeline.evaluation.measures.alignment import NEAREST
from rallrec_pipeline.settings import MIXTURE
from rallrec_pipeline.text import clean_text

PARTS = ("text", "collaborative", "aligned")
KINDS = (*PARTS, MIXTURE)
SAMPLES = {"popular": 3, "middle": 3, "rare": 2}
BETWEEN = ", "  # entries of a field that came as a list
_FIELD = 120  # characters


@dataclass(frozen=True)
class ItemVectors:
    """Rows (n, d) by kind, in the order of `core_items`, whose dot products are what an item is near by.

    Those of the parts are normalised; those of the mixture are as eq. 7 leaves them, so their dot product is what
    retrieval goes by: the parts' cosines, weighted.
    """

    by_kind: Mapping[str, NDArray[np.float32]]

    @classmethod
    def of(cls, parts: Mapping[str, NDArray[np.float32]], mixture: NDArray[np.float32]) -> ItemVectors:
        """From the tables' vectors; `parts` has all of PARTS."""
        return cls({kind: unit_rows(parts[kind]) for kind in PARTS} | {MIXTURE: mixture})

    def similarities(self, row: int) -> dict[str, NDArray[np.float32]]:
        """Of the item `row` to all items, by kind; (n,) each."""
        return {kind: vectors @ vectors[row] for kind, vectors in self.by_kind.items()}


def sample_rows(ratings: NDArray[np.int64], titled: NDArray[np.bool_]) -> list[tuple[str, int]]:
    """A few items by their number of training ratings (n,): how each is rated, and its row.

    The most rated items, those about the median, and the least rated; of equal ones the first in the table. Items
    that are rated and have a title (n,) are preferred where there are enough.
    """
    wanted = sum(SAMPLES.values())
    for kept in ((ratings > 0) & titled, ratings > 0, np.ones(len(ratings), np.bool_)):
        if kept.sum() >= wanted:
            break
    rows = np.flatnonzero(kept)
    ranked = rows[np.argsort(-ratings[rows], kind="stable")].tolist()
    if len(ranked) <= wanted:
        return [(_how_rated(place, len(ranked)), row) for place, row in enumerate(ranked)]
    middle = (len(ranked) - SAMPLES["middle"]) // 2
    first = {"popular": 0, "middle": middle, "rare": len(ranked) - SAMPLES["rare"]}
    return [(name, ranked[first[name] + place]) for name, count in SAMPLES.items() for place in range(count)]


def nearest_items(
    items: pl.DataFrame,
    training: pl.DataFrame,
    vectors: ItemVectors,
    spec: DatasetSpec,
    category: str | None = None,
) -> list[dict[str, Any]]:
    """Each sample item with its nearest others by kind of vector, the nearest first.

    `items` is the table `core_items`, `training` the training interactions. The reasons of a neighbour are the entries
    of fields that both have, the number of users who rated both in training, and the similarity by every kind. For
    each kind `nearest` has a list of neighbours, or a sentence that begins "not defined, because".
    """
    ratings = _training_ratings(items, training)
    titled = (items["title"].fill_null("").str.strip_chars() != "").to_numpy()
    chosen = sample_rows(ratings, titled)
    raters = co_raters(training, [items["item_id"][row] for _, row in chosen])
    fields = _fields(items, spec, category)
    found = []
    for how, row in chosen:
        item_id, similar = items["item_id"][row], vectors.similarities(row)
        shown = _shown(items, row) | {"rated": how, "training_ratings": int(ratings[row])}
        shown["fields"] = {name: BETWEEN.join(entries) for name, entries in fields[row].items()}
        shown["nearest"] = {
            kind: _why_none(vectors.by_kind[kind], row, ratings)
            or [
                _shown(items, other)
                | {"shared": _shared(fields[row], fields[other])}
                | {"co_raters": raters.get((item_id, items["item_id"][other]), 0)}
                | {"similarity": {name: round(float(scores[other]), 4) for name, scores in similar.items()}}
                for other in _nearest(vectors.by_kind[kind], similar[kind], row)
            ]
            for kind in KINDS
        }
        found.append(shown)
    return found


def co_raters(training: pl.DataFrame, item_ids: Sequence[str]) -> dict[tuple[str, str], int]:
    """How many users rated both, by pairs of one of `item_ids` and any item; pairs without any are left out."""
    rated = training.select("user_id", "item_id")
    ours = rated.filter(pl.col("item_id").is_in(list(item_ids))).rename({"item_id": "sample"})
    counts = ours.join(rated, on="user_id").group_by("sample", "item_id").len()
    return {(sample, item): int(count) for sample, item, count in counts.iter_rows()}


def _training_ratings(items: pl.DataFrame, training: pl.DataFrame) -> NDArray[np.int64]:
    counts = training.group_by("item_id").len()
    joined = items.select("item_id").join(counts, on="item_id", how="left", maintain_order="left")
    return joined["len"].fill_null(0).to_numpy().astype(np.int64)


def _how_rated(place: int, items: int) -> str:
    """Thirds of a table that is as short as the choice."""
    return tuple(SAMPLES)[min(2, 3 * place // items)]


def _nearest(vectors: NDArray[np.float32], scores: NDArray[np.float32], row: int) -> Iterable[int]:
    """Rows of the nearest others that have a vector; of equal ones the first in the table."""
    others = np.flatnonzero(vectors.any(axis=1))
    others = others[others != row]
    ranked: list[int] = others[np.argsort(-scores[others], kind="stable")[:NEAREST]].tolist()
    return ranked


def _why_none(vectors: NDArray[np.float32], row: int, ratings: NDArray[np.int64]) -> str:
    """Why an item has no nearest others; empty where it has."""
    if not vectors[row].any():
        rated = "" if ratings[row] else ": nobody rated it in training"
        return f"not defined, because the item has no such vector{rated}"
    if np.count_nonzero(vectors.any(axis=1)) < 2:
        return "not defined, because no other item has such a vector"
    return ""


def _shown(items: pl.DataFrame, row: int) -> dict[str, Any]:
    title = clean_text(items["title"][row] or "") or "untitled"
    return {"item_id": items["item_id"][row], "title": title}


def _fields(items: pl.DataFrame, spec: DatasetSpec, category: str | None) -> list[dict[str, list[str]]]:
    """What each item says of itself: entries by field, empty ones left out."""
    names = [name for name in spec.item_fields if name in items.columns]
    lists = {name for name in names if spec.items.columns[name].split or name == category}
    return [
        {name: _entries(row[name], name in lists) for name in names if row[name]}
        for row in items.select("item_id", *names).iter_rows(named=True)  # without a field there would be no row
    ]


def _entries(value: str, is_list: bool) -> list[str]:
    return [clean_text(entry, _FIELD) for entry in (value.split(BETWEEN) if is_list else [value]) if entry.strip()]


def _shared(one: Mapping[str, list[str]], other: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Entries that both items have, by field."""
    both = {name: [entry for entry in entries if entry in other.get(name, ())] for name, entries in one.items()}
    return {name: entries for name, entries in both.items() if entries}
