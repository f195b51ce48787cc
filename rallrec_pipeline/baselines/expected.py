"""What the factorisation expects a user to rate, for every interaction, out of time: prompts may state it as a fact.

No expectation knows its own answer. The user is folded in from the history before the interaction, and the items'
factors are fitted without it: on strictly earlier ratings where the dataset has times, on the other folds where not.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.baselines.factorisation import fit_factorisation
from rallrec_pipeline.baselines.ragged import Runs
from rallrec_pipeline.baselines.rating_log import Ratings
from rallrec_pipeline.datasets.histories import training_interactions
from rallrec_pipeline.datasets.sequences import UserSequences

FOLDS = 5
Rows = NDArray[np.int64]


def expected_ratings(core: pl.DataFrame, samples: pl.DataFrame, item_ids: list[str], seed: int) -> pl.DataFrame:
    """`user_id`, `item_id` and `expected` (Float32) of each row of `core`, in its order; null where nothing is earlier.

    With times the training interactions are cut into `FOLDS` parts of equal size in time, and each part is foretold
    from those before it, so the first part has no expectation; the validation and test periods are foretold from all
    training interactions. Without times the parts are random, and each is foretold from the others.
    """
    sequences = UserSequences.from_interactions(core, item_ids)
    users, items = sequences.user_codes(core["user_id"]), sequences.item_codes(core["item_id"])
    ratings = core["rating"].to_numpy().astype(np.float32)
    order = np.argsort(users, kind="stable")  # that of the sequences
    place = np.empty(core.height, np.int64)
    place[order] = np.arange(core.height) - sequences.offsets[users[order]]
    expected = np.full(core.height, np.nan, np.float32)
    for fitted, asked in _parts(core, samples, seed):
        if len(fitted) and len(asked):
            seen = Ratings(users[fitted], items[fitted], ratings[fitted])
            model = fit_factorisation(seen, len(item_ids), seed)
            histories = Runs(sequences.offsets[users[asked]], place[asked])
            expected[asked] = model.opinions(sequences.items, sequences.ratings, histories, items[asked]).rating
    found = pl.Series("expected", expected, nan_to_null=True)
    return core.select("user_id", "item_id").with_columns(found)


def _parts(core: pl.DataFrame, samples: pl.DataFrame, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """Rows of `core` to fit on, and rows that this foretells."""
    keys = ["user_id", "item_id"]
    training = training_interactions(core, samples).select(keys).with_columns(pl.lit(True).alias("known"))
    known = core.select(keys).join(training, on=keys, how="left", maintain_order="left")["known"].is_not_null()
    rows, held_out = np.flatnonzero(known.to_numpy()), np.flatnonzero(~known.to_numpy())
    in_time = core["timestamp"].null_count() == 0
    order = rows if in_time else np.random.default_rng(seed).permutation(rows)
    folds = np.array_split(order, FOLDS)
    for number, fold in enumerate(folds):
        others = folds[:number] if in_time else folds[:number] + folds[number + 1 :]
        yield (np.sort(np.concatenate(others)) if others else order[:0]), np.sort(fold)
    yield rows, held_out
