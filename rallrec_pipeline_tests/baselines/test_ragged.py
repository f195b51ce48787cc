from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallrec_pipeline.baselines.ragged import Runs, padded_batches

RUNS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 10)), max_size=30)


def runs_of(pairs: list[tuple[int, int]]) -> Runs:
    starts, lengths = np.array(pairs, np.int64).reshape(-1, 2).T
    return Runs(starts, lengths)


@given(RUNS, st.integers(1, 40))
def test_batches_hold_every_place_of_every_run_once_and_in_order(pairs: list[tuple[int, int]], cells: int) -> None:
    runs = runs_of(pairs)
    seen: dict[int, list[int]] = {}
    for batch in padded_batches(runs, cells):
        assert batch.places.size <= cells or len(batch.rows) == 1
        for row, places in zip(batch.rows, batch.places, strict=True):
            assert row not in seen
            seen[int(row)] = places[places >= 0].tolist()
    assert seen == {i: list(range(start, start + n)) for i, (start, n) in enumerate(pairs) if n}


@given(RUNS, st.integers(1, 12))
def test_sums_and_means_are_those_of_the_runs_themselves(pairs: list[tuple[int, int]], last: int) -> None:
    runs, values = runs_of(pairs), np.random.default_rng(0).normal(size=30)
    parts = [values[start : start + n] for start, n in pairs]
    assert runs.sums(values) == pytest.approx(np.array([part.sum() for part in parts]))
    late = [part[-last:].mean() if part.size else 7.0 for part in parts]
    assert runs.means(values, 7.0, last) == pytest.approx(np.array(late))
