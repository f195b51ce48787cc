"""What the factorisation thinks of any rating, out of time: for a prompt to state as a fact.

An opinion is made of the user's earlier ratings and of a fit that has not seen the rating. Where ratings have times,
the fit has seen nothing from the row's moment on either: there are fits on the training ratings before each of `CUTS`,
and a row takes the last one that ends before it. Where users are split, each eighth of the training ratings is foretold
by a fit on the others. Validation and test rows take the fit on the whole training split, as the expert `factorisation`
does, so their opinions in units of the rating are the expert's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.baselines.classifiers import logistic_regression
from rallrec_pipeline.baselines.factorisation import fit_factorisation
from rallrec_pipeline.baselines.rating_log import RatingLog, Rows, Seen, moments, rows_of

CUTS = (1 / 32, 1 / 16, *(eighth / 8 for eighth in range(1, 8)))  # shares of the training ratings
PARTS = 8  # of the training ratings, where users are split
MOST = 20_000  # training samples that the curve from ratings to P(yes) is fitted on


def factorisation_opinions(
    core: pl.DataFrame,
    samples: pl.DataFrame,
    item_ids: Sequence[str],
    rows: pl.DataFrame,
    like_above: float,
    seed: int,
) -> pl.DataFrame:
    """`rows` with the columns `factorisation` (Float64, in units of the rating) and `factorisation_p_yes` (Float64).

    `core` and `samples` are the tables `core_interactions` and `samples`, `item_ids` those of `core_items`. `rows` have
    user_id, item_id and history_length, as samples have: of the user only the first `history_length` ratings are known.
    `rated_rows` gives it to ratings of a history. Raises DataError for an unknown id.
    """
    if rows.is_empty():
        nothing = pl.lit(None, pl.Float64)
        return rows.with_columns(nothing.alias("factorisation"), nothing.alias("factorisation_p_yes"))
    log = RatingLog.of(core, samples, item_ids)
    codes = rows_of(rows, log.sequences)
    known = log.rows[_judged(log)]
    both = Rows(*(np.concatenate(pair) for pair in zip(vars(codes).values(), vars(known).values(), strict=True)))
    ratings = _opinions(log, both, like_above, seed)
    curve, labels = logistic_regression(), log.labels[_judged(log)]
    if np.unique(labels).size == 2:
        p_yes = curve.fit(ratings[len(rows) :, None], labels).predict_proba(ratings[: len(rows), None])[:, 1]
    else:  # no curve: the share of either answer
        p_yes = np.full(len(rows), labels.mean() if len(labels) else 0.5)
    return rows.with_columns(
        pl.Series("factorisation", ratings[: len(rows)], dtype=pl.Float64),
        pl.Series("factorisation_p_yes", p_yes, dtype=pl.Float64),
    )


def rated_rows(core: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """`pairs` (user_id, item_id and more) with the `history_length` of their ratings; null where `core` has none."""
    place = pl.int_range(pl.len(), dtype=pl.Int32).over("user_id").alias("history_length")
    return pairs.join(
        core.select("user_id", "item_id", place), on=["user_id", "item_id"], how="left", maintain_order="left"
    )


def _judged(log: RatingLog) -> NDArray[np.int64]:
    """Training samples that the curve is fitted on: the later half, evenly spaced, or all where users are split."""
    late = log.train[len(log.train) // 2 :] if log.in_time else log.train
    return late[np.linspace(0, len(late) - 1, min(MOST, len(late))).astype(np.int64)]


def _opinions(log: RatingLog, rows: Rows, like_above: float, seed: int) -> NDArray[np.float64]:
    found = np.zeros(len(rows))
    sequences = log.sequences
    for chosen, seen in _fits(log, rows, seed):
        if not len(chosen):
            continue
        model = fit_factorisation(seen.judged, len(sequences.item_ids), seed, like_above)
        some, flat = rows[chosen], (sequences.items, sequences.ratings)
        opinion = model.opinions(*flat, log.histories(some), some.targets, one_sided=log.is_sampled)
        found[chosen] = opinion.rating
    return found


def _fits(log: RatingLog, rows: Rows, seed: int) -> Iterator[tuple[NDArray[np.int64], Seen]]:
    """Places in `rows`, and what may be seen for them."""
    if log.in_time:
        return _fits_in_time(log, rows)
    return _fits_in_parts(log, rows, seed)


def _fits_in_time(log: RatingLog, rows: Rows) -> Iterator[tuple[NDArray[np.int64], Seen]]:
    asked = moments(rows, log.sequences, log.places)
    end = int(log.fitted.sum())  # training ratings are the first of the core
    cuts = np.unique([0, *(int(share * end) for share in CUTS), end])
    number = np.searchsorted(cuts, asked, side="right") - 1
    for place, cut in enumerate(cuts):
        yield np.flatnonzero(number == place), log.before(int(cut))


def _fits_in_parts(log: RatingLog, rows: Rows, seed: int) -> Iterator[tuple[NDArray[np.int64], Seen]]:
    sequences = log.sequences
    part = np.random.default_rng(seed).integers(0, PARTS, len(sequences.items))
    flat = np.minimum(sequences.offsets[rows.users] + rows.lengths, len(part) - 1)
    is_own = (sequences.items[flat] == rows.targets) & log.fitted[flat]
    number = np.where(is_own, part[flat], PARTS)
    for one in range(PARTS + 1):
        yield np.flatnonzero(number == one), log.without(part == one)
