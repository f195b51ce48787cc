"""What artefacts were before: every record ever written, and the per-row provenance that it names.

`provenance/<dataset>/history/<artefact>/000007.json` is the seventh record of an artefact; the newest equals the
current sidecar. Per-row provenance is content-addressed under `provenance/<dataset>/rows/<artefact>/`, so records that
did not change it share one file. Numbers come from the highest one there, so a lost file never makes two collide.
`pruned.json` holds numbers and times of records that were removed.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import polars as pl

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import atomic_path, read_json, write_json
from rallrec_pipeline.lake.provenance import HASH_LENGTH, Sidecar, write_sidecar

PRUNED = "pruned.json"


def history_folder(lake: Path, artefact: str, dataset: str) -> Path:
    """Where the records of an artefact lie."""
    return lake / "provenance" / dataset / "history" / artefact


def record_run(lake: Path, sidecar: Sidecar) -> None:
    """Store `sidecar` as the newest record of its artefact and as the current one, each atomically."""
    folder = history_folder(lake, sidecar.artefact, sidecar.dataset)
    number = max((int(path.stem) for path in _numbered(folder)), default=0) + 1
    write_json(folder / f"{number:06d}.json", asdict(sidecar))
    write_sidecar(lake, sidecar)


def has_history(lake: Path, artefact: str, dataset: str) -> bool:
    """Whether the artefact was ever finished."""
    return bool(_numbered(history_folder(lake, artefact, dataset)))


def past_records(lake: Path, artefact: str, dataset: str) -> Iterator[Sidecar]:
    """All readable records, newest first."""
    return (record for _, record in stored_records(lake, artefact, dataset))


def stored_records(lake: Path, artefact: str, dataset: str) -> Iterator[tuple[Path, Sidecar]]:
    """All readable records with the files that they lie in, newest first."""
    for path in reversed(_numbered(history_folder(lake, artefact, dataset))):
        try:
            yield path, Sidecar(**read_json(path))
        except (DataError, TypeError):
            continue  # an unreadable record is as good as none


def record_at(lake: Path, artefact: str, dataset: str, run_id: str, moment: str) -> Sidecar | None:
    """The record that was current when the run `run_id` ended, which wrote its last record at `moment` (ISO 8601).

    None when it is not there any more.
    """
    pruned = _pruned(history_folder(lake, artefact, dataset))
    for path, record in stored_records(lake, artefact, dataset):
        if record.run_id == run_id:
            return record
        if record.created_at <= moment:
            later = (time for number, time in pruned.items() if number > path.stem and time <= moment)
            return None if any(later) else record
    return None


def remove_records(records: Sequence[tuple[Path, Sidecar]]) -> None:
    """Delete records, all of one artefact; their times stay, so that an older record never passes for a lost one."""
    if not records:
        return
    folder = records[0][0].parent
    write_json(folder / PRUNED, _pruned(folder) | {path.stem: record.created_at for path, record in records})
    for path, _ in records:
        path.unlink()


def write_rows(lake: Path, artefact: str, dataset: str, rows: pl.DataFrame) -> str:
    """Store per-row provenance; returns its path within the lake."""
    buffer = io.BytesIO()
    rows.write_parquet(buffer, compression="zstd")
    name = f"{hashlib.sha256(buffer.getvalue()).hexdigest()[:HASH_LENGTH]}.parquet"
    path = lake / "provenance" / dataset / "rows" / artefact / name
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return path.relative_to(lake).as_posix()


def read_rows(lake: Path, record: Sidecar | None) -> pl.DataFrame | None:
    """The per-row provenance that a record names; None where it has none, or no longer."""
    if record is None or record.rows_file is None or not (lake / record.rows_file).exists():
        return None
    try:
        return pl.read_parquet(lake / record.rows_file)
    except (pl.exceptions.PolarsError, OSError):
        return None


def latest_rows(lake: Path, artefact: str, dataset: str) -> pl.DataFrame | None:
    """The per-row provenance of the last finished run, also while a new one is under way or was broken off."""
    return read_rows(lake, next(past_records(lake, artefact, dataset), None))


def _pruned(folder: Path) -> dict[str, str]:
    """Number and time of each record that was removed."""
    try:
        return dict(read_json(folder / PRUNED)) if (folder / PRUNED).exists() else {}
    except (DataError, ValueError, TypeError):
        return {}


def _numbered(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.json") if path.stem.isdigit())
