"""Row-level increments: which rows of a table are new, stale, orphaned, pruned or reused since the last run.

A row's *provenance* is its `input_hash`: the hash of exactly what the row is made from. `<input>_version` columns hold
the versions of the rows of other tables that it looked at, so that a source that changed without changing what the row
is made from can be told apart (a pruned update).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import polars as pl

SOURCE = "_version"


@dataclass(frozen=True)
class Increment:
    """Counts of rows by `input_hash`; `pruned` ones are among the `reused`.

    `computed` are those that no cache knew: new and stale ones, or any after the caches were deleted.
    """

    new: int = 0
    stale: int = 0
    orphaned: int = 0
    reused: int = 0
    pruned: int = 0
    computed: int = 0

    def as_metadata(self) -> dict[str, int]:
        """The counts under names that sort together in the UI: `rows_new`, ..."""
        return {f"rows_{name}": count for name, count in asdict(self).items()}


def compare_rows(
    wanted: pl.DataFrame, previous: pl.DataFrame | None, computed: int = 0, key: str = "item_id"
) -> Increment:
    """Compare by `key`; both tables have `input_hash` and may have `<input>_version` columns.

    `computed` is how many rows no cache knew.
    """
    if previous is None:
        return Increment(new=wanted.height, computed=computed)
    sources = [name for name in source_columns(wanted) if name in previous.columns]
    columns = [key, "input_hash", *sources]
    both = wanted.select(columns).join(previous.select(columns), on=key, how="inner", suffix="_before")
    same = both.filter(pl.col("input_hash") == pl.col("input_hash_before"))
    pruned = same.filter(pl.any_horizontal(pl.lit(False), *(pl.col(c) != pl.col(f"{c}_before") for c in sources)))
    return Increment(
        new=wanted.height - both.height,
        stale=both.height - same.height,
        orphaned=previous.height - both.height,
        reused=same.height,
        pruned=pruned.height,
        computed=computed,
    )


def source_columns(rows: pl.DataFrame) -> list[str]:
    """Columns that hold versions of other tables' rows."""
    own = ("template_version", "data_version", "code_version")
    return [name for name in rows.columns if name.endswith(SOURCE) and name not in own]
