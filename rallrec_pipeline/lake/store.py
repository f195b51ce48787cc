"""Results by fingerprint, and refs that say which of them are in force.

`results/<dataset>/<stage>/<fingerprint>/` holds all that one stage made from one set of inputs, settings and code: its
files under the paths of the contract (`tables/…`, `embeddings/…`), the provenance of its rows, and `manifest.json`,
the record with the checksums of its files and its own. A folder gets its name when it is whole, so what has a name is
finished, and it is never changed after that. What is fetched and not made (raw files, models) stays where it is: its
record names it.

`refs/<dataset>/<variant>.json` says which fingerprint of each stage a variant has; `refs/<dataset>/history/` holds
what each run left behind. The paths of the contract in the lake itself are links to the variant that ran last.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from rallrec_pipeline.errors import DataError, StaleArtefactError
from rallrec_pipeline.lake.checksums import FileState, digest, is_damaged, state_of
from rallrec_pipeline.lake.files import atomic_path
from rallrec_pipeline.lake.provenance import files_within, now, stable_hash
from rallrec_pipeline.lake.sealed import read_sealed, write_sealed
from rallrec_pipeline.lake.sound import MANIFEST

ROWS = "rows.parquet"
FORMAT = 2  # of manifests and refs; raised when an older program could not read them. Since 2 they carry a checksum
IN_FORCE = "in_force"
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


@dataclass(frozen=True)
class Ref:
    """Which result of each stage is in force: for a variant, or for what a run left behind."""

    variant: str
    run_id: str
    at: str
    results: Mapping[str, str]
    format: int = FORMAT


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
        found = _read_known(path)
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
        moved = {name: _moved(lake / name, state) for name, state in record.files.items()}
    except OSError:  # another run is replacing them
        return None
    if moved == record.files:
        return record
    renewed = replace(record, files=moved, format=FORMAT)
    # Of a lake that may only be read nothing is remembered; and a run removes what a mere look is about to rename.
    with suppress(DataError, FileNotFoundError):
        write_sealed(record.manifest(lake), asdict(renewed))
    return renewed


def read_ref(lake: Path, dataset: str, variant: str) -> Ref | None:
    """What a variant has; None where it was never run. Raises as `read_record` does."""
    return _read_ref(_refs(lake, dataset) / f"{variant}.json")


def variant_refs(lake: Path, dataset: str) -> list[Ref]:
    """What each variant has, and what is in force."""
    files = sorted(_refs(lake, dataset).glob("*.json"))
    return [ref for path in files if (ref := _read_ref(path)) is not None]


def in_force(lake: Path, dataset: str) -> Ref | None:
    """What the links of the contract point to: the variant that ran last."""
    return _read_ref(_refs(lake, dataset) / f".{IN_FORCE}.json")


def past_refs(lake: Path, dataset: str) -> Iterator[Ref]:
    """What each run left behind, newest first."""
    return (ref for _, ref in stored_refs(lake, dataset))


def stored_refs(lake: Path, dataset: str) -> Iterator[tuple[Path, Ref]]:
    """As `past_refs`, with the file of each."""
    for path in reversed(_numbered(_refs(lake, dataset) / "history")):
        if (ref := _read_ref(path)) is not None:
            yield path, ref


def lost_refs(lake: Path, dataset: str) -> list[Path]:
    """Files of refs, those of the history too, that cannot be read."""
    folder = _refs(lake, dataset)
    files = [*sorted(folder.glob("*.json")), *_numbered(folder / "history")]
    return [path for path in files if _read_ref(path) is None]


def record_of(lake: Path, dataset: str, ref: Ref | None, stage: str) -> Record | None:
    """The record of `stage` that a ref names."""
    fingerprint = ref.results.get(stage) if ref is not None else None
    return read_record(lake, dataset, stage, fingerprint) if fingerprint else None


def put_in_force(
    lake: Path, record: Record, variant: str, run_id: str, shared: Mapping[str, str], publish: bool = True
) -> None:
    """Say that `record` is its stage's result for `variant`, and let the paths of the contract lead to it.

    `shared` are fingerprints of unpartitioned stages that it was made from. Without `publish` the paths of the
    contract stay those of another variant.
    """
    dataset, found = record.dataset, {record.stage: record.fingerprint} | dict(shared)
    if publish:
        publish_links(lake, record, record_of(lake, dataset, in_force(lake, dataset), record.stage))
    for name in (variant, f".{IN_FORCE}") if publish else (variant,):
        _update(_refs(lake, dataset) / f"{name}.json", variant, run_id, found)
    _remember(lake, dataset, variant, run_id)


def _remember(lake: Path, dataset: str, variant: str, run_id: str) -> None:
    """The last entry of the history becomes what `variant` has now; a run that changes nothing adds none."""
    folder, ref = _refs(lake, dataset) / "history", read_ref(lake, dataset, variant)
    entries = _numbered(folder)
    last = _read_ref(entries[-1]) if entries else None
    if ref is None or (last is not None and (last.variant, last.results) == (ref.variant, ref.results)):
        return
    same_run = last is not None and (last.run_id, last.variant) == (run_id, variant)
    number = (int(entries[-1].stem) if entries else 0) + (0 if same_run else 1)
    write_sealed(folder / f"{number:06d}.json", asdict(ref))


def _update(path: Path, variant: str, run_id: str, found: Mapping[str, str]) -> None:
    before = _read_ref(path)
    results = dict(before.results) if before else {}
    if before is None or (before.variant, results | dict(found)) != (variant, results):
        write_sealed(path, asdict(Ref(variant, run_id, now(), results | dict(found))))


def publish_links(lake: Path, record: Record, before: Record | None = None) -> None:
    """Links at the paths of the contract; those of the result before that this one has not go."""
    links = dict(_links(lake, record))
    for link in dict(_links(lake, before)) if before else ():
        if link not in links and link.is_symlink():
            link.unlink()
    for link, target in links.items():
        wanted = os.path.relpath(target, link.parent)
        if link.is_symlink() and os.readlink(link) == wanted:
            continue
        with atomic_path(link) as temporary:
            temporary.symlink_to(wanted)


def _links(lake: Path, record: Record) -> Iterator[tuple[Path, Path]]:
    folder = record.folder(lake)
    for path in record.paths(lake):
        if path.is_relative_to(folder):
            yield lake / path.relative_to(folder), path


def link_tree(source: Path, target: Path) -> None:
    """Make `target` a file or folder with the bytes of `source`, sharing them on disk where the file system can."""
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        _link(source, target)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _moved(path: Path, state: FileState) -> FileState:
    return state[0], path.stat().st_mtime_ns, state[2]


def _same(path: Path, size: int, changed: int, total: str) -> bool:
    try:
        found = path.stat()
        return found.st_size == size and (found.st_mtime_ns == changed or digest(path) == total)
    except OSError:
        return False


def _refs(lake: Path, dataset: str) -> Path:
    return lake / "refs" / dataset


def _numbered(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.json") if path.stem.isdigit())


def _read_ref(path: Path) -> Ref | None:
    if not path.exists():
        return None
    try:
        found = Ref(**_read_known(path))
        return found if isinstance(found.results, dict) else None
    except UNREADABLE:
        return None


def _read_known(path: Path) -> dict[str, Any]:
    """A record or ref, its checksum held against its content; raises DataError for a damaged one."""
    found = read_sealed(path, sealed_since=2)
    if int(found.get("format", FORMAT)) > FORMAT:
        raise StaleArtefactError(f"{path} is of a newer version of this program: update it, or use another lake")
    return found
