"""What must stay in the lake: the records that a limit keeps, and everything that these were made from.

A record that stays names its inputs by their data versions: the records that made those stay too, and so on, so the
chain of anything kept can be followed to the raw files. It also names its per-row provenance, and that names finished
LLM results by their keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import read_json
from rallrec_pipeline.lake.history import PRUNED, stored_records
from rallrec_pipeline.lake.provenance import Sidecar
from rallrec_pipeline.lake.shards import shard_files

KEY = "input_hash"


@dataclass(frozen=True)
class Limit:
    """Which superseded records stay: the newest `keep` of an artefact, and those made after `after` (ISO 8601, UTC).

    The newest one of an artefact always stays.
    """

    keep: int | None = None
    after: str | None = None

    def keeps(self, number: int, record: Sidecar) -> bool:
        """Whether `record`, the `number`-th newest of its artefact from zero, stays for its own sake."""
        if number == 0 or (self.keep is not None and number < self.keep):
            return True
        return self.after is not None and record.created_at >= self.after


@dataclass(frozen=True)
class Stored:
    """A record and the file that it lies in."""

    path: Path
    record: Sidecar


@dataclass(frozen=True)
class References:
    """All records of a lake, as those that stay and those that go."""

    kept: list[Stored]
    gone: list[Stored]

    def rows_files(self) -> set[str]:
        """Per-row provenance that records which stay name, as paths within the lake."""
        return {stored.record.rows_file for stored in self.kept if stored.record.rows_file}

    def files(self) -> set[str]:
        """Artefacts that records which stay name, as paths within the lake."""
        return {name for stored in self.kept for name in stored.record.files}


def recorded_datasets(lake: Path) -> list[str]:
    """Names of all datasets of which anything was ever made; those of shared assets begin with an underscore."""
    return sorted(path.name for path in (lake / "provenance").glob("*") if path.is_dir())


def find_references(lake: Path, limit: Limit, datasets: Iterable[str]) -> References:
    """Apply `limit` to the records of `datasets`; those of all others stay."""
    limited = set(datasets)
    history = {key: list(entries) for key, entries in _histories(lake)}
    roots = list(_current(lake))
    for (dataset, _), entries in history.items():
        roots += [s for n, s in enumerate(entries) if dataset not in limited or limit.keeps(n, s.record)]
    kept = _with_sources(roots, history)
    return References(list(kept.values()), [s for entries in history.values() for s in entries if s.path not in kept])


def unreadable_records(lake: Path) -> list[Path]:
    """Records, current or not, that cannot be read: what they refer to is unknown."""
    folders = (lake / "provenance").glob("*"), (lake / "provenance").glob("*/history/*")
    paths = (path for found in folders for folder in found for path in folder.glob("*.json") if path.name != PRUNED)
    return sorted(path for path in paths if _unreadable(path))


def row_keys(lake: Path, records: Iterable[Sidecar]) -> pl.Series:
    """Distinct keys of the LLM results that `records` are made of.

    Raises DataError when the per-row provenance of a record is missing or damaged.
    """
    found: dict[Path, None] = {}
    for record in records:
        found |= dict.fromkeys([lake / record.rows_file] if record.rows_file else _keyed_tables(lake, record))
    parts = [_keys_in(path) for path in found]
    return pl.concat([pl.Series("key", [], pl.String), *parts]).unique()


def _histories(lake: Path) -> Iterator[tuple[tuple[str, str], Iterator[Stored]]]:
    for folder in sorted((lake / "provenance").glob("*/history/*")):
        dataset, artefact = folder.parts[-3], folder.name
        yield (dataset, artefact), (Stored(*entry) for entry in stored_records(lake, artefact, dataset))


def _current(lake: Path) -> Iterator[Stored]:
    """Current records, also those whose files have gone or that are older than the history."""
    for path in sorted((lake / "provenance").glob("*/*.json")):
        try:
            yield Stored(path, Sidecar(**read_json(path)))
        except (DataError, TypeError):
            continue


def _with_sources(roots: list[Stored], history: Mapping[tuple[str, str], list[Stored]]) -> dict[Path, Stored]:
    """`roots` and, over any number of steps, the records of what they were made from."""
    kept: dict[Path, Stored] = {}
    waiting = list(roots)
    while waiting:
        stored = waiting.pop()
        if stored.path in kept:
            continue
        kept[stored.path] = stored
        waiting += [s for name in stored.record.inputs if (s := _source(stored.record, name, history))]
    return kept


def _source(record: Sidecar, name: str, history: Mapping[tuple[str, str], list[Stored]]) -> Stored | None:
    """The record of the input `name` that was current when `record` was written."""
    shared = sorted(dataset for dataset, artefact in history if artefact == name and dataset.startswith("_"))
    entries = [s for dataset in (record.dataset, *shared) for s in history.get((dataset, name), [])]
    same = [s for s in entries if s.record.data_version == record.inputs[name]]
    return next((s for s in same if s.record.created_at <= record.created_at), same[-1] if same else None)


def _unreadable(path: Path) -> bool:
    try:
        Sidecar(**read_json(path))
    except (DataError, TypeError):
        return True
    return False


def _keyed_tables(lake: Path, record: Sidecar) -> list[Path]:
    """Tables of a record from before there was per-row provenance (and states), which hold the keys themselves."""
    if record.states:
        return []
    tables = [lake / name for name in record.files if name.endswith(".parquet")]
    return [file for table in tables if table.exists() for file in shard_files(table) if KEY in _columns(file)]


def _columns(path: Path) -> list[str]:
    try:
        return list(pl.read_parquet_schema(path))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _damaged(path, error) from error


def _keys_in(path: Path) -> pl.Series:
    try:
        return pl.read_parquet(path, columns=[KEY])[KEY].cast(pl.String).unique().alias("key")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} is missing or damaged ({str(error).partition(chr(10))[0]})")
