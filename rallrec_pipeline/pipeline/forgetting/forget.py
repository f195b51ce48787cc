"""A user is forgotten: rows leave the raw files, and everything that was made with them leaves the lake.

First the tombstone is set, then the certificate says what is to go, then the work is done: whenever it is cut short,
the same command goes on, and a run in between takes the rows out of the raw files.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rallrec_pipeline.datasets.catalog import get_dataset
from rallrec_pipeline.datasets.readers import raw_folder
from rallrec_pipeline.datasets.redaction import RedactedFile, Redaction
from rallrec_pipeline.errors import ConfigError, DataError
from rallrec_pipeline.lake.leftovers import TEMPORARY_AGE, temporary_files
from rallrec_pipeline.lake.marks import Address, row_keys
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import SCORES, TRACES
from rallrec_pipeline.lake.provenance import now
from rallrec_pipeline.lake.prune import adapter_keys, whole_lake
from rallrec_pipeline.lake.store import (
    Record,
    all_records,
    read_record,
    recorded_datasets,
    result_folder,
    stored_refs,
    variant_refs,
    withdraw_links,
)
from rallrec_pipeline.lake.tombstones import Tombstones, add_tombstone, read_tombstones
from rallrec_pipeline.pipeline.forgetting.certificate import (
    BEGUN,
    DONE,
    Certificate,
    begun_with,
    read_certificate,
    with_made_anew,
    write_certificate,
)
from rallrec_pipeline.pipeline.forgetting.holding import results_of_user
from rallrec_pipeline.sources.collect import EDITED
from rallrec_pipeline.text import clean_text

ASKED = (SCORES, TRACES)
"""Rows made of prompts about users; texts and vectors are made of items alone."""


@dataclass(frozen=True)
class _Work:
    """One forgetting: of which dataset, and by which tombstone alone."""

    lake: Path
    redaction: Redaction
    user: str

    @property
    def dataset(self) -> str:
        return self.redaction.spec.name

    @property
    def stones(self) -> Tombstones:
        return self.redaction.stones


def forget_user(
    lake: Path, dataset: str, user_id: str, log: Callable[[str], None], plan_only: bool = False
) -> Certificate:
    """Forget a user, or with `plan_only` tell what would be done; the certificate says it.

    Waits for every run that is under way, and keeps new ones waiting. Raises ConfigError for an unknown dataset or
    user, DataError when raw files cannot be read or written again: nothing has been changed then.
    """
    get_dataset(dataset, lake)  # an unknown one is told before anything waits
    with nullcontext() if plan_only else whole_lake(lake, log, dataset):
        everyone = read_tombstones(lake, dataset)
        user = everyone.hash_of(user_id)
        work = _Work(lake, redaction_for(lake, dataset, user_id, everyone), user)
        before, found = read_certificate(lake, dataset, user), _planned(work)
        is_there = found.raw_files or any(held.has_rows for held in found.results)
        if user not in everyone.users and not is_there:
            raise ConfigError(f"{dataset!r} has no user {clean_text(user_id)!r}: nothing was changed")
        if before is not None and before.state == DONE and not (found.raw_files or found.results or found.edited):
            return with_made_anew(lake, before)
        planned = begun_with(before if before is not None and before.state == BEGUN else None, found)
        return planned if plan_only else _carried_out(work, everyone, planned)


def redaction_for(lake: Path, dataset: str, user_id: str, everyone: Tombstones | None = None) -> Redaction:
    """The rule for the raw files of a dataset that knows one user alone."""
    stones = everyone or read_tombstones(lake, dataset)
    return Redaction(get_dataset(dataset, lake), raw_folder(lake, dataset), stones.only(stones.hash_of(user_id)))


def certificate_of(lake: Path, dataset: str, user_id: str) -> Certificate | None:
    """What is known of a user that was forgotten, with what has been made anew since."""
    get_dataset(dataset, lake)
    found = read_certificate(lake, dataset, read_tombstones(lake, dataset).hash_of(user_id))
    return None if found is None else with_made_anew(lake, found)


def _planned(work: _Work) -> Certificate:
    """What holds the user now."""
    lake, spec, redaction = work.lake, work.redaction.spec, work.redaction
    counts = {file: redaction.count(file) for file in spec.files}
    raw = [RedactedFile(file.name, rows, "", "", file.sha256) for file, rows in counts.items() if rows]
    held = results_of_user(lake, work.dataset, work.stones)
    gone = {one.address for one in held}
    kept = _kept(lake, gone)
    names = {one.stage for one in held if one.dataset == work.dataset}
    anew = {
        ref.variant: [stage for stage, fingerprint in ref.results.items() if (work.dataset, stage, fingerprint) in gone]
        for ref in variant_refs(lake, work.dataset)
    }
    return Certificate(
        dataset=work.dataset,
        user=work.user,
        state=BEGUN,
        at=now(),
        raw_files=raw,
        edited=[path.relative_to(redaction.folder).as_posix() for path in _edited(work)],
        results=held,
        cached_rows=_prune_rows(lake, kept, dry_run=True) if held else {},
        adapters=[path.parent.name for path in _adapters(work, kept)] if held else [],
        history_entries=len(_history(work, gone)),
        temporary_files=len(_temporary(lake)),
        to_be_made_anew={variant: stages for variant, stages in anew.items() if stages},
        kept=sorted({record.stage for record in kept if record.dataset == work.dataset} - names),
    )


def _carried_out(work: _Work, everyone: Tombstones, planned: Certificate) -> Certificate:
    """Do what is planned; what is done already is done again without effect."""
    lake = work.lake
    _require_writable(work, planned)
    stones = add_tombstone(lake, work.dataset, everyone, work.user)  # its key comes first: the hash needs it
    write_certificate(lake, planned)
    try:
        raw = _redacted(Redaction(work.redaction.spec, work.redaction.folder, stones), planned)
        for path in _edited(work):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        gone = {held.address for held in planned.results}
        for address in gone:
            _remove_result(lake, address)
        for path in _history(work, gone):
            path.unlink()
        if gone:
            kept = _kept(lake, gone)
            _prune_rows(lake, kept)
            for path in _adapters(work, kept):
                shutil.rmtree(path)
        for path in _temporary(lake):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    except OSError as error:
        again = "mend that and run the command again, it goes on"
        raise DataError(f"cannot remove {error.filename or lake} ({error.strerror}): {again}") from error
    done = replace(planned, raw_files=raw, state=DONE)
    write_certificate(lake, done)
    return with_made_anew(lake, done)


def _require_writable(work: _Work, planned: Certificate) -> None:
    """Raises DataError where rows would have to leave a workbook, before anything is changed."""
    formats = {
        table.file: table.format for table in (work.redaction.spec.interactions, work.redaction.spec.users) if table
    }
    for file in planned.raw_files:
        if formats.get(file.file) == "excel":
            raise DataError(
                f"{work.redaction.folder / file.file} is a workbook, which is only read here: save its sheet as CSV, "
                "name that in the TOML file, run it, and forget the user then"
            )


def _redacted(redaction: Redaction, planned: Certificate) -> list[RedactedFile]:
    """The raw files without the rows; the count is that of the first attempt."""
    counts = {file.file: file.rows for file in planned.raw_files}
    found = []
    for file in redaction.spec.files:
        if (redaction.folder / file.name).exists():
            done = redaction.redact(file, redaction.folder / file.name)
            if file.name in counts:
                found.append(replace(done, rows=counts[file.name]))
    return found


def _edited(work: _Work) -> list[Path]:
    """Copies of edited files that a fetch has kept; of what is in them no reader knows."""
    names = {file.name for file in work.redaction.spec.files}
    folder = work.redaction.folder
    return [path for path in sorted(folder.rglob(f"*{EDITED}")) if path.relative_to(folder).as_posix() not in names]


def _remove_result(lake: Path, address: Address) -> None:
    """The links first, then the files, and whatever an earlier attempt has left of them."""
    record = read_record(lake, *address)
    if record is not None:
        withdraw_links(lake, record)
    folder = result_folder(lake, *address)
    if folder.exists():
        shutil.rmtree(folder)


def _history(work: _Work, gone: Collection[Address]) -> list[Path]:
    """Entries of the history that name a removed result."""
    return [
        path
        for path, ref in stored_refs(work.lake, work.dataset)
        if any((work.dataset, stage, fingerprint) in gone for stage, fingerprint in ref.results.items())
    ]


def _kept(lake: Path, gone: Collection[Address]) -> list[Record]:
    """The records of all other results in the lake."""
    return [
        record
        for dataset in recorded_datasets(lake)
        for folder in sorted((lake / "results" / dataset).glob("*"))
        for record in all_records(lake, dataset, folder.name)
        if (record.dataset, record.stage, record.fingerprint) not in gone
    ]


def _prune_rows(lake: Path, kept: Collection[Record], dry_run: bool = False) -> dict[str, int]:
    """Remove answers that no result which stays is made of, also those of runs that were cut short; how many."""
    used = row_keys(lake, kept).to_list()
    return {kind.name: Memo(lake, kind).keep_only(used, dry_run) for kind in ASKED}


def _adapters(work: _Work, kept: Collection[Record]) -> list[Path]:
    """Adapters of the dataset, finished or not, that no result which stays has."""
    tuned = [record for record in kept if (record.dataset, record.stage) == (work.dataset, "lora_adapter")]
    used = {key for record in tuned for key in adapter_keys(record)}
    folders = sorted((work.lake / "cache" / "adapters" / work.dataset).glob("*/*"))
    return [path for path in folders if path.name not in used]


def _temporary(lake: Path) -> list[Path]:
    """What killed runs left behind, however young: all locks are held."""
    return list(temporary_files(lake, datetime.now(UTC) + TEMPORARY_AGE + timedelta(days=1)))
