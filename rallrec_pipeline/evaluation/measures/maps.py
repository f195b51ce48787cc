"""Item vectors on a plane, and the categories that colour them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.embeddings.held_out import HeldOutFit
from rallrec_pipeline.embeddings.mixture import unit_rows
from rallrec_pipeline.evaluation.measures.alignment import FEWEST, are_alike
from rallrec_pipeline.text import clean_text

Vectors = NDArray[np.float32]
Projection = Callable[[Vectors, int], NDArray[np.float32]]
"""From unit vectors (n, d) and a seed to places (n, 2)."""

CATEGORY_FIELDS = ("genres", "genre", "categories", "category", "class", "type", "subjects", "subject", "tags")
"""Names of fields that say what kind of thing an item is, the first that a dataset has is taken."""
NAMED = 7  # categories that get a colour of their own
MOST_POINTS = 2_000  # of one map


@dataclass(frozen=True)
class Categories:
    """`codes` (n,) are places in `names`, the commonest first; -1 stands for any other, and for none."""

    field: str | None
    names: list[str]
    codes: NDArray[np.int64]


@dataclass(frozen=True)
class Map:
    """Places (k, 2) of the items `rows` (k,); without places `why` says so."""

    rows: NDArray[np.int64]
    places: NDArray[np.float32] | None
    why: str = ""


@dataclass(frozen=True)
class Maps:
    """Text and collaborative vectors each on a map of its own, and after alignment both on one map.

    On the last, the first half of the places is the projected text and the second half the collaborative vectors of
    `after.rows`, of which those `is_held_out` were not in the fit.
    """

    text: Map
    collaborative: Map
    after: Map
    is_held_out: NDArray[np.bool_]


def category_field(spec: DatasetSpec) -> str | None:
    """The field whose first entry colours an item; None where the dataset has none of CATEGORY_FIELDS."""
    fields = {name.lower(): name for name in spec.item_fields}
    return next((fields[name] for name in CATEGORY_FIELDS if name in fields), None)


def categories(items: pl.DataFrame, field: str | None) -> Categories:
    """The first entry of `field` of each item; the commonest have a name of their own."""
    if field is None or field not in items.columns:
        return Categories(None, [], np.full(items.height, -1))
    first = [clean_text((value or "").split(",")[0], 30) for value in items[field]]
    counted = sorted(Counter(name for name in first if name).items(), key=lambda pair: (-pair[1], pair[0]))
    names = [name for name, _ in counted[:NAMED]]
    place = {name: number for number, name in enumerate(names)}
    return Categories(field, names, np.array([place.get(name, -1) for name in first], np.int64))


def projections() -> dict[str, Projection]:
    """The ways to a map on this machine: t-SNE, and UMAP where `umap-learn` is installed."""
    try:
        version("umap-learn")
    except PackageNotFoundError:
        return {"t-SNE": t_sne}
    return {"t-SNE": t_sne, "UMAP": umap}


def t_sne(vectors: Vectors, seed: int) -> NDArray[np.float32]:
    """Barnes-Hut t-SNE of (n, d), n at least FEWEST, to (n, 2)."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(30.0, (len(vectors) - 1) / 3)
    # One thread, because several that share their cores with other work wait for each other: 75 s became 18 s.
    with threadpool_limits(1):
        found = TSNE(perplexity=perplexity, init="pca", max_iter=500, angle=0.8, random_state=seed % 2**32)
        places: NDArray[np.float32] = found.fit_transform(vectors)
    return places


def umap(vectors: Vectors, seed: int) -> NDArray[np.float32]:
    """UMAP of (n, d), n at least FEWEST, to (n, 2)."""
    from umap import UMAP  # type: ignore[import-not-found,unused-ignore]

    neighbours = min(15, len(vectors) - 1)
    places: NDArray[np.float32] = UMAP(n_neighbors=neighbours, random_state=seed % 2**32, n_jobs=1).fit_transform(
        vectors
    )
    return places


def draw_maps(text: Vectors, collaborative: Vectors, fit: HeldOutFit | None, by: Projection, seed: int) -> Maps:
    """Maps of `text` (n, d_text) and `collaborative` (n, d_colla) before, and of both after the alignment `fit`."""
    nothing = Map(np.zeros(0, np.int64), None, "too few items have both a text and a collaborative vector")
    after, is_held_out = nothing, np.zeros(0, np.bool_)
    if fit is not None:
        drawn = _drawn(np.arange(len(fit.rows)), MOST_POINTS // 2, seed)
        is_held_out, rows = fit.is_held_out[drawn], fit.rows[drawn]
        both = np.concatenate([unit_rows(fit.after[drawn]), unit_rows(collaborative[rows])])
        after = _placed(rows, both, by, seed)
    return Maps(_map_of(text, by, seed), _map_of(collaborative, by, seed), after, is_held_out)


def _map_of(vectors: Vectors, by: Projection, seed: int) -> Map:
    rows = _drawn(np.flatnonzero(vectors.any(axis=1)), MOST_POINTS, seed)
    return _placed(rows, vectors[rows], by, seed)


def _placed(rows: NDArray[np.int64], vectors: Vectors, by: Projection, seed: int) -> Map:
    if len(rows) < FEWEST:
        return Map(rows, None, f"{len(rows)} items have such a vector, and {FEWEST} are needed")
    if are_alike(vectors):
        return Map(rows, None, "all vectors are alike")
    unit = unit_rows(vectors)
    if unit.shape[1] < 2:  # a plane needs a second axis
        unit = np.pad(unit, ((0, 0), (0, 1)))
    return Map(rows, by(unit, seed))


def _drawn(rows: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """`rows`, or a draw of `most` of them in their order."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng([seed, 2]).choice(rows, most, replace=False))


def why_not_drawn(maps: Maps) -> Mapping[str, str]:
    """By map, why there is none."""
    return {name: found.why for name in ("text", "collaborative", "after") if (found := getattr(maps, name)).why}
