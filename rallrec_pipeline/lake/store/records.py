"""Records of results: what was made, from what, and whether its files are still those that were written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from rallrec_pipeline.errors import DataError, StaleArtefactError
from rallrec_pipeline.lake.checksums import FileState, digest, is_damaged, state_of
from rallrec_pipeline.lake.files import atomic_path
from rallrec_pipeline.lake.provenance import files_within, stable_hash
from rallrec_pipeline.lake.sealed import read_sealed, write_sealed
from rallrec_pipeline.lake.sound import MANIFEST

ROWS = "rows.parquet"
FORMAT = 2  # of manifests and refs; raised when an older program could not read them. Since 2 they carry a checksum
UNREADABLE = (DataError, TypeError, ValueError, KeyError, AttributeError, IndexError)


@dataclass(frozen=True)
class Given:
    """An input as it was: whose it is (`dataset`), which result, and the hash of its content.

    `stage` is what made it, where the input is not called so (the variants of a study).
    """

    dataset: str
    fingerprint: str
    data_version: str
    stage: str = ""


@dataclass(frozen=True)
class Record:
    """What is known about one result.

    `files` holds the state of each file, that of `rows.parquet` too, by its path within the lake; `outputs` are the
    files and folders that the stage names. `data_version` is the hash of its content: of its files' bytes, or of less
    where they hold run ids and times.
    """

    stage: str
    dataset: str
    fingerprint: str
    data_version: str
    inputs: Mapping[str, Given]
    settings: Mapping[str, Any]
    code_version: str
    run_id: str
    created_at: str
    seconds: float
    outputs: list[str] = field(default_factory=list)
    files: Mapping[str, FileState] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def folder(self, lake: Path) -> Path:
        """Where the result lies: paths of the contract begin there."""
        return result_folder(lake, self.dataset, self.stage, self.fingerprint)

    def manifest(self, lake: Path) -> Path:
        """The file that this record is read from."""
        return self.folder(lake) / MANIFEST

    def paths(self, lake: Path) -> list[Path]:
        """The files and folders that the stage made."""
        return [lake / name for name in self.outputs]

    def is_there(self, lake: Path) -> bool:
        """Whether no file has gone."""
        return all((lake / name).exists() for name in self.files)

    def is_whole(self, lake: Path) -> bool:
        """Whether the files are still those that the record was written for; only touched ones are read."""
        return all(_same(lake / name, *state) for name, state in self.files.items())

    def damaged(self, lake: Path) -> list[str]:
        """Files whose bytes have changed though their size and time have not."""
        return [name for name, state in self.files.items() if is_damaged(lake / name, state)]

    def rows(self, lake: Path) -> pl.DataFrame | None:
        """Provenance of each row, where rows have one of their own; a damaged one is as good as none."""
        path = self.folder(lake) / ROWS
        state = self.files.get(path.relative_to(lake).as_posix())
        try:
            if not path.exists() or (state is not None and digest(path) != state[2]):
                return None
            return pl.read_parquet(path, glob=False)
        except (pl.exceptions.PolarsError, OSError):
            return None


def result_folder(lake: Path, dataset: str, stage: str, fingerprint: str) -> Path:
    """The address of a result."""
    return lake / "results" / dataset / stage / fingerprint


@contextmanager
def unfinished_result(lake: Path, dataset: str, stage: str, fingerprint: str) -> Iterator[Path]:
    """A folder of one's own to make a result in; it takes the result's name when the block ends without an error."""
    with atomic_path(result_folder(lake, dataset, stage, fingerprint)) as draft:
        draft.mkdir()
        yield draft


def finish_result(lake: Path, draft: Path, record: Record, outputs: list[Path], rows: pl.DataFrame | None) -> Record:
    """Write to `draft` the record of `outputs` (within it, or elsewhere in the lake) and the provenance of rows."""
    if rows is not None:
        rows.write_parquet(draft / ROWS, compression="zstd")
    prefix = record.folder(lake).relative_to(lake)

    def final(path: Path) -> str:
        inside = path.is_relative_to(draft)
        return (prefix / path.relative_to(draft) if inside else path.relative_to(lake)).as_posix()

    states = {final(file): state_of(file) for file in files_within(outputs)}
    version = record.data_version or stable_hash([(Path(name).name, state[2]) for name, state in states.items()])
    if rows is not None:
        states[final(draft / ROWS)] = state_of(draft / ROWS)
    made = replace(record, data_version=version, outputs=[final(path) for path in outputs], files=states)
    write_sealed(draft / MANIFEST, asdict(made))
    return made


def read_record(lake: Path, dataset: str, stage: str, fingerprint: str) -> Record | None:
    """The record of a result, or None where there is none; an unreadable one is as good as none: it is made again.

    Raises StaleArtefactError when a newer version of this program wrote it.
    """
    path = result_folder(lake, dataset, stage, fingerprint) / MANIFEST
    if not path.exists():
        return None
    try:
        found = read_known(path)
        inputs = {name: Given(**given) for name, given in found.pop("inputs").items()}
        files = {name: (int(s[0]), int(s[1]), str(s[2])) for name, s in found.pop("files").items()}
        return Record(**found, inputs=inputs, files=files)
    except UNREADABLE:
        return None


def has_lost_record(lake: Path, dataset: str, stage: str, fingerprint: str) -> bool:
    """Whether there is a result whose record cannot be read."""
    path = result_folder(lake, dataset, stage, fingerprint) / MANIFEST
    return path.exists() and read_record(lake, dataset, stage, fingerprint) is None


def all_records(lake: Path, dataset: str, stage: str) -> list[Record]:
    """The records of all results of a stage that are stored, newest first."""
    folder = lake / "results" / dataset / stage
    names = [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
    found = [record for name in names if (record := read_record(lake, dataset, stage, name)) is not None]
    return sorted(found, key=lambda record: record.created_at, reverse=True)


def recorded_datasets(lake: Path) -> list[str]:
    """Names of all datasets of which anything is stored; what all share has a name that begins with an underscore."""
    folders = ((lake / "results"), (lake / "refs"))
    return sorted({path.name for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_dir()})


def whole(lake: Path, record: Record, verify: bool = False) -> Record | None:
    """`record` where its files hold what they were written with, else None; touched or copied ones are remembered.

    Files with the size and time that they were written with are taken for what they were, unless `verify` asks for a
    look at their bytes.
    """
    if not record.is_there(lake) or not record.is_whole(lake) or (verify and record.damaged(lake)):
        return None
    try:
        moved = {name: (s[0], (lake / name).stat().st_mtime_ns, s[2]) for name, s in record.files.items()}
    except OSError:  # another run is replacing them
        return None
    if moved == record.files:
        return record
    renewed = replace(record, files=moved, format=FORMAT)
    # Of a lake that may only be read nothing is remembered; and a run removes what a mere look is about to rename.
    with suppress(DataError, FileNotFoundError):
        write_sealed(record.manifest(lake), asdict(renewed))
    return renewed


def with_inputs(lake: Path, record: Record) -> dict[str, Record]:
    """`record` and, over any number of steps, what it was made from, by stage; of two of a stage the nearest.

    Raises StaleArtefactError when the record of one is gone.
    """
    found, waiting = {record.stage: record}, [record]
    for one in waiting:  # which grows meanwhile
        for name, given in one.inputs.items():
            stage = given.stage or name
            if stage in found:
                continue
            made = read_record(lake, given.dataset, stage, given.fingerprint)
            if made is None:
                raise StaleArtefactError(
                    f"{stage} of {given.dataset!r}, of which {one.stage} was made, was removed: "
                    f"run `rallrec run {record.dataset}` again, with the variant that it is of"
                )
            found[stage] = made
            waiting.append(made)
    return found


def _same(path: Path, size: int, changed: int, total: str) -> bool:
    try:
        found = path.stat()
        return found.st_size == size and (found.st_mtime_ns == changed or digest(path) == total)
    except OSError:
        return False


def read_known(path: Path) -> dict[str, Any]:
    """A record or ref, its checksum held against its content; raises DataError for a damaged one."""
    found = read_sealed(path, sealed_since=2)
    if int(found.get("format", FORMAT)) > FORMAT:
        raise StaleArtefactError(f"{path} is of a newer version of this program: update it, or use another lake")
    return found
