"""Bounded history: what no ref leads to any more goes.

Marked is what the refs that stay name, and everything that it was made from; the rest is swept. Every variant's own ref
stays, and of the history of a dataset as much as the options keep. Raw files and models are never removed. Caches are
emptied first, then results, then the history: after a crash the refs that were to go still tell the next prune.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rallrec_pipeline.errors import ConfigError, DataError
from rallrec_pipeline.lake.leftovers import changed, is_temporary, size_of, temporary_files
from rallrec_pipeline.lake.locks import LLM, lake_lock
from rallrec_pipeline.lake.marks import mark, row_keys
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import KINDS
from rallrec_pipeline.lake.sound import MANIFEST
from rallrec_pipeline.lake.store import Record, Ref, recorded_datasets

KEEP = 5  # entries of a dataset's history that stay when nothing else is asked for
UNCLAIMED_DAYS = 30  # how long stays what no finished run has used: one that was broken off may come back


@dataclass(frozen=True)
class PruneOptions:
    """What may go: what only runs beyond the newest `keep` of a dataset left behind, `older_than` days ago."""

    keep: int | None = None
    older_than: float | None = None
    dry_run: bool = False

    def keeps(self, number: int, ref: Ref, now: datetime) -> bool:
        """Whether what a run left behind stays, the `number`-th newest of its dataset from zero."""
        keep = KEEP if self.keep is None and self.older_than is None else self.keep
        if number == 0 or (keep is not None and number < keep):
            return True
        return self.older_than is not None and ref.at >= _ago(now, self.older_than)


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
    with nullcontext() if options.dry_run else whole_lake(lake, log):  # a dry run waits for nobody
        try:
            return _Pruning(lake, [dataset] if dataset else recorded, options, now or datetime.now(UTC)).run()
        except OSError as error:
            raise DataError(f"cannot prune {error.filename or lake} ({error.strerror})") from error


@contextmanager
def whole_lake(lake: Path, log: Callable[[str], None], dataset: str | None = None) -> Iterator[None]:
    """Hold every lock of `lake`, that of `dataset` too: runs under way are waited for, new ones wait."""
    with ExitStack() as locks:
        for name in _lock_names(lake, [*recorded_datasets(lake), *([dataset] if dataset else [])]):
            locks.enter_context(lake_lock(lake, name, log))
        yield


class _Pruning:
    """One prune, with all locks held."""

    def __init__(self, lake: Path, datasets: Sequence[str], options: PruneOptions, now: datetime) -> None:
        self.lake, self.datasets, self.options, self.now = lake, datasets, options, now
        days = UNCLAIMED_DAYS if options.older_than is None else options.older_than
        self.oldest = _ago(now, days)  # what nothing refers to and is older goes
        self.marks = mark(lake, datasets, lambda number, ref: options.keeps(number, ref, now), self.oldest)
        self.pruned = Pruned()

    def run(self) -> Pruned:
        """Remove what may go; of what a record refers to that cannot be read nothing is known, so caches stay then."""
        old = [path.name for path in (self.lake / "provenance").glob("[!_]*") if path.is_dir()]
        if old:
            self.pruned.notes.append(f"caches were left alone until `rallrec status` has taken over {', '.join(old)}")
        elif self.marks.unreadable:
            names = ", ".join(str(path) for path in self.marks.unreadable)
            self.pruned.notes.append(f"caches were left alone: cannot read {names}")
        else:
            self._caches()
            for path in self._adapters():
                self._remove("cache/adapters", path)
        for folder in (*(record.folder(self.lake) for record in self.marks.gone), *self._broken()):
            self._remove("results", folder)
        for path in self.marks.gone_refs:
            self._remove("history", path)
        for path in temporary_files(self.lake, self.now):
            self._remove("temporary files", path)
        return self.pruned

    def _remove(self, kind: str, path: Path) -> None:
        files, size = size_of(path)
        self.pruned.add(kind, files, size=size)
        if self.options.dry_run:
            return
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

    def _broken(self) -> Iterator[Path]:
        """What is left of results whose removal was cut short: without a manifest, and no ref that stays names it."""
        for dataset in self.datasets:
            for path in sorted((self.lake / "results" / dataset).glob("*/[!.]*")):
                if not (path / MANIFEST).exists() and path not in self.marks.unreadable:
                    yield path

    def _adapters(self) -> Iterator[Path]:
        """Finished adapters that no result which stays was made of: superseded ones, and others that are old."""
        used, superseded = (
            {key for record in records if record.stage == "lora_adapter" for key in adapter_keys(record)}
            for records in (self.marks.kept, self.marks.gone)
        )
        oldest = datetime.fromisoformat(self.oldest).timestamp()
        for dataset in self.datasets:
            for path in sorted((self.lake / "cache" / "adapters" / dataset).glob("*/*")):
                unused = path.name not in used and not is_temporary(path.name)
                if unused and (path.name in superseded or changed(path) < oldest):
                    yield path

    def _caches(self) -> None:
        used = row_keys(self.lake, self.marks.kept).to_list()
        # Without a limit in days, what is superseded now is never too young.
        superseded = row_keys(self.lake, self.marks.gone).to_list() if self.options.older_than is None else ()
        for kind in KINDS:
            try:
                memo = Memo(self.lake, kind, self.pruned.notes.append)
                rows, size = memo.prune(used, self.oldest, superseded, self.options.dry_run)
            except DataError as error:
                self.pruned.notes.append(f"a cache was left alone: {error}")
                continue
            if rows:
                self.pruned.add(f"cache/{kind.name}", rows=rows, size=size)


def adapter_keys(record: Record) -> list[str]:
    """Keys of the adapters that the stage which tunes them has made or found."""
    return [value["key"] for value in record.metadata.values() if isinstance(value, dict) and "key" in value]


def _lock_names(lake: Path, recorded: Sequence[str]) -> list[str]:
    """In the order in which runs take them: datasets, even one whose first run is under way; shared assets; the LLM."""
    under_way = (path.stem for path in (lake / "locks").glob("*.lock"))
    datasets = {name for name in (*recorded, *under_way) if not name.startswith("_")}
    return [*sorted(datasets), *sorted({name for name in recorded if name.startswith("_")}), LLM]


def _ago(now: datetime, days: float) -> str:
    """The time `days` before `now`, in the form that records have. Raises ConfigError for no number of days."""
    if not math.isfinite(days):
        raise ConfigError(f"--older-than is {days}: give a number of days")
    return (now - timedelta(days=days)).astimezone(UTC).isoformat(timespec="seconds")
