"""Bounded history: superseded records go, and with them what nothing refers to any more.

Raw files and models are never removed. Caches are emptied first, then files, then records: after a crash the records
that were to go still tell the next prune what went with them.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from rallrec_pipeline.errors import ConfigError, DataError
from rallrec_pipeline.lake.history import remove_records
from rallrec_pipeline.lake.leftovers import size_of, superseded_adapters, superseded_outputs, temporary_files
from rallrec_pipeline.lake.locks import LLM, lake_lock
from rallrec_pipeline.lake.memo import KINDS, Memo
from rallrec_pipeline.lake.provenance import Sidecar
from rallrec_pipeline.lake.references import (
    Limit,
    References,
    find_references,
    recorded_datasets,
    row_keys,
    unreadable_records,
)

KEEP = 5  # records of an artefact that stay when nothing else is asked for
UNCLAIMED_DAYS = 30  # how long results stay that no finished run has used: one that was broken off may come back


@dataclass(frozen=True)
class PruneOptions:
    """What may go: records beyond the newest `keep` of an artefact that are `older_than` days; None sets no limit."""

    keep: int | None = None
    older_than: float | None = None
    dry_run: bool = False

    def limit(self, now: datetime) -> Limit:
        """The records that stay."""
        if self.older_than is not None and not math.isfinite(self.older_than):
            raise ConfigError(f"--older-than is {self.older_than}: give a number of days")
        keep = KEEP if self.keep is None and self.older_than is None else self.keep
        return Limit(keep, None if self.older_than is None else _ago(now, self.older_than))


@dataclass
class Removed:
    """Files, rows of tables and bytes of one kind that went, or in a dry run would go."""

    files: int = 0
    rows: int = 0
    bytes: int = 0


@dataclass
class Pruned:
    """What went, by kind, and what was left alone against expectation."""

    kinds: dict[str, Removed] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, kind: str, files: int = 0, rows: int = 0, size: int = 0) -> None:
        """Count what went."""
        found = self.kinds.setdefault(kind, Removed())
        found.files, found.rows, found.bytes = found.files + files, found.rows + rows, found.bytes + size

    def summary(self) -> str:
        """All of it in words."""
        files, size = (sum(getattr(gone, name) for gone in self.kinds.values()) for name in ("files", "bytes"))
        cached = sum(gone.rows for kind, gone in self.kinds.items() if kind.startswith("cache/"))
        return f"{files:,} files, {cached:,} rows of the caches, {size:,} bytes" if self.kinds else "nothing"


def prune_lake(
    lake: Path, dataset: str | None, options: PruneOptions, log: Callable[[str], None], now: datetime | None = None
) -> Pruned:
    """Remove what `options` allow of `dataset`, or of all datasets and shared assets.

    Waits for every run that is under way, and keeps new ones waiting. Raises ConfigError when nothing was ever made of
    `dataset`, DataError when something cannot be removed.
    """
    recorded = recorded_datasets(lake)
    if dataset is not None and dataset not in recorded:
        known = ", ".join(name for name in recorded if not name.startswith("_")) or "none"
        raise ConfigError(f"nothing was ever made of {dataset!r}: datasets with artefacts are {known}")
    if not recorded and not (lake / "cache").exists():
        return Pruned()
    with ExitStack() as locks:
        for name in [] if options.dry_run else _lock_names(lake, recorded):  # a dry run waits for nobody
            locks.enter_context(lake_lock(lake, name, log))
        try:
            return _Pruning(lake, [dataset] if dataset else recorded, options, now or datetime.now(UTC)).run()
        except OSError as error:
            raise DataError(f"cannot prune {error.filename or lake} ({error.strerror})") from error


class _Pruning:
    """One prune, with all locks held."""

    def __init__(self, lake: Path, datasets: Sequence[str], options: PruneOptions, now: datetime) -> None:
        self.lake, self.datasets, self.options, self.now = lake, datasets, options, now
        self.limit = options.limit(now)
        self.oldest = self.limit.after or _ago(now, UNCLAIMED_DAYS)  # results without use that are older go
        self.references: References = find_references(lake, self.limit, datasets)
        self.pruned = Pruned()

    def run(self) -> Pruned:
        """Remove what may go; of what a record refers to that cannot be read nothing is known, so all of it stays."""
        unreadable = unreadable_records(self.lake)
        if unreadable:
            self.pruned.notes.append(f"only temporary files go: cannot read {', '.join(map(str, unreadable))}")
        else:
            self._superseded()
        for path in temporary_files(self.lake, self.now):
            self._remove("temporary files", path)
        return self.pruned

    def _superseded(self) -> None:
        self._caches()
        for path in superseded_adapters(self.lake, self.datasets, self.references, self.oldest):
            self._remove("cache/adapters", path)
        for path in superseded_outputs(self.lake, self.datasets, self.references, self.limit):
            self._remove("outputs that no record names", path)
        for path in self._rows_files():
            self._remove("per-row provenance", path, rows=_height(path))
        self._records()

    def _remove(self, kind: str, path: Path, rows: int = 0) -> None:
        files, size = size_of(path)
        self.pruned.add(kind, files, rows, size)
        if self.options.dry_run:
            return
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

    def _records(self) -> None:
        artefacts: dict[Path, list[tuple[Path, Sidecar]]] = {}
        for stored in self.references.gone:
            self.pruned.add("records", 1, size=stored.path.stat().st_size)
            artefacts.setdefault(stored.path.parent, []).append((stored.path, stored.record))
        for records in () if self.options.dry_run else artefacts.values():
            remove_records(records)

    def _rows_files(self) -> Iterator[Path]:
        """Per-row provenance that no record which stays names."""
        named = self.references.rows_files()
        for dataset in self.datasets:
            for path in sorted((self.lake / "provenance" / dataset / "rows").glob("*/*.parquet")):
                if path.relative_to(self.lake).as_posix() not in named:
                    yield path

    def _caches(self) -> None:
        try:
            used = row_keys(self.lake, (stored.record for stored in self.references.kept)).to_list()
        except DataError as error:  # what it refers to is unknown
            self.pruned.notes.append(f"caches were left alone: {error}")
            return
        # Without a limit in days, those in use by records that go now are never too young.
        superseded = self._superseded_keys() if self.limit.after is None else ()
        for kind in KINDS:
            try:
                rows, size = Memo(self.lake, kind).prune(used, self.oldest, superseded, self.options.dry_run)
            except DataError as error:
                self.pruned.notes.append(f"a cache was left alone: {error}")
                continue
            if rows:
                self.pruned.add(f"cache/{kind.name}", rows=rows, size=size)

    def _superseded_keys(self) -> list[str]:
        keys: list[str] = []
        for stored in self.references.gone:
            try:
                keys += row_keys(self.lake, [stored.record]).to_list()
            except DataError:
                continue  # nothing is known of it, so what it used goes by age
        return keys


def _lock_names(lake: Path, recorded: Sequence[str]) -> list[str]:
    """In the order in which runs take them: datasets, even one whose first run is under way; shared assets; the LLM."""
    under_way = (path.stem for path in (lake / "locks").glob("*.lock"))
    datasets = {name for name in (*recorded, *under_way) if not name.startswith("_")}
    return [*sorted(datasets), *(name for name in recorded if name.startswith("_")), LLM]


def _ago(now: datetime, days: float) -> str:
    """The time `days` before `now`, in the form that records have."""
    return (now - timedelta(days=days)).astimezone(UTC).isoformat(timespec="seconds")


def _height(path: Path) -> int:
    try:
        return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
    except (pl.exceptions.PolarsError, OSError):
        return 0
