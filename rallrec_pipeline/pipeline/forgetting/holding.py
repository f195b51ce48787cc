"""Which results hold a user: those with rows of one, and over any number of steps all that was made from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from rallrec_pipeline.lake.marks import Address
from rallrec_pipeline.lake.store import Record, read_record, recorded_datasets
from rallrec_pipeline.lake.tombstones import Tombstones

USER, TEXT = "user_id", "text"
UNREADABLE = "its record cannot be read"
DAMAGED = "cannot be read and may hold anybody"


@dataclass(frozen=True)
class Held:
    """One result that goes, and why."""

    dataset: str
    stage: str
    fingerprint: str
    why: str
    created_at: str = ""
    has_rows: bool = False
    """Whether the user is in a table of it; others were made from such a one, or nobody knows what they hold."""

    @property
    def address(self) -> Address:
        """Where it lies."""
        return self.dataset, self.stage, self.fingerprint


def results_of_user(lake: Path, dataset: str, stones: Tombstones) -> list[Held]:
    """Results that hold a forgotten user of `dataset`, of any variant and age, inputs before what was made of them.

    A result of the dataset whose record or table cannot be read goes, too: nobody knows whom it holds.
    """
    records = {address: read_record(lake, *address) for address in _addresses(lake)}
    found: dict[Address, Held] = {}
    for address, record in records.items():
        if address[0] != dataset:
            continue
        if record is None:
            found[address] = Held(*address, UNREADABLE)
        elif (why := _why(lake, record, stones)) is not None:
            found[address] = Held(*address, why, record.created_at, not why.endswith(DAMAGED))
    known = [record for record in records.values() if record is not None]
    while more := list(_made_from(known, found)):
        found |= {held.address: held for held in more}
    return list(found.values())


def _addresses(lake: Path) -> Iterator[Address]:
    for dataset in recorded_datasets(lake):
        for folder in sorted((lake / "results" / dataset).glob("*/[!.]*")):
            yield dataset, folder.parent.name, folder.name


def _made_from(records: Iterable[Record], found: dict[Address, Held]) -> Iterator[Held]:
    for record in records:
        address = (record.dataset, record.stage, record.fingerprint)
        if address in found:
            continue
        for name, given in record.inputs.items():
            if (given.dataset, given.stage or name, given.fingerprint) in found:
                yield Held(*address, f"made from {given.stage or name} {given.fingerprint[:12]}", record.created_at)
                break


def _why(lake: Path, record: Record, stones: Tombstones) -> str | None:
    """The first table of a result that has rows of a forgotten user, else one that is damaged; None without either."""
    damaged, folder = None, record.folder(lake)
    for path in (lake / name for name in record.files):
        if path.suffix == ".parquet" and path.is_relative_to(folder):
            try:
                if _has_rows(path, stones):
                    return f"{path.relative_to(folder).as_posix()} has rows of the user"
            except (pl.exceptions.PolarsError, OSError):
                damaged = f"{path.relative_to(folder).as_posix()} {DAMAGED}"
    return damaged


def _has_rows(path: Path, stones: Tombstones) -> bool:
    """Whether a table has rows of a forgotten user; of refused rows one that names a user."""
    columns = pl.scan_parquet(path, glob=False).collect_schema()
    if USER in columns:
        ids = pl.scan_parquet(path, glob=False).select(pl.col(USER).unique()).collect(engine="streaming")
        return bool(stones.among(ids[USER].drop_nulls()))
    if {"reason", TEXT} <= columns.keys():
        rows = pl.scan_parquet(path, glob=False).select(TEXT).collect(engine="streaming")
        return any(stones.named_in(text) for text in rows[TEXT].drop_nulls())
    return False
