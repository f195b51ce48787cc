"""Users' sequences as flat arrays."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given

from rallrec_pipeline.datasets.histories import make_samples
from rallrec_pipeline.datasets.protocol_spec import LabelSpec, ProtocolSpec
from rallrec_pipeline.datasets.sequences import UserSequences
from rallrec_pipeline.errors import DataError
from rallrec_pipeline_tests.datasets.worlds import cores, frame


@given(cores())
def test_slices_are_the_users_interactions_in_order(core: pl.DataFrame) -> None:
    item_ids = sorted(set(core["item_id"]), reverse=True)
    sequences = UserSequences.from_interactions(core, item_ids)
    assert sequences.user_ids == list(dict.fromkeys(core["user_id"]))
    assert sequences.offsets[0] == 0 and sequences.offsets[-1] == len(sequences.items) == core.height
    assert [a.dtype.name for a in (sequences.offsets, sequences.items, sequences.ratings)] == [
        "int64",
        "int32",
        "float32",
    ]
    for code, user in enumerate(sequences.user_ids):
        part = slice(sequences.offsets[code], sequences.offsets[code + 1])
        mine = core.filter(pl.col("user_id") == user)
        assert [item_ids[item] for item in sequences.items[part]] == mine["item_id"].to_list()
        assert sequences.ratings[part].tolist() == mine["rating"].to_list()


@given(cores())
def test_the_target_follows_its_history(core: pl.DataFrame) -> None:
    samples = make_samples(core, ProtocolSpec(min_history=0), LabelSpec(scale=(1, 5), like_above=3))
    sequences = UserSequences.from_interactions(core, sorted(set(core["item_id"])))
    users, targets = sequences.user_codes(samples["user_id"]), sequences.item_codes(samples["item_id"])
    assert users.dtype == targets.dtype == np.int32
    positions = sequences.offsets[users] + samples["history_length"].to_numpy()
    assert np.array_equal(sequences.items[positions], targets)
    assert np.array_equal(sequences.ratings[positions], samples["rating"].to_numpy())


def test_an_unknown_id_is_named() -> None:
    core = frame([("u", "a", 3.0, 0)])
    sequences = UserSequences.from_interactions(core, ["a"])
    with pytest.raises(DataError, match="id 'b' is not in the table"):
        sequences.item_codes(pl.Series(["a", "b"]))
    with pytest.raises(DataError, match="'a'"):
        UserSequences.from_interactions(core, [])
    assert sequences.user_codes(pl.Series([], dtype=pl.String)).shape == (0,)
