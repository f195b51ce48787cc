"""How far a measure moves when other users, or other rows, are drawn: the bootstrap.

Clusters (users, or single rows) are resampled with replacement. A resample is how often each cluster is drawn, and
every measure is a function of sums over clusters, so all resamples are a few matrix products. All methods see the same
resamples, which is what pairs them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from rallrec_pipeline.evaluation.measures.by_user import Codes, auc_by_user, gauc, uauc
from rallrec_pipeline.evaluation.measures.metrics import (
    MEASURES,
    PROBABILITY,
    RAW,
    SIDES,
    Floats,
    Labels,
    area_under_roc,
    count_below,
    row_scores,
)
from rallrec_pipeline.evaluation.measures.reliability import bin_codes, reliability_curve

COLUMNS = (*MEASURES, *RAW)
EXACT = 256  # clusters; above, the AUC of a resample is taken to first order
EXACT_OF_ALL = 1024  # the same where all test rows are resampled, which is done once for a report
_CELLS = 1 << 22  # counts held at a time: 32 MB


@dataclass(frozen=True)
class Scores:
    """P(yes) of one method, each (n,). Rows are ranked by `given`; `calibrated` and `raw` are judged as they are.

    Without `raw` its measures are left out.
    """

    given: Floats
    calibrated: Floats
    raw: Floats | None = None


@dataclass(frozen=True)
class Clusters:
    """What is resampled: the cluster of each row, codes (n,) below `count`."""

    codes: Codes
    count: int
    are_users: bool


def users_as_clusters(users: Codes) -> Clusters:
    """Every user of `users` (n,), any codes, with all of his rows."""
    found, codes = np.unique(users, return_inverse=True)
    return Clusters(np.asarray(codes, dtype=np.int64), found.size, are_users=True)


def rows_as_clusters(rows: int) -> Clusters:
    """Each row for itself."""
    return Clusters(np.arange(rows), rows, are_users=False)


def measure(labels: Labels, scores: Scores, users: Codes | None) -> Floats:
    """Every measure of the rows as they are, in the order of COLUMNS; NaN where one is not defined."""
    if labels.size == 0:
        return np.full(len(COLUMNS), np.nan)
    by_user = [uauc(users, labels, scores.given), gauc(users, labels, scores.given)] if users is not None else _NONE[:2]
    judged = [_judged(labels, p) if p is not None else _NONE for p in (scores.calibrated, scores.raw)]
    return np.array([area_under_roc(labels, scores.given), *by_user, *judged[0], *judged[1]])


def bootstrap(
    labels: Labels, scores: Mapping[str, Scores], clusters: Clusters, resamples: int, seed: int, exact: int = EXACT
) -> dict[str, Floats]:
    """Measures of every method on the same resamples: method -> (resamples, len(COLUMNS)) in the order of COLUMNS.

    A measure that a resample does not define is NaN there. UAUC and GAUC are those of users, so they are NaN unless
    users are resampled. Above `exact` clusters AUC is taken to first order.
    """
    rows = _Rows(labels, clusters)
    scorers = {method: _Scorer(labels, found, clusters, exact) for method, found in scores.items()}
    results: dict[str, list[Floats]] = {method: [] for method in scorers}
    for counts in draws(clusters.count, resamples, np.random.default_rng(seed)):
        drawn = rows(counts)
        for method, scorer in scorers.items():
            results[method].append(scorer(counts, drawn))
    return {method: np.concatenate(parts) for method, parts in results.items()}


_NONE = [float("nan")] * len(PROBABILITY)


def _judged(labels: Labels, p: Floats) -> list[float]:
    """The measures of PROBABILITY."""
    loss, accuracy, brier = row_scores(labels, p).mean(axis=0).tolist()
    return [loss, accuracy, reliability_curve(labels, p).ece(), brier]


@dataclass(frozen=True)
class _Drawn:
    """What all methods have in common: rows drawn, pairs of a liked and a disliked one, each (resamples,)."""

    rows: Floats
    pairs: Floats


class _Rows:
    def __init__(self, labels: Labels, clusters: Clusters) -> None:
        self._sums = _sums(np.column_stack([labels == 1, labels == 0]).astype(np.float64), clusters)

    def __call__(self, counts: Floats) -> _Drawn:
        liked, disliked = (counts @ self._sums).T
        return _Drawn(liked + disliked, liked * disliked)


class _Scorer:
    """Measures of one method by how often each cluster is drawn; what resampling does not change is done once.

    AUC: with P and N liked and disliked rows by cluster, and R the rightly ranked pairs by the clusters of both rows, a
    resample w has the AUC w'Rw / (w'P · w'N). R is kept up to `exact` clusters. Above, w'Rw - AUC · w'P · w'N is taken
    to first order around w = 1, as `moves`; what is left out shrinks with the number of clusters, unless one of them
    has a large part of the rows.
    """

    def __init__(self, labels: Labels, scores: Scores, clusters: Clusters, exact: int) -> None:
        self._auc = area_under_roc(labels, scores.given)
        self._pairs = _right_pairs(labels, scores.given, clusters) if clusters.count <= exact else None
        moves = np.zeros(clusters.count) if self._pairs is not None else _moves(labels, scores.given, clusters)
        by_user = _user_sums(labels, scores.given, clusters)
        calibrated = _probability_sums(labels, scores.calibrated, clusters)
        raw = () if scores.raw is None else (_probability_sums(labels, scores.raw, clusters),)
        self._sums = np.column_stack([moves, by_user, calibrated, *raw])
        self._raw = _FIRST + calibrated.shape[1]

    def __call__(self, counts: Floats, drawn: _Drawn) -> Floats:
        """(resamples, clusters) counts -> (resamples, len(COLUMNS))."""
        sums = counts @ self._sums
        if self._pairs is not None:
            auc = _ratio(np.einsum("ij,ij->i", counts @ self._pairs, counts), drawn.pairs)
        else:
            auc = np.clip(self._auc + _ratio(sums[:, 0], drawn.pairs), 0, 1)
        by_user = _ratio(sums[:, 1:3], sums[:, 3:_FIRST])
        means = sums / drawn.rows[:, None]
        parts = means[:, _FIRST : self._raw], means[:, self._raw :]
        return np.column_stack([auc, by_user, *(_probability_measures(part) for part in parts)])


_FIRST = 5  # columns of sums before those of the calibrated probabilities


def _moves(labels: Labels, p: Floats, clusters: Clusters) -> Floats:
    """Rightly ranked pairs that a cluster takes part in, beyond what the AUC lets expect, (clusters,)."""
    liked, ranks = labels == 1, np.empty(p.size)
    ranks[liked] = count_below(p[~liked], p[liked])
    ranks[~liked] = liked.sum() - count_below(p[liked], p[~liked])
    partners = np.where(liked, (~liked).sum(), liked.sum())
    return _sums((ranks - area_under_roc(labels, p) * partners)[:, None], clusters)[:, 0]


def _right_pairs(labels: Labels, p: Floats, clusters: Clusters) -> Floats:
    """Rightly ranked pairs by the cluster of the liked row and that of the disliked one, (clusters, clusters)."""
    liked, disliked = (np.flatnonzero(labels == label) for label in (1, 0))
    liked = liked[np.argsort(clusters.codes[liked], kind="stable")]
    disliked = disliked[np.argsort(p[disliked], kind="stable")]
    pairs = np.zeros((clusters.count, clusters.count))
    if not liked.size or not disliked.size:
        return pairs
    below, upto = (np.searchsorted(p[disliked], p[liked], side) for side in SIDES)
    present, first = np.unique(clusters.codes[liked], return_index=True)
    width = max(1, _CELLS // (p.size + 1))
    for start in range(0, clusters.count, width):
        columns = np.arange(start, min(start + width, clusters.count))
        passed = np.zeros((disliked.size + 1, columns.size))
        np.cumsum(clusters.codes[disliked, None] == columns, axis=0, out=passed[1:])
        pairs[np.ix_(present, columns)] = np.add.reduceat(0.5 * (passed[below] + passed[upto]), first, axis=0)
    return pairs


def _user_sums(labels: Labels, p: Floats, clusters: Clusters) -> Floats:
    """Numerators of UAUC and GAUC, then their denominators, (clusters, 4); zeros unless clusters are users."""
    if not clusters.are_users:
        return np.zeros((clusters.count, 4))
    auc = auc_by_user(clusters.codes, labels, p, clusters.count)
    known = np.isfinite(auc)
    rows = np.where(known, np.bincount(clusters.codes, minlength=clusters.count), 0.0)
    auc = np.where(known, auc, 0.0)
    return np.column_stack([auc, auc * rows, known, rows])


def _probability_sums(labels: Labels, p: Floats, clusters: Clusters) -> Floats:
    """Sums of log loss, rightness and squared error, then of label - p in each bin, (clusters, 3 + bins).

    The bins of a resample are those of all rows.
    """
    bins = bin_codes(p)
    count = int(bins.max(initial=-1)) + 1
    gaps = np.bincount(clusters.codes * count + bins, labels - p, minlength=clusters.count * count)
    return np.column_stack([_sums(row_scores(labels, p), clusters), gaps.reshape(clusters.count, count)])


def _probability_measures(means: Floats) -> Floats:
    """Means of `_probability_sums` (resamples, 3 + bins) -> measures in the order of PROBABILITY; NaN of none."""
    if means.shape[1] == 0:
        return np.full((means.shape[0], len(PROBABILITY)), np.nan)
    loss, accuracy, squared = means[:, :3].T
    return np.column_stack([loss, accuracy, np.abs(means[:, 3:]).sum(axis=1), squared])


def _sums(columns: Floats, clusters: Clusters) -> Floats:
    """Sums of the columns (n, k) over each cluster, (clusters, k)."""
    if not clusters.are_users:
        return columns
    return np.column_stack([np.bincount(clusters.codes, part, minlength=clusters.count) for part in columns.T])


def _ratio(above: Floats, below: Floats) -> Floats:
    """`above` / `below`, NaN where that is zero."""
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)


def draws(clusters: int, resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
    """How often each cluster is drawn, (chunk, clusters) at a time."""
    chunk = max(1, _CELLS // clusters)
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = rng.integers(0, clusters, size=(size, clusters)) + np.arange(size)[:, None] * clusters
        yield np.bincount(drawn.ravel(), minlength=size * clusters).reshape(size, clusters).astype(np.float64)
