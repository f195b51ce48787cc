"""What fetched files were taken from and what they were, so that they are taken anew only when either has changed.

The record lies beside the files as `.source.json`, a name that no raw file can have. Without one nobody knows where
the files are from: a local source that is there is taken, files of a source elsewhere stay as they are.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.checksums import FileState, is_damaged, state_of
from rallrec_pipeline.lake.sealed import read_sealed, write_sealed
from rallrec_pipeline.sources.source import Source, SourceFile, data_files, is_pattern, parts_of
from rallrec_pipeline.sources.state import State, contents, file_state

RECORD = ".source.json"


def record_path(folder: Path) -> Path:
    """Where the record of the files in `folder` lies."""
    return folder / RECORD


def source_files(source: Source, folder: Path) -> State:
    """Size, time and SHA-256 of each file of a local source that is there, by its path; empty for sources elsewhere.

    Files that have the size and time of the record in `folder` are not read again.
    """
    there = [path for path in source.local_files if path.is_file()]
    return file_state(there, _read(folder).get("files", {})) if there else {}


def has_changed(source: Source, folder: Path, now: State) -> bool:
    """Whether the source, with the local files `now`, is another than that of the record in `folder`.

    A local source that is gone has not changed, in whole or in part, nor has one that only was touched; what is
    elsewhere changes by its place only.
    """
    record = _read(folder)
    if not record:
        return bool(now) and len(now) == len(source.local_files)
    before = contents(record["files"])
    lost = any(path not in now for path in before if _is_part(source, path)) if now else False
    return (
        record["source"] != _decisive(source)
        or lost
        or any(before.get(path) != found for path, found in contents(now).items())
    )


def lost_files(source: Source, folder: Path) -> set[str]:
    """Names of files of which a part is gone, empty or damaged since the record in `folder` was written.

    A file that somebody edited is none of them.
    """
    return {file.name for file in source.files if any(_is_lost(*found) for found in _copies(folder, file))}


def edited_files(source: Source, folder: Path) -> set[str]:
    """Names of files that somebody edited, or a part of one, since the record in `folder` was written.

    Of a table in parts, other parts may be lost at the same time.
    """
    return {file.name for file in source.files if any(_is_edited(*found) for found in _copies(folder, file))}


def write_record(source: Source, folder: Path, now: State) -> None:
    """Write down that the files in `folder`, as they are, are as good as the source with the local files `now`."""
    known = _read(folder)
    kept = {path: state for path, state in known.get("files", {}).items() if not (now and _is_part(source, path))}
    places = [folder / file.name for file in source.files]
    parts = [part for place in places for part in (data_files(place) if place.is_dir() else [place])]
    copies = {part.relative_to(folder).as_posix(): state_of(part) for part in parts}
    record = {"source": _decisive(source), "files": kept | dict(now), "copies": copies}
    if (now or not source.local_files) and record != known:
        write_sealed(record_path(folder), record)


def _copies(folder: Path, file: SourceFile) -> list[tuple[Path, FileState]]:
    """Path and state of each part of a file as the record has it."""
    known = _read(folder).get("copies", {})
    inside = f"{file.name}/"
    return [(folder / name, state) for name, state in known.items() if name == file.name or name.startswith(inside)]


def _is_lost(path: Path, state: FileState) -> bool:
    return not path.is_file() or (path.stat().st_size == 0 < state[0]) or is_damaged(path, state)


def _is_edited(path: Path, state: FileState) -> bool:
    return not _is_lost(path, state) and state_of(path)[2] != state[2]


def _is_part(source: Source, path: str) -> bool:
    """Whether a path is that of a part of a table which still has others: one that is gone is then left out."""
    if source.kind != "folder" or os.path.exists(path):
        return False
    for file in source.files:
        place = source.place / file.path
        inside = Path(path).is_relative_to(place) if place.is_dir() else Path(path).match(file.path)
        if inside and (place.is_dir() or is_pattern(file.path)) and parts_of(source.place, file.path):
            return True
    return False


def _decisive(source: Source) -> dict[str, Any]:
    """What decides which bytes a file has."""
    members = {file.name: file.path for file in source.files}
    return {"kind": source.kind, "location": source.location, "members": members}


def _read(folder: Path) -> dict[str, Any]:
    """The record, its `files` and `copies` a State; empty where there is none, or none that can be read.

    One of an older version has no `copies`.
    """
    try:
        record = read_sealed(record_path(folder))
        states = {"files": _state(record["files"]), "copies": _state(record.get("copies", {}))}
        return {"source": record["source"], **states}
    except (DataError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _state(found: Any) -> dict[str, FileState]:
    return {path: (int(size), int(time), str(digest)) for path, (size, time, digest) in found.items()}
