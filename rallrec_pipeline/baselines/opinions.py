"""What is expected of every rating, out of time: for a prompt to state as a fact.

An opinion is made of the user's earlier ratings and of fits that have not seen the rating. Where ratings have times,
the fits have seen nothing from the row's moment on either: there are fits on the training ratings before each of
`CUTS`, and a row takes the last one that ends before it. Where users are split, each eighth of the training ratings is
foretold by fits on the others. Validation and test rows take the fits on the whole training split, so what is expected
of them by the factorisation is what the expert `factorisation` says.

Where experts are weighed, the weights are fitted on the later training rows. Those of a row that is not foretold by the
whole training split come from rows of other users, so that neither it nor a line of its prompt knows its answer; some
of these are later than the row, and all that they tell it are 16 weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.baselines.expectation import FACTORISATION, WEIGHED, Weights, fit_weights
from rallrec_pipeline.baselines.expert_features import Describer, Group
from rallrec_pipeline.baselines.rating_log import Codes, RatingLog, Rows, Seen, moments, rows_of
from rallrec_pipeline.language_models.protocols import Progress
from rallrec_pipeline.settings import ExpectedBy

CUTS = (1 / 32, 1 / 16, *(eighth / 8 for eighth in range(1, 8)))  # shares of the training ratings
PARTS = 8  # of the training ratings, where users are split
USER_PARTS = 5  # of the users, each weighed by a fit on the others
MOST = 20_000  # training samples that weights are fitted on

Floats = NDArray[np.float32]


def expected_ratings(
    core: pl.DataFrame,
    samples: pl.DataFrame,
    item_ids: Sequence[str],
    rows: pl.DataFrame,
    like_above: float,
    seed: int,
    by: ExpectedBy = "factorisation",
    progress: Progress = lambda done, total: None,
) -> tuple[pl.DataFrame, Weights]:
    """`rows` with the column `expected` (Float32, in units of the rating), and what the features of later rows weigh.

    `core` and `samples` are the tables `core_interactions` and `samples`, `item_ids` those of `core_items`. `rows` have
    user_id, item_id and history_length, as samples have: of the user only the first `history_length` ratings are known.
    `rated_rows` gives it to ratings of a history. Raises DataError for an unknown id.
    """
    if rows.is_empty():
        return rows.with_columns(pl.lit(None, pl.Float32).alias("expected")), FACTORISATION
    log = RatingLog.of(core, samples, item_ids)
    asked, judged = rows_of(rows, log.sequences), _judged(log) if by == "experts" else np.zeros(0, np.int64)
    wanted = WEIGHED if by == "experts" else FACTORISATION.groups
    found = _features(log, _both(asked, log.rows[judged]), like_above, seed, wanted, progress)
    if by == "factorisation":
        return rows.with_columns(pl.Series("expected", FACTORISATION(found.features), dtype=pl.Float32)), FACTORISATION
    known, fitting = found[slice(0, len(asked))], found[slice(len(asked), None)]
    expected, weights = _weighed(known, asked.users, fitting, log.rows.users[judged], log.values[judged])
    return rows.with_columns(pl.Series("expected", expected, dtype=pl.Float32)), weights


def rated_rows(core: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """`pairs` (user_id, item_id and more) with the `history_length` of their ratings; null where `core` has none."""
    place = pl.int_range(pl.len(), dtype=pl.Int32).over("user_id").alias("history_length")
    return pairs.join(
        core.select("user_id", "item_id", place), on=["user_id", "item_id"], how="left", maintain_order="left"
    )


def _judged(log: RatingLog) -> NDArray[np.int64]:
    """Training samples that weights are fitted on: the later half, evenly spaced, or all where users are split."""
    late = log.train[len(log.train) // 2 :] if log.in_time else log.train
    return late[np.linspace(0, len(late) - 1, min(MOST, len(late))).astype(np.int64)]


def _both(rows: Rows, others: Rows) -> Rows:
    return Rows(*(np.concatenate(pair) for pair in zip(vars(rows).values(), vars(others).values(), strict=True)))


@dataclass(frozen=True)
class _Described:
    """Features (n,) of rows, and which rows were foretold by fits on the whole training split."""

    features: Mapping[str, Floats]
    is_whole: NDArray[np.bool_]

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> _Described:
        return _Described({name: values[rows] for name, values in self.features.items()}, self.is_whole[rows])


def _weighed(
    rows: _Described, users: Codes, fitting: _Described, fitting_users: Codes, ratings: Floats
) -> tuple[NDArray[np.float64], Weights]:
    """What is expected of `rows` by weights of the rows `fitting`, and the weights of all of these."""
    weights = fit_weights(fitting.features, ratings)
    expected = weights(rows.features)
    for part in range(USER_PARTS):
        own = np.flatnonzero((users % USER_PARTS == part) & ~rows.is_whole)
        others = np.flatnonzero(fitting_users % USER_PARTS != part)
        expected[own] = fit_weights(fitting[others].features, ratings[others])(rows[own].features)
    return expected, weights


def _features(
    log: RatingLog, rows: Rows, like_above: float, seed: int, groups: Sequence[Group], progress: Progress
) -> _Described:
    """Features of `rows`, each by fits that have seen neither its answer nor anything later."""
    describer = Describer(log, np.zeros((0, 0), np.float32), like_above, seed)
    found, is_whole, done = dict[str, Floats](), np.zeros(len(rows), np.bool_), 0
    for chosen, seen, whole in _fits(log, rows, seed):
        if not len(chosen):
            continue
        some = rows[chosen]
        for group in groups:
            for name, values in describer.features(group, seen, some).items():
                found.setdefault(name, np.zeros(len(rows), np.float32))[chosen] = values
        is_whole[chosen] = whole
        done += len(chosen)
        progress(done, len(rows))
    return _Described(found, is_whole)


def _fits(log: RatingLog, rows: Rows, seed: int) -> Iterator[tuple[NDArray[np.int64], Seen, bool]]:
    """Places in `rows`, what may be seen for them, and whether that is the whole training split."""
    if log.in_time:
        return _fits_in_time(log, rows)
    return _fits_in_parts(log, rows, seed)


def _fits_in_time(log: RatingLog, rows: Rows) -> Iterator[tuple[NDArray[np.int64], Seen, bool]]:
    asked = moments(rows, log.sequences, log.places)
    end = int(log.fitted.sum())  # training ratings are the first of the core
    cuts = np.unique([0, *(int(share * end) for share in CUTS), end])
    number = np.searchsorted(cuts, asked, side="right") - 1
    for place, cut in enumerate(cuts):
        yield np.flatnonzero(number == place), log.before(int(cut)), cut == end


def _fits_in_parts(log: RatingLog, rows: Rows, seed: int) -> Iterator[tuple[NDArray[np.int64], Seen, bool]]:
    sequences = log.sequences
    part = np.random.default_rng(seed).integers(0, PARTS, len(sequences.items))
    flat = np.minimum(sequences.offsets[rows.users] + rows.lengths, len(part) - 1)
    is_own = (sequences.items[flat] == rows.targets) & log.fitted[flat]
    number = np.where(is_own, part[flat], PARTS)
    for one in range(PARTS + 1):
        yield np.flatnonzero(number == one), log.without(part == one), one == PARTS
