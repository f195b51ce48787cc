"""The certificate of a forgotten user: what was removed and why, and what has been fitted again since.

It is written before the work begins, so that one that is cut short knows the rest, and it names the user by hash alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rallrec_pipeline.datasets.redaction import RedactedFile
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.sealed import read_sealed, write_sealed
from rallrec_pipeline.lake.store import read_record, variant_refs
from rallrec_pipeline.pipeline.forgetting.holding import Held

BEGUN, DONE = "begun", "done"
DATABASE = "Dagster's storage, which is a database: it was not searched"
NOT_REACHED = (
    "the source that the raw files come from: a later fetch leaves the rows out, the source itself keeps them",
    "copies and backups of the lake, and whatever was exported from it or published",
    "blocks that a file system or a disk has freed and not yet written over",
)


@dataclass(frozen=True)
class Certificate:
    """What was done for one user of one dataset."""

    dataset: str
    user: str
    """The hash in `tombstones/<dataset>.json`."""
    state: str
    at: str
    raw_files: list[RedactedFile] = field(default_factory=list)
    edited: list[str] = field(default_factory=list)
    """Copies of edited raw files, which are removed as a whole."""
    results: list[Held] = field(default_factory=list)
    """Removed, those with rows of the user before what was made from them."""
    cached_rows: Mapping[str, int] = field(default_factory=dict)
    """Finished rows of the LLM that no other result is made of, by cache."""
    adapters: list[str] = field(default_factory=list)
    history_entries: int = 0
    temporary_files: int = 0
    to_be_made_anew: Mapping[str, list[str]] = field(default_factory=dict)
    """Assets by variant whose result in force went."""
    made_anew: list[dict[str, str]] = field(default_factory=list)
    """Of these the ones that have a result again."""
    kept: list[str] = field(default_factory=list)
    """Assets whose stored results were made without the user's rows."""
    scan: Mapping[str, Any] = field(default_factory=dict)
    """What the last search looked at and found."""
    not_reached: list[str] = field(default_factory=lambda: list(NOT_REACHED))
    format: int = 1


def certificate_file(lake: Path, dataset: str, user: str) -> Path:
    """Where the certificate lies, a real file among the links to reports."""
    return lake / "reports" / dataset / f"forgotten_{user}.json"


def write_certificate(lake: Path, certificate: Certificate) -> None:
    """Write it, with a checksum."""
    write_sealed(certificate_file(lake, certificate.dataset, certificate.user), asdict(certificate))


def read_certificate(lake: Path, dataset: str, user: str) -> Certificate | None:
    """The certificate of a user, or None where there is none that can be read."""
    try:
        found = read_sealed(certificate_file(lake, dataset, user))
        raw_files = [RedactedFile(**file) for file in found.pop("raw_files")]
        results = [Held(**held) for held in found.pop("results")]
        return Certificate(**found, raw_files=raw_files, results=results)
    except (DataError, TypeError, KeyError):
        return None


def begun_with(before: Certificate | None, now: Certificate) -> Certificate:
    """`now`, and what an attempt that was cut short had found."""
    if before is None:
        return now
    again, held = {file.file for file in now.raw_files}, {one.address for one in now.results}
    first, then = before.to_be_made_anew, now.to_be_made_anew
    anew = {name: list(dict.fromkeys([*first.get(name, []), *then.get(name, [])])) for name in {**first, **then}}
    return replace(
        now,
        raw_files=[*(file for file in before.raw_files if file.file not in again), *now.raw_files],
        results=[*(one for one in before.results if one.address not in held), *now.results],
        edited=sorted({*before.edited, *now.edited}),
        cached_rows=_most(before.cached_rows, now.cached_rows),
        adapters=sorted({*before.adapters, *now.adapters}),
        history_entries=max(before.history_entries, now.history_entries),
        temporary_files=max(before.temporary_files, now.temporary_files),
        to_be_made_anew=anew,
    )


def _most(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    return {name: max(before.get(name, 0), now.get(name, 0)) for name in {**before, **now}}


def with_made_anew(lake: Path, certificate: Certificate) -> Certificate:
    """The certificate with what the variants have by now of that which was to be made anew."""
    made = []
    for ref in variant_refs(lake, certificate.dataset):
        for stage in certificate.to_be_made_anew.get(ref.variant, []):
            fingerprint = ref.results.get(stage)
            record = read_record(lake, certificate.dataset, stage, fingerprint) if fingerprint else None
            if record is not None:  # the one before was removed, perhaps from the same address
                found = {"variant": ref.variant, "asset": stage, "fingerprint": record.fingerprint}
                made.append(found | {"run_id": record.run_id, "created_at": record.created_at})
    return replace(certificate, made_anew=made)
