"""How near aligned vectors are to their goals, and how they spread: alignment and uniformity of Wang and Isola (2020).

Every measure looks at directions only: rows are normalised first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.held_out import HeldOutFit
from rallrec_pipeline.embeddings.mixture import unit_rows

Vectors = NDArray[np.float32]
Figures = dict[str, Any]
"""Measures by name, None where one is not defined; `not_defined` says why, by the measure's name."""

FEWEST = 10  # items below which nothing is measured: two would be held out
NEAREST = 10
DEPTHS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)  # at which recall is told
BINS = 40  # of cosines from -1 to 1
_SHARES = tuple(f"{name}{end}" for name in ("recall_at_1", f"recall_at_{NEAREST}", "own_nearer") for end in ("", "_se"))
_OF_PAIRS = ("alignment", "other_pairs", "histogram", "histogram_others", "recall", *_SHARES)
_CHUNK = 1_024  # rows that are compared with all others at a time
_NOT_ITSELF = -2.0  # no cosine


@dataclass(frozen=True)
class Comparison:
    """Rows of one kind of vector against all of another.

    `cosines` and `ranks` (k,) are those of each row's own vector, rank 1 the nearest and ties counted against it;
    `histogram` (BINS,) counts the cosines to the vectors of other items and `others` is their mean.
    """

    cosines: NDArray[np.float64]
    ranks: NDArray[np.int64]
    histogram: NDArray[np.int64]
    others: float


def compare(projected: Vectors, goals: Vectors, own: NDArray[np.int64]) -> Comparison:
    """`projected` (k, d) against `goals` (m, d), m at least 2, of which `own[i]` is the row of the i-th item."""
    cosines, ranks = np.empty(len(own)), np.empty(len(own), np.int64)
    histogram, total = np.zeros(BINS, np.int64), 0.0
    for rows, found in _cosines(projected, goals):
        here = (np.arange(len(found)), own[rows])
        cosines[rows] = found[here]
        total += found.sum(dtype=np.float64) - cosines[rows].sum()
        ranks[rows] = (found >= found[here][:, None]).sum(axis=1)
        found[here] = _NOT_ITSELF
        histogram += np.histogram(found, BINS, (-1, 1))[0]
    return Comparison(cosines, ranks, histogram, total / (len(own) * (len(goals) - 1)))


def uniformity(vectors: Vectors) -> float:
    """log mean exp(-2 d²) over pairs of distinct rows of (n, d), n at least 2: 0 where all are alike, else less."""
    total = 0.0
    for rows, found in _cosines(vectors, vectors):
        close = np.exp(4 * found.astype(np.float64) - 4)  # d² = 2 - 2 cos
        total += close.sum() - np.trace(close, offset=rows.start)
    return float(np.log(total / (len(vectors) * (len(vectors) - 1))))


def are_alike(vectors: Vectors) -> bool:
    """Whether all rows of (n, d) point one way: then none can be told from another."""
    return bool(np.ptp(unit_rows(vectors), axis=0).max(initial=0) < 1e-6)


def alignment_figures(projected: Vectors, goals: Vectors, own: NDArray[np.int64]) -> Figures:
    """Measures of `projected` (k, d) against `goals` (m, d), of which `own[i]` is the row of the i-th item.

    `alignment` is the mean squared distance of positive pairs (0 to 4), `other_pairs` that of all others,
    `recall_at_K` the share of rows whose own goal is among the K nearest goals, `own_nearer` the share of goals of
    other items that lie farther than the own one, mean over rows (chance is 0.5); `_se` is the standard error.
    """
    found = compare(projected, goals, own)
    figures: Figures = {
        "items": len(own),
        "alignment": 2 - 2 * float(found.cosines.mean()),
        "other_pairs": 2 - 2 * found.others,
        "uniformity": uniformity(projected) if len(own) > 1 else None,
    }
    shares = {f"recall_at_{k}": (found.ranks <= k).astype(np.float64) for k in (1, NEAREST)}
    shares["own_nearer"] = 1 - (found.ranks - 1) / (len(goals) - 1)
    for name, by_row in shares.items():
        figures |= {name: float(by_row.mean()), f"{name}_se": float(by_row.std() / np.sqrt(len(own)))}
    figures["recall"] = [[k, float((found.ranks <= k).mean())] for k in DEPTHS if k < len(goals)]
    figures["histogram"] = np.histogram(found.cosines, BINS, (-1, 1))[0].tolist()
    figures["histogram_others"] = found.histogram.tolist()
    return _without_trivial(figures, goals)


def held_out_figures(fit: HeldOutFit, text: Vectors, collaborative: Vectors, in_use: Vectors) -> Mapping[str, Figures]:
    """Measures by what is measured: the two kinds of vectors themselves, and four projections of text.

    `text` (n, d_text), `collaborative` and `in_use` (n, d_colla) hold all items; those of `fit` are measured. Goals are
    the collaborative vectors of all of these.
    """
    goals, places = collaborative[fit.rows], np.arange(len(fit.rows))
    fitted, held_out = places[~fit.is_held_out], places[fit.is_held_out]
    return {
        "text": _alone(text[fit.rows]),
        "collaborative": _alone(goals),
        "before": alignment_figures(fit.before, goals, places),
        "fitted": alignment_figures(fit.after[fitted], goals, fitted),
        "held_out": alignment_figures(fit.after[held_out], goals, held_out),
        "in_use": alignment_figures(in_use[fit.rows], goals, places),
    }


def too_few(items: int) -> str:
    """Why nothing is measured on so few items; empty where there are enough."""
    if items >= FEWEST:
        return ""
    return f"{items} items have both a text and a collaborative vector, and {FEWEST} are needed"


def _alone(vectors: Vectors) -> Figures:
    """Of one kind of vector there is no pair."""
    why = "text and collaborative vectors lie in spaces of their own until text is projected"
    return dict.fromkeys(_OF_PAIRS) | {
        "items": len(vectors),
        "uniformity": uniformity(vectors),
        "not_defined": {"alignment": why, "recall": why},
    }


def _without_trivial(figures: Figures, goals: Vectors) -> Figures:
    """`figures` without recall where it would say nothing, and why."""
    why = {"uniformity": "one item makes no pair"} if figures["uniformity"] is None else {}
    if are_alike(goals):
        why["recall"] = "all collaborative vectors are alike"
        figures |= dict.fromkeys(("recall", *_SHARES))
    elif len(goals) <= NEAREST:
        name = f"recall_at_{NEAREST}"
        why[name] = f"of {len(goals)} items each is among the {NEAREST} nearest"
        figures |= {name: None, f"{name}_se": None}
    return figures | {"not_defined": why}


def _cosines(one: Vectors, other: Vectors) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Cosines of all rows of `one` with all of `other`, some rows at a time, each with its place."""
    one, other = unit_rows(one), unit_rows(other)
    for start in range(0, len(one), _CHUNK):
        rows = slice(start, min(start + _CHUNK, len(one)))
        yield rows, np.clip(one[rows] @ other.T, -1, 1)
