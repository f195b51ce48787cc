"""What a method of the LLM is asked of candidates: samples of today, and the numbers that their prompts state."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.baselines.expectation import Expectation, Histories, Weights
from rallrec_pipeline.baselines.expert_features import Describer
from rallrec_pipeline.baselines.rating_log import Rows
from rallrec_pipeline.datasets.statistics import SHRINKAGE
from rallrec_pipeline.recommendation.recommender import Recommender
from rallrec_pipeline.recommendation.today import Codes, Visits

TODAY = "today"
"""The split of a sample whose answer nobody knows."""


def samples_of_today(recommender: Recommender, visits: Visits, items: Codes) -> pl.DataFrame:
    """A row for each of `items` (n, c) that is no padding, visit by visit, in the columns of `samples`.

    Neither rating nor label is known. `sample_id` is the place of the item in `items`, row by row.
    """
    sequences, rows = recommender.ratings.sequences, visits.rows(items)
    kept = np.flatnonzero(rows.targets >= 0)
    users, ids = (pl.Series(names, dtype=pl.String) for names in (sequences.user_ids, sequences.item_ids))
    return pl.DataFrame(
        {
            "sample_id": pl.Series(kept, dtype=pl.Int64),
            "user_id": users.gather(rows.users[kept]),
            "item_id": ids.gather(rows.targets[kept]),
            "split": pl.repeat(TODAY, len(kept), eager=True, dtype=pl.String),
            "rating": pl.repeat(None, len(kept), eager=True, dtype=pl.Float32),
            "label": pl.repeat(None, len(kept), eager=True, dtype=pl.Int8),
            "history_length": pl.Series(rows.lengths[kept], dtype=pl.Int32),
        }
    )


def statistics_of_today(recommender: Recommender, samples: pl.DataFrame) -> pl.DataFrame:
    """`sample_id`, `item_mean` and `user_mean` (Float32) of `samples_of_today`, as `rating_statistics` has them.

    Items are judged by the training split, users by their own histories, as validation and test rows are.
    """
    sequences, judged = recommender.ratings.sequences, recommender.fit.seen.judged
    users, targets = sequences.user_codes(samples["user_id"]), sequences.item_codes(samples["item_id"])
    n_items = len(sequences.item_ids)
    mean = float(judged.values.mean(dtype=np.float64)) if len(judged) else recommender.like_above
    totals = np.bincount(judged.items, judged.values, n_items)
    item_means = (totals + SHRINKAGE * mean) / (np.bincount(judged.items, minlength=n_items) + SHRINKAGE)
    return samples.select("sample_id").with_columns(
        pl.Series("item_mean", item_means[targets], dtype=pl.Float32),
        pl.Series("user_mean", _user_means(recommender, samples, users, mean), dtype=pl.Float32),
    )


def expectation_of_today(recommender: Recommender, weights: Weights) -> Expectation:
    """What is expected of today's ratings, as the stage `expected_ratings` has it of test rows."""
    text = np.zeros((0, 0), np.float32)
    describer = Describer(recommender.ratings, text, recommender.like_above, recommender.seed)
    return Expectation(describer, recommender.fit.seen, weights, recommender.stated)


def expected_of_today(
    recommender: Recommender, samples: pl.DataFrame, expected: pl.DataFrame, expectation: Expectation
) -> pl.DataFrame:
    """The table `expected_ratings`, `expected`, with what is expected of `samples_of_today`."""
    sequences = recommender.ratings.sequences
    users, targets = sequences.user_codes(samples["user_id"]), sequences.item_codes(samples["item_id"])
    lengths = samples["history_length"].to_numpy().astype(np.int64)
    visits, number = np.unique(np.stack([users, lengths]), axis=1, return_inverse=True)
    items, ratings, runs = recommender.ratings.own(Visits(visits[0].astype(np.int32), visits[1]))
    histories = Histories(items, ratings, np.append(runs.starts, len(items)), recommender.ratings.is_sampled)
    rows = Rows(number.reshape(-1).astype(np.int32), lengths, targets)
    foretold = pl.Series("expected", expectation(histories, rows), dtype=pl.Float32)
    own = samples.select("user_id", "item_id", foretold)
    others = expected.join(own, on=["user_id", "item_id"], how="anti")
    return pl.concat([own, others.select(own.columns)])


def _user_means(recommender: Recommender, samples: pl.DataFrame, users: Codes, mean: float) -> NDArray[np.float64]:
    """Shrunk means of the histories."""
    ratings, lengths = recommender.ratings, samples["history_length"].to_numpy().astype(np.int64)
    histories = ratings.histories(Visits(users, lengths))
    sums = lengths if ratings.is_sampled else histories.sums(ratings.sequences.ratings.astype(np.float64))
    return np.asarray((sums + SHRINKAGE * mean) / (lengths + SHRINKAGE))
