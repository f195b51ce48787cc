"""Categorical fields of samples, as models of click-through rates read them.

A sample has its user's id and profile, its item's id and fields, and the user's last ratings as pairs of item and
answer. Codes are kept by user, by item and by rating; the rows of a batch are put together when they are needed, so
that 25 million samples take three whole numbers each.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.sequences import UserSequences
from rallrec_pipeline.datasets.spec import DatasetSpec

Codes = NDArray[np.int32]

HISTORY = "history"
HISTORY_LENGTH = 20  # on validation rows 40 is worth 0.001 of AUC, for half as much time again
MAX_ENTRIES = 8  # of one multi-valued field, as genres; the first ones count
_CHUNK = 100_000  # rows looked at together when values are counted


@dataclass(frozen=True)
class CtrField:
    """One field: its `codes` are `first` to `first + values - 1`; a row holds `width` of them, or 0 for nothing."""

    name: str
    first: int
    values: int
    width: int = 1


@dataclass(frozen=True)
class CtrFields:
    """Fields of n samples. No code is in two fields; 0 stands for nothing known.

    `users` (u, a) and `items` (m, b) int32 hold the codes of each user and item. `events` (e,) int32 holds the codes of
    all ratings, user by user. A sample's user and item are `user` (n,) and `item` (n,), its history is what lies in
    `events` from `start` (n,) to before `end` (n,).
    """

    fields: tuple[CtrField, ...]
    users: Codes
    items: Codes
    events: Codes
    user: Codes
    item: Codes
    start: NDArray[np.int64]
    end: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.user)

    @property
    def values(self) -> int:
        """Codes of all fields, 0 included."""
        return self.fields[-1].first + self.fields[-1].values

    def rows(self, places: NDArray[np.int64]) -> Codes:
        """Codes of the samples at `places` (b,): (b, sum of widths) int32, the columns in the order of `fields`."""
        width = self.fields[-1].width  # of the history, the latest rating first
        back = self.end[places, None] - np.arange(1, width + 1)
        history = np.where(back >= self.start[places, None], self.events[np.maximum(back, 0)], 0)
        return np.hstack([self.users[self.user[places]], self.items[self.item[places]], history])


@dataclass(frozen=True)
class Vocabulary:
    """The values that some rows hold: `number` (codes,) int32 counts them within their field from 1, 0 is the rest."""

    number: Codes
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, fields: CtrFields, places: NDArray[np.int64], fewest: int = 1) -> Vocabulary:
        """Values that the samples at `places` hold at least `fewest` times; `sizes` count the 0 of each field."""
        counts = np.zeros(fields.values, np.int64)
        for chunk in np.array_split(places, len(places) // _CHUNK + 1):
            counts += np.bincount(fields.rows(chunk).ravel(), minlength=fields.values)
        number, sizes = np.zeros(fields.values, np.int32), []
        for field in fields.fields:
            codes = slice(field.first, field.first + field.values)
            known = counts[codes] >= fewest
            number[codes] = np.where(known, known.cumsum(), 0)
            sizes.append(int(known.sum()) + 1)
        return cls(number, tuple(sizes))


def ctr_fields(
    samples: pl.DataFrame,
    core_interactions: pl.DataFrame,
    core_items: pl.DataFrame,
    users: pl.DataFrame | None,
    spec: DatasetSpec,
    history_length: int = HISTORY_LENGTH,
) -> CtrFields:
    """Fields of `samples`, in their order: ids, profile, item fields, the last `history_length` ratings before each.

    A title is no field: it says what the item's id says. Codes cover all tables and say nothing about answers; what a
    model may know of them is the `Vocabulary` of its training rows.
    Raises DataError when a sample's user or item is not in the other tables.
    """
    sequences = UserSequences.from_interactions(core_interactions, core_items["item_id"].to_list())
    of_user = pl.DataFrame({"user_id": sequences.user_ids}, schema={"user_id": pl.String})
    user_fields = spec.user_fields if users is not None else ()
    if users is not None:
        of_user = of_user.join(users, on="user_id", how="left", maintain_order="left")
    lists = {name for name, column in spec.items.columns.items() if column.split and column.pick is None}
    coder = _Coder()
    user_codes = coder.table(of_user, ("user_id", *user_fields), ())
    item_codes = coder.table(core_items, ("item_id", *spec.item_fields), lists)
    liked = sequences.ratings > np.float32(spec.label.like_above)
    events = coder.codes(HISTORY, 2 * sequences.items + liked, 2 * len(sequences.item_ids), history_length)
    user = sequences.user_codes(samples["user_id"])
    start = sequences.offsets[user]
    return CtrFields(
        fields=tuple(coder.fields),
        users=user_codes,
        items=item_codes,
        events=events,
        user=user,
        item=sequences.item_codes(samples["item_id"]),
        start=start,
        end=start + samples["history_length"].to_numpy().astype(np.int64),
    )


class _Coder:
    """Gives each field the next free codes, from 1 on."""

    def __init__(self) -> None:
        self.fields: list[CtrField] = []

    def codes(self, name: str, values: NDArray[np.int32], n_values: int, width: int) -> Codes:
        """Codes of `values`, which count from 0, a new field of `n_values`; -1 is nothing and stays 0."""
        first = self.fields[-1].first + self.fields[-1].values if self.fields else 1
        self.fields.append(CtrField(name, first, n_values, width))
        return np.where(values < 0, 0, values + first).astype(np.int32)

    def table(self, table: pl.DataFrame, names: Sequence[str], lists: Collection[str]) -> Codes:
        """Codes of the columns `names` (text) of `table`: (rows, sum of widths); those of `lists` have many entries."""
        return np.hstack([self._column(table[name].fill_null(""), name in lists) for name in names])

    def _column(self, text: pl.Series, is_list: bool) -> Codes:
        """Codes (rows, width) of one column; the width is that of the longest list, empty places are 0."""
        columns = [text]
        if is_list:
            entries = text.str.split(", ")
            width = min(int(entries.list.len().cast(pl.Int64).max() or 1), MAX_ENTRIES)  # type: ignore[arg-type]
            columns = [entries.list.get(place, null_on_oob=True) for place in range(width)]
        known = pl.concat(columns).unique().drop_nulls().sort()
        known = known.filter(known != "")
        places = {value: place for place, value in enumerate(known)}
        numbers = [column.replace_strict(places, default=-1, return_dtype=pl.Int32).to_numpy() for column in columns]
        return self.codes(text.name, np.column_stack(numbers), len(known), len(columns))
