"""What of a lake stays: the results that refs lead to, and everything that these were made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from rallrec_pipeline.lake.store import (
    ROWS,
    Record,
    Ref,
    all_records,
    lost_refs,
    read_record,
    recorded_datasets,
    stored_refs,
    variant_refs,
)

KEY, SCORE_KEYS = "input_hash", "score_keys"
"""Columns of the rows' provenance: the key of a finished row, and a list of such where several make up one."""
Address = tuple[str, str, str]
"""Dataset, stage, fingerprint."""


@dataclass
class Marks:
    """Records of results that stay and that go, entries of the history that go, and what cannot be read."""

    kept: list[Record] = field(default_factory=list)
    gone: list[Record] = field(default_factory=list)
    gone_refs: list[Path] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)


def mark(lake: Path, datasets: Sequence[str], keeps: Callable[[int, Ref], bool], oldest: str) -> Marks:
    """Results of `datasets` that no ref leads to go; `keeps` says whether what the n-th newest run left behind stays.

    One that no ref names stays unless it was made before `oldest`: a run that was killed before it could say so finds
    it again.
    """
    marks, waiting, superseded = Marks(), list[Address](), set[Address]()
    lost = {dataset: lost_refs(lake, dataset) for dataset in recorded_datasets(lake)}
    marks.unreadable += [path for paths in lost.values() for path in paths]
    for dataset in recorded_datasets(lake):
        waiting += [address for ref in variant_refs(lake, dataset) for address in _named(dataset, ref)]
        runs: dict[str, int] = {}  # a run may leave behind several entries, as a study does
        for path, ref in stored_refs(lake, dataset):
            number = runs.setdefault(ref.run_id, len(runs))
            if dataset not in datasets or keeps(number, ref):
                waiting += _named(dataset, ref)
            else:
                marks.gone_refs.append(path)
                superseded.update(_named(dataset, ref))
    found = _with_sources(lake, waiting, marks)
    marks.kept = list(found.values())
    marks.unreadable += [path for r in marks.kept if (path := r.folder(lake) / ROWS).exists() and r.rows(lake) is None]
    for dataset in datasets if not any(lost.values()) else ():  # what a damaged ref names nobody knows
        for stage in _stages(lake, dataset):
            for record in all_records(lake, dataset, stage):
                address = (dataset, stage, record.fingerprint)
                if address not in found and (address in superseded or record.created_at < oldest):
                    marks.gone.append(record)
    return marks


def row_keys(lake: Path, records: Iterable[Record]) -> pl.Series:
    """Distinct keys of the finished rows that `records` are made of."""
    rows = [found for record in records if (found := record.rows(lake)) is not None]
    parts = [frame[KEY].cast(pl.String).drop_nulls().unique().alias("key") for frame in rows if KEY in frame.columns]
    parts += [frame[SCORE_KEYS].explode().drop_nulls().alias("key") for frame in rows if SCORE_KEYS in frame.columns]
    return pl.concat([pl.Series("key", [], pl.String), *parts]).unique()


def _named(dataset: str, ref: Ref) -> Iterator[Address]:
    """The results that a ref names; those of stages that all datasets share follow from what was made of them."""
    yield from ((dataset, stage, fingerprint) for stage, fingerprint in ref.results.items())


def _with_sources(lake: Path, waiting: list[Address], marks: Marks) -> dict[Address, Record]:
    """Records of `waiting` and, over any number of steps, of what they were made from."""
    found: dict[Address, Record] = {}
    seen = set[Address]()
    while waiting:
        address = waiting.pop()
        if address in seen:
            continue
        seen.add(address)
        record = read_record(lake, *address)
        if record is not None:
            found[address] = record
            waiting += [
                (given.dataset, given.stage or name, given.fingerprint) for name, given in record.inputs.items()
            ]
        elif (folder := lake.joinpath("results", *address)).is_dir():
            marks.unreadable.append(folder)
    return found


def _stages(lake: Path, dataset: str) -> list[str]:
    folder = lake / "results" / dataset
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
