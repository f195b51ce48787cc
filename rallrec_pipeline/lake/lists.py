"""Columns of lists from flat columns."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray


def consecutive_lists(values: pl.Series, counts: NDArray[np.int64]) -> pl.Series:
    """`values` cut into consecutive lists of the lengths `counts`, under the same name; nothing is copied.

    Grouping by a key would take ten times as long.
    """
    import pyarrow as pa  # type: ignore[import-untyped]  # not where this module loads: a twentieth of a second

    ends = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    flat = values.to_arrow(compat_level=pl.CompatLevel.newest())  # strings as Polars holds them
    lists = pa.LargeListArray.from_arrays(ends, flat)
    return pl.Series(values.name, lists, dtype=pl.List(values.dtype))
