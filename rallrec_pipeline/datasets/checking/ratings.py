"""The ratings: which are refused, why, and how that can be mended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from rallrec_pipeline.datasets.checking.examples import EXAMPLE_ROWS, among, examples_of, raw_rows
from rallrec_pipeline.datasets.checking.findings import Findings, share_of, shown
from rallrec_pipeline.datasets.checking.ids import check_ids, likeness
from rallrec_pipeline.datasets.checking.sheets import (
    Sheet,
    open_sheet,
    tell_empty,
    tell_malformed,
    tell_merged,
    telling,
)
from rallrec_pipeline.datasets.checking.times import check_early_times, time_hint
from rallrec_pipeline.datasets.fields import ENTRY
from rallrec_pipeline.datasets.readers import good_ratings, typed_ratings
from rallrec_pipeline.datasets.rows import open_rows, rows_left_out
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.datasets.tables import (
    NOT_A_NUMBER,
    OFF_SCALE,
    REPEATED,
    Repeats,
    bad_ratings,
    judge_ratings,
    rating_rules,
)

WORDS = {NOT_A_NUMBER: "a rating that is no number", OFF_SCALE: "a rating off the scale"}
REPEATS: dict[Repeats, str] = {
    "last": "are repeated later by the same user: the latest of a user and item stays, "
    "of equal times the last in the file",
    "first": "repeat an earlier one of the same user: the first of a user and item stays, "
    "of equal times the first in the file",
}
IMPLICIT = "take `rating` out of interactions.columns and write [label] negatives = 1"
LISTS = r"[,;|\s]+"  # between the entries of a list in one field
NUMBERS = r"^-?\d+(\.\d+)?(\x1f-?\d+(\.\d+)?)*$"
MOST_VALUES = 12  # ratings of the file that are listed one by one


@dataclass(frozen=True)
class _Fault:
    """Ratings that break one rule: its reason, its column, their lines."""

    reason: str
    column: str
    lines: pl.Series

    @property
    def what(self) -> str:
        return WORDS.get(self.reason, f"an {self.reason}")


@dataclass(frozen=True)
class _Ratings:
    """All ratings of the file: as they are (`rows`), with types, and judged."""

    rows: pl.LazyFrame
    typed: pl.DataFrame
    judged: pl.DataFrame
    malformed: pl.DataFrame
    faults: list[_Fault]

    @property
    def total(self) -> int:
        return self.typed.height + self.malformed.height


def check_ratings(spec: DatasetSpec, place: Path, items: pl.DataFrame | None, found: Findings) -> pl.DataFrame | None:
    """The ratings that are taken; None where the file cannot tell them. `items` None: every item is known."""
    sheet = open_sheet(spec, place, spec.interactions, "interactions", found)
    if sheet is None:
        return None
    with telling(found, sheet.path), open_rows(sheet.path, sheet.table, sheet.columns) as (rows, malformed):
        read = _read(spec, sheet, items, rows, malformed)
        found.figures["rows"]["interactions"] = read.total
        if not read.total:
            tell_empty(sheet, found)
            return None
        if _tell_lists(sheet, read, items, found):
            return None
        refused = _refused(spec, sheet, read)
        grave = refused > spec.max_rejected * read.total
        tell_malformed(sheet, malformed, read.total, grave, found)
        _tell_faults(spec, sheet, read, grave, found)
        _tell_unknown(spec, sheet, read.typed, items, grave, found)
        check_early_times(sheet, read.typed, read.rows, found)
        tell_merged(sheet, rows, found)
        check_ids(sheet, read.typed, rows, ("user_id", "item_id"), found)
        _tell_left_out(sheet, found)
        misread = grave and _are_times_misread(sheet, read)
        if grave and not misread:
            _tell_refused(spec, sheet, refused, read.total, found)
        if sheet.missing:
            return None
        found.refused(sheet.kind, malformed["reason"])
        found.refused(sheet.kind, read.judged["reason"])
        _tell_repeats(spec, sheet, read.judged, found)
        return None if misread else good_ratings(read.judged)
    return None


def _read(
    spec: DatasetSpec, sheet: Sheet, items: pl.DataFrame | None, rows: pl.LazyFrame, malformed: pl.DataFrame
) -> _Ratings:
    whole = sheet.whole(rows, ("user_id", "item_id"))
    typed = typed_ratings(whole, sheet.table, sheet.columns)
    known = items["item_id"] if items is not None and spec.unknown_items == "reject" else None
    judged = judge_ratings(typed, spec.scale, known, "timestamp" in sheet.columns, spec.repeats)
    return _Ratings(whole, typed, judged, malformed, _faults(spec, sheet, typed))


def _faults(spec: DatasetSpec, sheet: Sheet, typed: pl.DataFrame) -> list[_Fault]:
    """Every rule that is broken, also by rows that another one refuses; for the columns that are there."""
    rules = [rule for rule in rating_rules(spec.scale) if rule.column in sheet.columns]
    lines = [typed.select(pl.col("line").filter(rule.broken))["line"] for rule in rules]
    found = [_Fault(rule.reason, rule.column, broken) for rule, broken in zip(rules, lines, strict=True)]
    return [fault for fault in found if fault.lines.len()]


def _refused(spec: DatasetSpec, sheet: Sheet, read: _Ratings) -> int:
    """Rows that are refused and speak against the file; where a column is missing, judged by the others."""
    if not sheet.missing:
        return read.malformed.height + bad_ratings(read.judged["reason"], spec.is_implicit)
    lines = [fault.lines for fault in read.faults]
    return read.malformed.height + (pl.concat(lines).n_unique() if lines else 0)


def _tell_faults(spec: DatasetSpec, sheet: Sheet, read: _Ratings, grave: bool, found: Findings) -> None:
    if not read.faults:
        return
    raw = raw_rows(
        read.rows, [fault.lines for fault in read.faults], dict.fromkeys(fault.column for fault in read.faults)
    )
    for fault in read.faults:
        texts = raw.filter(among(fault.lines))[fault.column]
        share = share_of(fault.lines.len(), read.typed.height, "ratings")
        examples = f", as {examples_of(texts)}" if not fault.column.endswith("id") else ""
        mend = _mend(fault, spec, sheet, read)
        found.fault(grave, f"{sheet.at(fault.lines[0])}: {share} have {fault.what}{examples}: {mend}")


def _mend(fault: _Fault, spec: DatasetSpec, sheet: Sheet, read: _Ratings) -> str:
    column = f"interactions.columns.{fault.column}"
    if fault.column == "timestamp":
        return time_hint(sheet.columns["timestamp"], read.rows) or f"correct {column} or mend the file"
    if fault.reason == OFF_SCALE:
        scale = _numbers(spec.scale)
        held = _values(read.typed["rating"])
        return f"the file holds {held}, label.scale allows {scale}: {_rating_hint(read.typed['rating'])}"
    if fault.reason == NOT_A_NUMBER:
        return f"correct {column}: write numbers as 4.5, or what words mean as values = {{ good = 5 }}"
    return f"correct {column} or mend the file"


def _are_times_misread(sheet: Sheet, read: _Ratings) -> bool:
    """Whether the format of times is to blame for most rows, so that neither they nor what is left say anything."""
    impossible = sum(fault.lines.len() for fault in read.faults if fault.column == "timestamp")
    return impossible > read.total / 2 and bool(time_hint(sheet.columns["timestamp"], read.rows))


def _rating_hint(ratings: pl.Series) -> str:
    """What becomes of ratings that are steps of no scale: continuous ones, or counts."""
    values = ratings.filter(ratings.is_finite()).unique()
    if values.len() <= MOST_VALUES:
        return "correct label.scale or mend the file"
    whole = bool((values == values.round()).all())
    what = "counts, as of plays or purchases" if whole else "continuous ratings"
    steps = "put them into a few steps" if whole else "round them to the steps of label.scale"
    return f"these are {what}: {steps} in the file, or for implicit feedback {IMPLICIT}"


def _tell_lists(sheet: Sheet, read: _Ratings, items: pl.DataFrame | None, found: Findings) -> bool:
    """Rows that hold a whole list of items, with as many ratings and times: one row must be one rating."""
    columns = [name for name in ("item_id", "rating", "timestamp") if name in sheet.columns]
    if "item_id" not in columns or not read.typed.height:
        return False
    sample = read.rows.select(columns).head(EXAMPLE_ROWS).collect()
    marked = sample.select(pl.col(columns).fill_null("").str.strip_chars(" []").str.replace_all(LISTS, ENTRY))
    entries = marked.select(pl.col(columns).str.split(ENTRY))
    numbers = [name for name in columns[1:] if marked[name].str.contains(NUMBERS).mean() == 1]
    lists = entries.filter(pl.col("item_id").list.len() > 1)
    for name in numbers:
        lists = lists.filter(pl.col(name).list.len() == pl.col("item_id").list.len())
    if lists.height <= sample.height / 2:
        return False
    if not numbers and not _are_items(lists["item_id"], sample["item_id"], items):
        return False
    texts = shown(", ".join(lists["item_id"][0]))
    found.problem(
        f"{sheet.at(read.typed['line'][0])}: a row holds a whole list, as the item_id {texts}: one row must be one "
        "rating, so write a row for each entry (explode the lists) and check again"
    )
    return True


def _are_items(lists: pl.Series, texts: pl.Series, items: pl.DataFrame | None) -> bool:
    """Whether the entries of `lists` are ids of the catalogue, and the whole `texts` are none; JSON says it itself."""
    if texts.str.contains(ENTRY, literal=True).any():
        return True
    if items is None:
        return False
    known = items["item_id"].cast(pl.String).implode()
    return not texts.is_in(known).any() and bool(lists.explode().is_in(known).mean() == 1)


def _tell_left_out(sheet: Sheet, found: Findings) -> None:
    """Rows that `where` leaves out are counted."""
    if sheet.table.where and (count := rows_left_out(sheet.path, sheet.table)):
        found.figures["refused"][f"{sheet.kind}: not chosen by where"] = count


def _values(ratings: pl.Series) -> str:
    values = ratings.filter(ratings.is_finite()).unique().sort()
    return _numbers(values.to_list()) if values.len() <= MOST_VALUES else f"{values[0]:g} to {values[-1]:g}"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _tell_refused(spec: DatasetSpec, sheet: Sheet, refused: int, total: int, found: Findings) -> None:
    share, bound = share_of(refused, total, "ratings"), f"{spec.max_rejected:.1%}"
    what = f"{share} are refused altogether, max_rejected (at the top of the TOML file) allows {bound}"
    found.problem(f"{sheet.file}: {what}: mend the file or raise it")


def _tell_unknown(
    spec: DatasetSpec, sheet: Sheet, typed: pl.DataFrame, items: pl.DataFrame | None, grave: bool, found: Findings
) -> None:
    if items is None or "item_id" in sheet.missing:
        return
    unknown = typed.filter((pl.col("item_id") != "") & ~pl.col("item_id").is_in(items["item_id"].implode()))
    if unknown.is_empty():
        return
    keep = spec.unknown_items == "keep"
    share = share_of(unknown.height, typed.height, "ratings")
    listed = f"{spec.items.file} does not list, as {examples_of(unknown['item_id'])}"
    wanted = any("title" in protocol.require for protocol in spec.protocols.values())
    mend = (
        f"they stay without a title{', and protocols that require one leave them out' if wanted else ''}"
        if keep
        else 'mend the ids, or set unknown_items = "keep" at the top of the TOML file'
    )
    has = f" (it lists {examples_of(items['item_id'])})" if items.height else ""
    if alike := likeness(unknown["item_id"], items["item_id"]):
        has += f"; {alike}"
    found.fault(grave and not keep, f"{sheet.at(unknown['line'][0])}: {share} are of items that {listed}{has}: {mend}")


def _tell_repeats(spec: DatasetSpec, sheet: Sheet, judged: pl.DataFrame, found: Findings) -> None:
    repeats = judged.filter(pl.col("reason") == REPEATED[spec.repeats])
    if repeats.height:
        share = share_of(repeats.height, judged.height, "ratings")
        found.warning(f"{sheet.at(repeats['line'][0])}: {share} {REPEATS[spec.repeats]}")
