"""Files that nothing refers to: outputs that no record names any more, and what killed runs left behind."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from glob import escape
from pathlib import Path, PurePosixPath

from rallrec_pipeline.lake.provenance import Sidecar
from rallrec_pipeline.lake.references import Limit, References

# Outputs that come and go with the settings: where they lie, and the assets that make them.
VARYING: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("checkpoints/{dataset}/*", ("lora_adapter",)),
    ("predictions/*/{dataset}.parquet", ("predictions", "baseline_predictions")),
)
OWN_FOLDERS = ("tables", "embeddings", "index", "prompts", "checkpoints", "predictions", "reports")
TEMPORARY = re.compile(r"\.(.+\.[0-9a-f]{8}\.(tmp|old)|(check|fetch|lines|model|wheel)-\w{8})")
TEMPORARY_AGE = timedelta(days=1)


def superseded_outputs(lake: Path, datasets: Sequence[str], references: References, limit: Limit) -> Iterator[Path]:
    """Files and folders that only records which go name, or none at all, and that a later run did not make again."""
    named = references.files()
    seen: set[Path] = set()
    for dataset in datasets:
        newest = _newest(references, dataset)
        for path, artefacts in _candidates(lake, dataset, references):
            if path in seen or _is_named(path.relative_to(lake).as_posix(), named):
                continue
            if _is_older(path, newest, artefacts, limit):
                found = [path, *_companion(path)]
                seen.update(found)
                yield from found


def superseded_adapters(lake: Path, datasets: Sequence[str], references: References, oldest: str) -> Iterator[Path]:
    """Adapters that were set aside and that no record which stays names, by the keys that they are stored under.

    They are named by a record that goes, or were tuned before `oldest` (ISO 8601).
    """
    for dataset in datasets:
        kept = [stored.record for stored in references.kept if _tells_of_adapters(stored.record, dataset)]
        if not all(_adapter_keys(record) for record in kept):
            continue  # a record of an earlier version: what it was made of is not known
        used = {key for record in kept for key in _adapter_keys(record)}
        gone = [stored.record for stored in references.gone if _tells_of_adapters(stored.record, dataset)]
        superseded = {key for record in gone for key in _adapter_keys(record)}
        for path in sorted((lake / "cache" / "adapters").glob(f"{escape(dataset)}/*/*")):
            unused = path.name not in used and not TEMPORARY.fullmatch(path.name)
            if unused and (path.name in superseded or _changed(path) < _seconds(oldest)):
                yield path


def temporary_files(lake: Path, now: datetime) -> Iterator[Path]:
    """Files and folders under temporary names in which nothing was written for a day."""
    for folder, folders, files in os.walk(lake):
        found = [name for name in (*folders, *files) if TEMPORARY.fullmatch(name)]
        folders[:] = [name for name in folders if name not in found]
        for path in (Path(folder, name) for name in sorted(found)):
            if not path.is_symlink() and _changed(path) < (now - TEMPORARY_AGE).timestamp():
                yield path


def size_of(path: Path) -> tuple[int, int]:
    """Files and bytes of a file or folder."""
    files = list(_files(path))
    return len(files), sum(file.lstat().st_size for file in files)


def _tells_of_adapters(record: Sidecar, dataset: str) -> bool:
    return record.dataset == dataset and record.artefact == "lora_adapter"


def _adapter_keys(record: Sidecar) -> list[str]:
    return [value["key"] for value in record.metadata.values() if isinstance(value, dict) and "key" in value]


def _candidates(lake: Path, dataset: str, references: References) -> Iterator[tuple[Path, tuple[str, ...]]]:
    for pattern, artefacts in VARYING:
        found = sorted(lake.glob(pattern.format(dataset=escape(dataset))))
        yield from ((path, artefacts) for path in found if not TEMPORARY.fullmatch(path.name))
    for stored in references.gone:
        if stored.record.dataset == dataset:
            own = (name for name in stored.record.files if _is_own(name))
            yield from ((lake / name, (stored.record.artefact,)) for name in own)


def _companion(path: Path) -> list[Path]:
    """The record that predictions have beside them."""
    record = path.with_suffix(".json")
    return [record] if path.suffix == ".parquet" and record.is_file() else []


def _is_named(name: str, named: set[str]) -> bool:
    """Whether a path, one within it or one that it is within is named."""
    return name in named or any(name.startswith(f"{other}/") or other.startswith(f"{name}/") for other in named)


def _is_own(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return len(parts) > 1 and parts[0] in OWN_FOLDERS and ".." not in parts


def _newest(references: References, dataset: str) -> dict[str, Sidecar]:
    """The newest record of each artefact."""
    records = (stored.record for stored in references.kept if stored.record.dataset == dataset)
    return {record.artefact: record for record in sorted(records, key=lambda record: record.created_at)}


def _is_older(path: Path, newest: dict[str, Sidecar], artefacts: Iterable[str], limit: Limit) -> bool:
    """Whether every asset that could have made `path` was finished since without naming it.

    What a broken-off run has finished is younger than the last record, so it stays.
    """
    if path.is_symlink() or not path.exists():
        return False
    times = [newest[name].created_at if name in newest else "" for name in artefacts]
    times += [limit.after] if limit.after is not None else []
    return all(_changed(path) < _seconds(time) for time in times)


def _seconds(time: str) -> float:
    try:
        return datetime.fromisoformat(time).timestamp()
    except ValueError:
        return 0.0  # a time that is not known is no reason to remove anything


def _changed(path: Path) -> float:
    """Time of the last change of a file or of anything in a folder."""
    return max(entry.lstat().st_mtime for entry in (path, *_files(path)))


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir() or path.is_symlink():
        yield path
        return
    for folder, _, names in os.walk(path):
        yield from (Path(folder, name) for name in names)
