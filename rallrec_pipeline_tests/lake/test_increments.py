"""Increments: every row of both tables is counted once, under the right name."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from rallrec_pipeline.lake.increments import Increment, compare_rows

ROWS = st.dictionaries(st.sampled_from("abcdefgh"), st.tuples(st.sampled_from("xyz"), st.sampled_from("123")))


def rows(values: dict[str, tuple[str, str]]) -> pl.DataFrame:
    return pl.DataFrame(
        [(item, key, source) for item, (key, source) in values.items()],
        schema={"item_id": pl.String, "input_hash": pl.String, "core_items_version": pl.String},
        orient="row",
    )


@given(ROWS, ROWS)
def test_counts_are_those_of_a_loop(before: dict[str, tuple[str, str]], after: dict[str, tuple[str, str]]) -> None:
    found = compare_rows(rows(after), rows(before))
    both = before.keys() & after.keys()
    same = {item for item in both if before[item][0] == after[item][0]}
    assert found == Increment(
        new=len(after.keys() - before.keys()),
        stale=len(both - same),
        orphaned=len(before.keys() - after.keys()),
        reused=len(same),
        pruned=sum(before[item][1] != after[item][1] for item in same),
    )


def test_without_a_previous_run_every_row_is_new() -> None:
    assert compare_rows(rows({"a": ("x", "1")}), None, computed=1) == Increment(new=1, computed=1)


def test_a_source_column_that_was_not_there_before_is_no_change() -> None:
    before, after = rows({"a": ("x", "1")}).drop("core_items_version"), rows({"a": ("x", "1")})
    assert compare_rows(after, before) == Increment(reused=1)


def test_metadata_names_sort_together() -> None:
    assert list(Increment(new=2, reused=3).as_metadata()) == [
        "rows_new",
        "rows_stale",
        "rows_orphaned",
        "rows_reused",
        "rows_pruned",
        "rows_computed",
    ]
