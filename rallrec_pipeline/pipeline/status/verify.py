"""Every file of a dataset held against what was written, all at once: `rallrec status --verify`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rallrec_pipeline.datasets.raw_files import kept_records
from rallrec_pipeline.errors import DamagedError, DataError
from rallrec_pipeline.lake.checksums import digest
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import KINDS
from rallrec_pipeline.lake.sealed import read_sealed
from rallrec_pipeline.lake.sound import MANIFEST, advice
from rallrec_pipeline.lake.store import Record, lost_refs, read_record, recorded_datasets, variant_refs
from rallrec_pipeline.lake.tombstones import tombstone_file
from rallrec_pipeline.pipeline.context import SHARED
from rallrec_pipeline.sources.record import RECORD
from rallrec_pipeline.tuning.lora import PROVENANCE
from rallrec_pipeline.tuning.store import CHECKPOINT, adapter_key


@dataclass(frozen=True)
class Damage:
    """One file that is not what was written, of which asset, and how to mend it."""

    file: str
    """Path within the lake."""
    what: str
    asset: str
    mend: str

    def __str__(self) -> str:
        owner = f" of {self.asset}" if self.asset else ""
        return f"{self.file}{owner} {self.what}: {self.mend}"


@dataclass
class Verified:
    """What was looked at, and what is damaged."""

    files: int = 0
    bytes: int = 0
    rows: int = 0
    """Finished rows in the caches."""
    damages: list[Damage] = field(default_factory=list)

    def summary(self) -> str:
        """All of it in words."""
        looked = f"{self.files:,} files ({self.bytes / 1e6:,.1f} MB) and {self.rows:,} rows of the caches"
        if not self.damages:
            return f"{looked} are what was written"
        return f"of {looked}, {len(self.damages):,} are not what was written"


def verify_lake(lake: Path, dataset: str | None, profile: str) -> Verified:
    """Look at the bytes of everything that was made of `dataset` (default: of all), and of what all datasets share.

    Files that users write (`catalog/`, `variants/`, `studies/`) have no checksum, nor have locks, which only processes
    that are alive hold.
    """
    known = recorded_datasets(lake)
    names = known if dataset is None else [name for name in known if name in (dataset, SHARED)]
    verified, seen = Verified(), set[Path]()
    for name in names:
        _results(lake, name, profile, verified, seen)
        _refs(lake, name, verified)
        _adapters(lake, name, verified)
        for path in kept_records(lake, name):
            _document(lake, path, "", advice(name, "raw_files"), verified)
        _document(lake, tombstone_file(lake, name), "", "restore it, or delete it and forget its users again", verified)
        for path in sorted((lake / "reports" / name).glob("forgotten_*.json")):
            _document(lake, path, "", "restore it from a backup: it cannot be made anew", verified)
    for path in sorted((lake / "models").glob(f"*/{RECORD}")):
        _document(lake, path, "", "delete it, it only tells another lake what the folder holds", verified)
    for path in sorted((lake / "cache" / "calibration").glob("*.json")):
        _document(lake, path, "", "delete it, the next status measures anew", verified)
    for kind in KINDS:
        memo = Memo(lake, kind)
        rows, wrong = memo.damage()
        verified.rows += rows
        if memo.path.exists():
            _count(memo.path, verified)
        mend = "the next run that needs it keeps sound rows and makes the others anew"
        verified.damages += [Damage(_name(lake, memo.path), f"is damaged ({what})", "", mend) for what in wrong]
    return verified


def _results(lake: Path, dataset: str, profile: str, verified: Verified, seen: set[Path]) -> None:
    named = _named(lake, dataset)
    for manifest in sorted((lake / "results" / dataset).glob(f"*/[!.]*/{MANIFEST}")):
        stage, fingerprint = manifest.parts[-3:-1]
        variants = named.get((stage, fingerprint), [])
        mend = f"no variant has this result: delete {_name(lake, manifest.parent)}"
        if variants:
            mend = advice(dataset, stage, None if profile in variants else variants[0])
        record, asset = read_record(lake, dataset, stage, fingerprint), f"{stage} of {dataset}"
        _count(manifest, verified)
        if record is None:
            verified.damages.append(Damage(_name(lake, manifest), "is damaged", asset, mend))
            continue
        for name, what in _wrong(lake, record, verified, seen):
            if variants or name.startswith("results/"):  # what is fetched is that of a later result by now
                verified.damages.append(Damage(name, what, asset, mend))


def _named(lake: Path, dataset: str) -> dict[tuple[str, str], list[str]]:
    """The variants that have a result, by stage and fingerprint."""
    found: dict[tuple[str, str], list[str]] = {}
    for owner in recorded_datasets(lake) if dataset == SHARED else [dataset]:
        for ref in variant_refs(lake, owner):
            for address in ref.results.items():
                found.setdefault(address, []).append(ref.variant)
    return found


def _wrong(lake: Path, record: Record, verified: Verified, seen: set[Path]) -> Iterator[tuple[str, str]]:
    """Files of a result that are not what its record says; one that several results share is counted once."""
    for name, (_, _, total) in record.files.items():
        path = lake / name
        try:
            if path not in seen:
                _count(path, verified)
            seen.add(path)
            if digest(path) != total:
                yield name, "is damaged" if name in record.damaged(lake) else "was edited or is damaged"
        except OSError as error:
            yield name, "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"


def _refs(lake: Path, dataset: str, verified: Verified) -> None:
    folder = lake / "refs" / dataset
    for path in [*folder.glob("*.json"), *folder.glob("history/*.json")]:
        _count(path, verified)
    for path in lost_refs(lake, dataset):
        again = f"run `rallrec run {dataset}` to make it anew"
        mend = "delete it, what that run left behind is not known any more" if path.parent.name == "history" else again
        verified.damages.append(Damage(_name(lake, path), "is damaged", "", mend))


def _adapters(lake: Path, dataset: str, verified: Verified) -> None:
    """Finished adapters of the cache; one whose tuning is under way has a checksum of its own."""
    for folder in sorted((lake / "cache" / "adapters" / dataset).glob("*/[!.]*")):
        files = [path for path in folder.iterdir() if path.is_file()]
        for path in files:
            _count(path, verified)
        if (folder / CHECKPOINT).exists() and not (folder / PROVENANCE).exists():
            continue
        if adapter_key(folder) != folder.name:
            mend = f"delete {_name(lake, folder)}, a run that needs it tunes it anew"
            verified.damages.append(Damage(_name(lake, folder), "is damaged", "lora_adapter", mend))


def _document(lake: Path, path: Path, asset: str, mend: str, verified: Verified) -> None:
    if not path.exists():
        return
    _count(path, verified)
    try:
        read_sealed(path)
    except DamagedError:
        verified.damages.append(Damage(_name(lake, path), "is damaged", asset, mend))
    except DataError as error:
        verified.damages.append(Damage(_name(lake, path), f"cannot be read ({error})", asset, mend))


def _count(path: Path, verified: Verified) -> None:
    verified.files, verified.bytes = verified.files + 1, verified.bytes + path.stat().st_size


def _name(lake: Path, path: Path) -> str:
    return path.relative_to(lake).as_posix()
