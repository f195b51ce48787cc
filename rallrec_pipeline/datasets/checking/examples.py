"""Examples of faulty rows: a few values of the first of them, as the file has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from rallrec_pipeline.datasets.checking.findings import shown

EXAMPLES, EXAMPLE_ROWS = 3, 200


def examples_of(texts: pl.Series) -> str:
    """A few different ones of the first of `texts`."""
    values = texts.head(EXAMPLE_ROWS).cast(pl.String).fill_null("").unique(maintain_order=True).head(EXAMPLES)
    return ", ".join(shown(value) for value in values)


def among(lines: pl.Series) -> pl.Expr:
    """Whether a row is one of the first of `lines`."""
    return pl.col("line").is_in(lines.head(EXAMPLE_ROWS).implode())


def raw_rows(rows: pl.LazyFrame, lines: Sequence[pl.Series], columns: Iterable[str]) -> pl.DataFrame:
    """The texts of `columns` in the first of each of `lines`."""
    wanted = pl.concat([pl.Series([], dtype=pl.Int64), *(part.head(EXAMPLE_ROWS) for part in lines)])
    return rows.filter(pl.col("line").is_in(wanted.implode())).select("line", *columns).collect().sort("line")
