"""Explanations that are true: what P(yes) would be if the prompt lacked a line of the history.

Nothing is asked of the LLM about its reasons. Each shown line is left out once, what else the prompt says stays, and
all these prompts are scored like any other. The removed line is not replaced by another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Scores = Callable[[pl.DataFrame], NDArray[np.float64]]
"""P(yes) (n,) of rows of the table `retrieved_histories`."""


@dataclass(frozen=True)
class LineEffect:
    """A line of a shown history; `change` is P(yes) with it minus P(yes) without it."""

    item_id: str
    rating: float
    change: float


@dataclass(frozen=True)
class Explained:
    """P(yes) (n,) of n rows, and the lines of each that move it most, the strongest first."""

    p_yes: NDArray[np.float64]
    lines: Sequence[Sequence[LineEffect]]


def explain_lines(histories: pl.DataFrame, column: str, p_yes_of: Scores, most: int) -> Explained:
    """What at most `most` lines each of `histories` (n rows) do; `column` is the history that the prompts show.

    `p_yes_of` is called once, with the rows as they are and then each row without each of its lines.
    """
    ratings = f"{column}_ratings"
    rows = histories.with_row_index("row").with_columns(pl.int_ranges(pl.col(column).list.len()).alias("left_out"))
    without = rows.explode("left_out").filter(pl.col("left_out").is_not_null())
    shorter = without.with_columns(_without(column), _without(ratings))
    scores = p_yes_of(pl.concat([histories, shorter.select(histories.columns)]))
    whole, part = scores[: histories.height], scores[histories.height :]
    lines: list[list[LineEffect]] = [[] for _ in range(histories.height)]
    shown = without.select("row", pl.col(column).list.get(pl.col("left_out")), pl.col(ratings).list.get("left_out"))
    for (row, item, rating), score in zip(shown.iter_rows(), part, strict=True):
        lines[row].append(LineEffect(item, rating, float(whole[row] - score)))
    return Explained(whole, [sorted(one, key=lambda line: -abs(line.change))[:most] for one in lines])


def _without(column: str) -> pl.Expr:
    """The list of `column` less its entry at `left_out`."""
    place = pl.col("left_out")
    before, after = pl.col(column).list.head(place), pl.col(column).list.slice(place + 1)
    return pl.concat_list(before, after).alias(column)
