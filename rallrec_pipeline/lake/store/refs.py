"""Refs: which result of each stage a variant has, and what each run left behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rallrec_pipeline.lake.provenance import now
from rallrec_pipeline.lake.sealed import write_sealed
from rallrec_pipeline.lake.store.links import publish_links
from rallrec_pipeline.lake.store.records import FORMAT, UNREADABLE, Record, read_known, read_record

IN_FORCE = "in_force"


@dataclass(frozen=True)
class Ref:
    """Which result of each stage is in force: for a variant, or for what a run left behind."""

    variant: str
    run_id: str
    at: str
    results: Mapping[str, str]
    format: int = FORMAT


def read_ref(lake: Path, dataset: str, variant: str) -> Ref | None:
    """What a variant has; None where it was never run. Raises as `read_record` does."""
    return _read_ref(ref_file(lake, dataset, variant))


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


def lost_refs(lake: Path, dataset: str, *names: str) -> list[Path]:
    """Files of refs that cannot be read: those of `names`, by default of all and of the history."""
    folder = _refs(lake, dataset)
    if names:
        files = [path for name in names if (path := folder / f"{name}.json").exists()]
    else:
        files = [*sorted(folder.glob("*.json")), *_numbered(folder / "history")]
    return [path for path in files if _read_ref(path) is None]


def record_of(lake: Path, dataset: str, ref: Ref | None, stage: str) -> Record | None:
    """The record of `stage` that a ref names."""
    fingerprint = ref.results.get(stage) if ref is not None else None
    return read_record(lake, dataset, stage, fingerprint) if fingerprint else None


def ref_file(lake: Path, dataset: str, variant: str) -> Path:
    """The file that says what a variant has; it is replaced as a whole."""
    return _refs(lake, dataset) / f"{variant}.json"


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


def _refs(lake: Path, dataset: str) -> Path:
    return lake / "refs" / dataset


def _numbered(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.json") if path.stem.isdigit())


def _read_ref(path: Path) -> Ref | None:
    if not path.exists():
        return None
    try:
        found = Ref(**read_known(path))
        return found if isinstance(found.results, dict) else None
    except UNREADABLE:
        return None
