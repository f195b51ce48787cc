"""The one loop over rows: what is missing is computed in chunks, and every finished chunk is stored at once.

Descriptions, vectors and scores differ in what an engine does with a chunk, and in nothing else. What is missing is one
sorted list, and a chunk is computed on its own. So a run that was broken off ends with the same rows as one that was
not: it sees the rest of the same list. Several answers to one question are several keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import polars as pl

from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.provenance import now
from rallrec_pipeline.language_models.chunks import calls_at_once, in_chunks
from rallrec_pipeline.language_models.protocols import Progress

E = TypeVar("E")
T = TypeVar("T")
Work = Callable[[E, Mapping[str, T], Progress | None], Mapping[str, Sequence[Any]]]
"""What an engine makes of a chunk, inputs by key: the kind's own columns, in the order of the chunk."""


@dataclass(frozen=True)
class Completed:
    """Finished rows of a kind."""

    rows: pl.DataFrame
    """One for each key asked for, in that order; equal keys have equal rows. Those that were not made are left out."""
    made: pl.DataFrame
    """Those that the engine had to work on now, one a key."""


def complete_rows(
    keys: Sequence[str],
    inputs: Sequence[T],
    memo: Memo,
    load: Callable[[], E],
    work: Work[E, T],
    order: Callable[[T], Any],
    chunk: int,
    run_id: str,
    progress: Progress | None = None,
    enough: Callable[[], bool] = lambda: False,
    at_once: Callable[[E], int] = calls_at_once,
) -> Completed:
    """The rows of `keys`, each made from its entry of `inputs`; only what `memo` lacks is computed, once a key.

    Missing inputs are sorted by `order` and cut into chunks of `chunk` rows: inputs that come together should begin
    alike or be of one length. The engine is loaded only when something is missing; it works on `at_once` chunks at a
    time. When there is `enough` no further chunk is begun, those in work are kept, and what is still missing stays so.
    """
    input_of = dict(zip(keys, inputs, strict=True))
    found = memo.find(input_of)  # rather than keys alone: a damaged row is as good as none
    missing = sorted(input_of.keys() - set(found["key"]), key=lambda key: (order(input_of[key]), key))
    if missing and not enough():
        engine = load()

        def compute(part: Sequence[str], report: Progress | None) -> pl.DataFrame:
            columns = work(engine, {key: input_of[key] for key in part}, report)
            made = {"key": part, **columns, "run_id": [run_id] * len(part), "created_at": [now()] * len(part)}
            return pl.DataFrame(made, schema_overrides=memo.kind.schema)

        for rows in in_chunks(compute, missing, chunk, at_once(engine), progress, enough):
            memo.add(rows)
        found = pl.concat([found, memo.find(missing)])
    row_of = {key: row for row, key in enumerate(found["key"])}
    finished, made = ([row_of[key] for key in asked if key in row_of] for asked in (keys, missing))
    return Completed(found[finished], found[made])
