"""Ratings of one time: how many there are, and whether a border in time falls among them."""

from __future__ import annotations

from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallrec_pipeline.datasets.ties import equal_time_share, tied_borders

TIMES = {"user_id": pl.String, "timestamp": pl.Int64, "microsecond": pl.Int32}
MOMENTS = st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 3), st.integers(0, 1)), max_size=30)


@given(MOMENTS, st.booleans())
def test_the_share_is_that_of_neighbours_in_time(rows: list[tuple[str, int | None, int]], is_exact: bool) -> None:
    timed = sorted((user, time, part if is_exact else 0) for user, time, part in rows if time is not None)
    neighbours = [one[1:] == other[1:] for one, other in pairwise(timed) if one[0] == other[0]]
    ratings = pl.DataFrame(rows, schema=TIMES, orient="row")
    share = equal_time_share(ratings if is_exact else ratings.drop("microsecond"))
    assert share is None or type(share) is float  # Dagster writes no number of numpy
    assert share == (pytest.approx(sum(neighbours) / len(neighbours)) if neighbours else None)


def tied(rows: list[tuple[str, int | None, int]]) -> list[tuple[str, str, int]]:
    """The tied borders of samples (split, second, microsecond), each followed by a sampled negative."""
    ids = pl.Series("user_id", [f"u{i}" for i in range(len(rows))], pl.String)
    times = pl.DataFrame(
        rows, schema={"split": pl.String, "timestamp": pl.Int64, "microsecond": pl.Int32}, orient="row"
    )
    core = times.select(ids, ids.alias("item_id"), "timestamp", "microsecond")
    observed = times.select(ids, ids.alias("item_id"), "split").with_row_index()
    drawn = observed.with_columns(pl.lit("never").alias("item_id"))
    return tied_borders(pl.concat([observed, drawn]).sort("index", maintain_order=True), core.reverse())


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("train", 1, 0), ("train", 2, 0), ("valid", 3, 0), ("test", 4, 0)], []),
        ([("train", 1, 0), ("train", 3, 0), ("valid", 3, 0), ("test", 4, 0)], [("train", "valid", 3)]),
        ([("train", 1, 0), ("train", 3, 0), ("valid", 3, 1), ("test", 3, 1)], [("valid", "test", 3)]),
        ([("train", 3, 5), ("valid", 3, 5), ("test", 3, 5)], [("train", "valid", 3), ("valid", "test", 3)]),
        ([("train", 2, 0), ("test", 2, 0)], [("train", "test", 2)]),
        ([("train", None, 0), ("valid", None, 0)], []),
        ([("train", 2, 0)], []),
        ([], []),
    ],
)
def test_a_border_among_equal_times_is_found(
    rows: list[tuple[str, int | None, int]], expected: list[tuple[str, str, int]]
) -> None:
    assert tied(rows) == expected
