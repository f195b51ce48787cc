"""Whether a dataset's TOML file fits its real files: all that is wrong at once, and what the stages would make of it.

The readers stop at the first fault; here each one is told, with its share, the first bad line and examples.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from rallrec_pipeline.datasets.catalog import parse_dataset, with_protocol
from rallrec_pipeline.datasets.check_files import (
    Findings,
    Sheet,
    among,
    examples_of,
    is_listed,
    linked_files,
    open_sheet,
    raw_rows,
    share_of,
    shown,
    telling,
)
from rallrec_pipeline.datasets.fields import id_field, text_field, time_field
from rallrec_pipeline.datasets.histories import LIKED_BOUNDS, in_protocol_order, make_samples
from rallrec_pipeline.datasets.kcore import core_of
from rallrec_pipeline.datasets.readers import good_ratings, open_rows, typed_ratings
from rallrec_pipeline.datasets.spec import ColumnSpec, DatasetSpec, ProtocolSpec, TableFile
from rallrec_pipeline.datasets.tables import LATEST_S, REPEATED, judge_ids, judge_ratings

SPLITS = ("train", "valid", "test")
FEW_TESTS = 100
MOSTLY_LOST = 0.5  # share of a field's values that its rules turn into nothing
GIVEN = "\x1f"  # before the name of a field: whether the file says anything there
EARLIEST_S = 315_532_800  # 1980: no ratings are older, so smaller numbers are in another unit
DATE_FORMATS = (
    "%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S%z",
    "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.fZ", "%Y-%m-%d %H:%M", "%Y/%m/%d",
    "%Y/%m/%d %H:%M:%S", "%m/%d/%Y", "%d/%m/%Y", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S", "%d.%m.%Y",
    "%d.%m.%Y %H:%M:%S", "%m %d, %Y", "%b %d, %Y", "%B %d, %Y", "%d %b %Y", "%d %B %Y",
)  # fmt: skip
ALLOWED_OPTIONS = {"rating": set[str](), "timestamp": {"unit", "time_format"}}


@dataclass(frozen=True)
class CheckReport:
    """What is wrong (`problems`), what to know (`warnings`), and what the dataset holds. Each message is one line."""

    problems: list[str]
    warnings: list[str]
    figures: dict[str, Any]


@dataclass(frozen=True)
class _Fault:
    """Ratings that are refused: what they have, in which column, in which lines."""

    what: str
    column: str
    lines: pl.Series


def check_dataset(path: Path, lake: Path, seed: int = 0) -> CheckReport:
    """Compare the dataset of one TOML file with its real files; nothing is fetched, copied or left behind.

    `seed` draws what the stages draw: splits of users, sampled negatives.
    """
    found = Findings()
    spec = parse_dataset(path)
    if isinstance(spec, DatasetSpec):
        found.figures.update(rows={}, refused={}, protocols={})
        _check_place(spec, path, lake, found)
        with linked_files(spec, path, lake, found) as place:
            _check_settings(spec, found)
            _check_tables(spec, place, seed, found)
    else:
        for problem in spec:
            found.problem(f"{path.name}: {problem}")
    return CheckReport(found.problems, found.warnings, found.figures)


def _check_tables(spec: DatasetSpec, place: Path, seed: int, found: Findings) -> None:
    items = _check_catalogue(spec, place, spec.items, "items", found)
    users = _check_catalogue(spec, place, spec.users, "users", found) if spec.users else None
    ratings = _check_ratings(spec, place, items, found)
    if ratings is None:
        return
    found.figures.update(users=ratings["user_id"].n_unique(), items=ratings["item_id"].n_unique())
    if spec.users and users is not None:
        without = ratings.select("user_id").unique().join(users, on="user_id", how="anti").height
        if without:
            share = share_of(without, found.figures["users"], "users")
            found.warning(f"{spec.users.file}: {share} with ratings have no row: prompts tell nothing about them")
    if ratings.is_empty():
        found.problem(f"{spec.interactions.file}: no rating is left to check the protocols with")
        return
    for name in spec.protocols:
        _check_protocol(with_protocol(spec, name), name, ratings, items, seed, found)


# --- settings ----------------------------------------------------------------------------------------------------


def _check_place(spec: DatasetSpec, path: Path, lake: Path, found: Findings) -> None:
    """A relative place starts at the TOML file, which has yet to be moved into the catalogue."""
    written = tomllib.loads(path.read_text(encoding="utf-8")).get("source", {}).get("location", "")
    is_relative = written and not Path(written).expanduser().is_absolute()
    if is_relative and spec.source.kind in ("folder", "zip") and not is_listed(path, lake):
        found.warning(f"source.location {shown(written)} starts at the file's own folder: write {spec.source.location}")


def _check_settings(spec: DatasetSpec, found: Findings) -> None:
    """Rules of columns that nothing reads: ids and ratings are taken as they are."""
    tables = {"interactions": spec.interactions, "items": spec.items, "users": spec.users}
    for kind, table in tables.items():
        for name, column in (table.columns if table else {}).items():
            is_plain = kind == "interactions" or name in ("item_id", "user_id")
            set_ = column.model_fields_set - {"column"}
            idle = set_ - ALLOWED_OPTIONS.get(name, set()) if is_plain else set_ & {"unit", "time_format"}
            if idle:
                rules = ", ".join(sorted(idle))
                found.warning(f"{kind}.columns.{name}: {rules} has no effect there, so the file must say it plainly")


# --- items and users ---------------------------------------------------------------------------------------------


def _check_catalogue(
    spec: DatasetSpec, place: Path, table: TableFile, kind: str, found: Findings
) -> pl.DataFrame | None:
    """The rows of items or users that are kept; None where nothing tells their ids."""
    sheet = open_sheet(spec, place, table, kind, found)
    if sheet is None:
        return None
    key, *names = ("item_id", "title", *spec.item_fields) if kind == "items" else ("user_id", *spec.user_fields)
    fields = [name for name in names if name in sheet.columns]
    with telling(found, sheet.path), open_rows(sheet.path, table, sheet.columns) as (rows, malformed):
        values = [text_field(name, sheet.columns[name], table.empty) for name in fields]
        given = [_is_given(name).alias(GIVEN + name) for name in fields]
        read = sheet.whole(rows, [key]).select("line", id_field(key), *values, *given).collect().sort("line")
        found.figures["rows"][kind] = total = read.height + malformed.height
        if not total:
            found.problem(f"{sheet.file} has no rows: correct {kind}.file or fill it")
            return None
        _check_malformed(sheet, malformed, total, malformed.height > spec.max_rejected * total, found)
        found.refused(sheet.file, malformed["reason"])
        kept = read if key in sheet.missing else _check_ids(sheet, read, key, fields, spec.max_rejected, found)
        for name in fields if kept.height else []:
            _check_field(sheet, kept, name, rows, found)
        return None if key in sheet.missing else kept.select(key, *fields)
    return None


def _check_ids(
    sheet: Sheet, read: pl.DataFrame, key: str, fields: Sequence[str], bound: float, found: Findings
) -> pl.DataFrame:
    """The rows that stay: with an id, the first of each."""
    judged = judge_ids(read, key)
    found.refused(sheet.file, judged["reason"])
    empty = judged.filter(pl.col(key) == "")
    if empty.height:
        share = share_of(empty.height, judged.height, "rows")
        grave = empty.height > bound * judged.height
        found.fault(grave, f"{sheet.at(empty['line'][0])}: {share} have an empty {key}: they are left out, mend them")
    repeated = judged.filter((pl.col(key) != "") & pl.col("reason").is_not_null())
    if repeated.height:
        _tell_repeated(sheet, judged, repeated, key, fields, found)
    return judged.filter(pl.col("reason").is_null())


def _tell_repeated(
    sheet: Sheet, judged: pl.DataFrame, repeated: pl.DataFrame, key: str, fields: Sequence[str], found: Findings
) -> None:
    """Rows that say the same twice harm nothing; of rows that differ somebody must choose."""
    versions = judged.filter(pl.col(key) != "").unique([key, *fields]).group_by(key).len().filter(pl.col("len") > 1)
    unclear = repeated.join(versions, on=key, how="semi", maintain_order="left")
    alike = repeated.height - unclear.height
    if unclear.height:
        ids = examples_of(unclear[key])
        count = f"{versions.height:,} of {judged[key].n_unique():,} ids come more than once and tell different things"
        found.problem(f"{sheet.at(unclear['line'][0])}: {count}, as {ids}: the first row would stay, mend the file")
    if alike:
        share = share_of(alike, judged.height, "rows")
        found.warning(f"{sheet.at(repeated['line'][0])}: {share} say an earlier row's {key} again: they are left out")


def _check_field(sheet: Sheet, kept: pl.DataFrame, name: str, rows: pl.LazyFrame, found: Findings) -> None:
    """A field that is empty: everywhere, where the file does say something, or (a title) at all."""
    place = f"{sheet.kind}.columns.{name}"
    filled, given = int((kept[name] != "").sum()), int(kept[GIVEN + name].sum())
    lost = kept.filter((pl.col(name) == "") & pl.col(GIVEN + name))
    if not given:
        found.problem(f"{sheet.file}: {name} is empty in all rows: correct {place}, or take it out")
        return
    if lost.height > MOSTLY_LOST * given:
        texts = rows.filter(among(lost["line"])).sort("line").select(name).collect()[name]
        rules = ", ".join(sorted(sheet.columns[name].model_fields_set - {"column"})) or "empty"
        share = share_of(lost.height, given, "values")
        what = f"{place} makes nothing of {share}, as {examples_of(texts)}"
        found.fault(not filled, f"{sheet.file}: {what}: correct {rules}")
    if name == "title" and filled < kept.height and filled:
        first = kept.filter(pl.col(name) == "")["line"][0]
        share = share_of(kept.height - filled, kept.height, f"{sheet.kind}")
        found.warning(f"{sheet.at(first)}: {share} have an empty title: prompts have only their other fields")


def _check_malformed(sheet: Sheet, malformed: pl.DataFrame, total: int, grave: bool, found: Findings) -> None:
    if malformed.is_empty():
        return
    first = malformed.sort("line").row(0, named=True)
    text = sheet.table.format == "json_lines"
    mend = "write one object per line" if text else "correct separator, quote, escape or header, or mend the file"
    share = share_of(malformed.height, total, "rows")
    found.fault(
        grave,
        f"{sheet.at(first['line'])}: {share} cannot be split ({first['reason']}: {shown(first['text'])}): {mend}",
    )


def _is_given(name: str) -> pl.Expr:
    return pl.col(name).fill_null("").str.strip_chars() != ""


# --- ratings -----------------------------------------------------------------------------------------------------


def _check_ratings(spec: DatasetSpec, place: Path, items: pl.DataFrame | None, found: Findings) -> pl.DataFrame | None:
    """The ratings that are taken; None where the file cannot tell them."""
    sheet = open_sheet(spec, place, spec.interactions, "interactions", found)
    if sheet is None:
        return None
    known = None if items is None else items["item_id"]
    with telling(found, sheet.path), open_rows(sheet.path, sheet.table, sheet.columns) as (rows, malformed):
        whole = sheet.whole(rows, ("user_id", "item_id"))
        typed = typed_ratings(whole, sheet.table, sheet.columns)
        found.figures["rows"]["interactions"] = total = typed.height + malformed.height
        if not total:
            found.problem(f"{sheet.file} has no rows: correct interactions.file or fill it")
            return None
        faults = _rating_faults(spec, sheet, typed)
        taken = known if spec.unknown_items == "reject" else None
        judged = judge_ratings(typed, spec.scale, taken, "timestamp" in sheet.columns)
        # Where a column is missing, the rows are judged by the others.
        lines = [fault.lines for fault in faults] if sheet.missing else [judged.drop_nulls("reason")["line"]]
        refused = malformed.height + (pl.concat(lines).n_unique() if lines else 0)
        grave = refused > spec.max_rejected * total
        _check_malformed(sheet, malformed, total, grave, found)
        _tell_faults(spec, sheet, faults, typed, whole, grave, found)
        _check_unknown(spec, sheet, typed, items, grave, found)
        _check_early_times(sheet, typed, whole, found)
        if grave:
            bound = f"{spec.max_rejected:.1%}"
            share = share_of(refused, total, "ratings")
            what = f"{share} are refused altogether, max_rejected (at the top of the TOML file) allows {bound}"
            found.problem(f"{sheet.file}: {what}: mend the file or raise it")
        if sheet.missing:
            return None
        found.refused(sheet.file, pl.concat([malformed["reason"], judged["reason"]]))
        _tell_repeats(sheet, judged, found)
        return good_ratings(judged)
    return None


def _rating_faults(spec: DatasetSpec, sheet: Sheet, typed: pl.DataFrame) -> list[_Fault]:
    """What may be wrong with the columns that are there; an unknown item is told on its own."""
    number = pl.col("rating").is_finite().fill_null(False)
    scale = pl.Series([float(value) for value in spec.scale]).implode()
    rules = [
        ("an empty user id", "user_id", pl.col("user_id") == ""),
        ("an empty item id", "item_id", pl.col("item_id") == ""),
        ("a rating that is no number", "rating", ~number),
        ("a rating off the scale", "rating", number & ~pl.col("rating").is_in(scale)),
        ("an impossible timestamp", "timestamp", ~pl.col("timestamp").is_between(0, LATEST_S).fill_null(False)),
    ]
    found = [_Fault(what, name, typed.filter(bad)["line"]) for what, name, bad in rules if name in sheet.columns]
    return [fault for fault in found if fault.lines.len()]


def _tell_faults(
    spec: DatasetSpec,
    sheet: Sheet,
    faults: Sequence[_Fault],
    typed: pl.DataFrame,
    rows: pl.LazyFrame,
    grave: bool,
    found: Findings,
) -> None:
    if not faults:
        return
    raw = raw_rows(rows, [fault.lines for fault in faults], dict.fromkeys(fault.column for fault in faults))
    for fault in faults:
        texts = raw.filter(among(fault.lines))[fault.column]
        share = share_of(fault.lines.len(), typed.height, "ratings")
        examples = f", as {examples_of(texts)}" if not fault.column.endswith("id") else ""
        mend = _mend(fault, spec, sheet, typed, texts)
        found.fault(grave, f"{sheet.at(fault.lines[0])}: {share} have {fault.what}{examples}: {mend}")


def _mend(fault: _Fault, spec: DatasetSpec, sheet: Sheet, typed: pl.DataFrame, texts: pl.Series) -> str:
    column = f"interactions.columns.{fault.column}"
    if fault.column == "timestamp":
        return _time_hint(sheet.columns["timestamp"], texts) or f"correct {column} or mend the file"
    if "scale" in fault.what:
        values = typed["rating"].filter(typed["rating"].is_finite()).unique().sort()
        held = ", ".join(f"{value:g}" for value in values) if values.len() <= 12 else f"{values[0]:g} to {values[-1]:g}"
        scale = ", ".join(f"{value:g}" for value in spec.scale)
        return f"the file holds {held}, label.scale allows {scale}: correct label.scale or mend the file"
    return f"correct {column} or mend the file"


def _time_hint(column: ColumnSpec, texts: pl.Series) -> str:
    """How times that are none may have to be read; empty where nothing fits most of them."""
    guesses = [ColumnSpec(column="x", unit="ms"), ColumnSpec(column="x", unit="us"), ColumnSpec(column="x")]
    guesses += [ColumnSpec(column="x", time_format=known) for known in DATE_FORMATS]
    counts = [_plausible(texts, guess) for guess in guesses]
    best = counts.index(max(counts))
    guess = guesses[best]
    if counts[best] <= texts.len() / 2:
        return ""
    if guess.time_format:
        return f"these look like dates, set time_format = {json.dumps(guess.time_format)}"
    long = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}[guess.unit]
    without = " and take time_format out" if column.time_format else ""
    return f'these look like {long}, set unit = "{guess.unit}"{without}'


def _plausible(texts: pl.Series, column: ColumnSpec) -> int:
    """How many of `texts` are a time of the last decades when read as `column` says."""
    frame = texts.alias("x").to_frame()
    times = frame.select(time_field("x", column, ()))["x"]
    return int(times.is_between(EARLIEST_S, LATEST_S).sum())


def _check_early_times(sheet: Sheet, typed: pl.DataFrame, rows: pl.LazyFrame, found: Findings) -> None:
    """Times that are possible but in the wrong unit: `20240131` and seconds taken for milliseconds lie in 1970."""
    times = typed["timestamp"]
    latest = times.filter(times.is_between(0, LATEST_S)).max()
    if "timestamp" not in sheet.columns or not isinstance(latest, float) or latest >= EARLIEST_S:
        return
    texts = raw_rows(rows, [typed["line"]], ["timestamp"])["timestamp"]
    is_date = _plausible(texts, ColumnSpec(column="x", time_format="%Y%m%d")) > texts.len() / 2
    hint = 'these look like dates, set time_format = "%Y%m%d"' if is_date else ""
    if hint or sheet.columns["timestamp"].unit != "s":
        hint = hint or _time_hint(sheet.columns["timestamp"], texts)
    if hint:
        found.warning(f"{sheet.file}: all times lie before 1980, as {examples_of(texts)}: {hint}")


def _check_unknown(
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
    mend = (
        "they stay without a title"
        if keep
        else 'mend the ids, or set unknown_items = "keep" at the top of the TOML file'
    )
    has = f" (it lists {examples_of(items['item_id'])})" if items.height else ""
    found.fault(grave and not keep, f"{sheet.at(unknown['line'][0])}: {share} are of items that {listed}{has}: {mend}")


def _tell_repeats(sheet: Sheet, judged: pl.DataFrame, found: Findings) -> None:
    repeats = judged.filter(pl.col("reason") == REPEATED)
    if repeats.height:
        share = share_of(repeats.height, judged.height, "ratings")
        policy = "the latest of a user and item stays, of equal times the last in the file"
        found.warning(f"{sheet.at(repeats['line'][0])}: {share} are repeated later by the same user: {policy}")


# --- protocols ---------------------------------------------------------------------------------------------------


def _check_protocol(
    spec: DatasetSpec, name: str, ratings: pl.DataFrame, items: pl.DataFrame | None, seed: int, found: Findings
) -> None:
    protocol = spec.protocol
    catalogue = pl.DataFrame(schema={"item_id": pl.String}) if items is None else items
    if not set(protocol.require) <= set(catalogue.columns):
        return  # that a required field is missing has been told
    core = core_of(ratings, catalogue, protocol)
    figures: dict[str, Any] = {
        "interactions": core.height,
        "users": core["user_id"].n_unique(),
        "items": core["item_id"].n_unique(),
    }
    found.figures["protocols"][name] = figures
    if core.is_empty():
        found.problem(f"protocol {name}: nothing is left after the core: {_core_hint(ratings, protocol)}")
        return
    samples = make_samples(in_protocol_order(core, protocol, seed), protocol, spec.label, seed)
    sizes = {split: samples.filter(pl.col("split") == split).height for split in SPLITS}
    liked = float(samples["label"].cast(pl.Float64).mean() or 0.0)  # type: ignore[arg-type]
    figures.update(samples=samples.height, **sizes, liked=round(liked, 4))
    if samples.is_empty():
        found.problem(
            f"protocol {name}: no samples, no user has more than {_most(core, 'user_id')} ratings in the core: "
            f"lower min_history, now {protocol.min_history}"
        )
    elif samples["label"].n_unique() == 1:
        above = f"the rule likes {'every' if liked else 'no'} sample"
        found.problem(f"protocol {name}: {above}: change like_above, now {spec.label.like_above:g}")
    else:
        _check_splits(spec, name, samples, found)


def _core_hint(ratings: pl.DataFrame, protocol: ProtocolSpec) -> str:
    """What the ratings have and what is asked of them."""
    asked = f"user_core = {protocol.user_core}, item_core = {protocol.item_core}"
    rules = ("user_cap", "item_cap", "item_limit", "require", "drop_ratings")
    others = "".join(f" or change {rule}" for rule in rules if getattr(protocol, rule))
    users, items = _most(ratings, "user_id"), _most(ratings, "item_id")
    return (
        f"of {ratings.height:,} ratings no user has more than {users} and no item more than {items}: "
        f"lower {asked}{others}"
    )


def _most(ratings: pl.DataFrame, key: str) -> int:
    """Ratings of the user or item that has the most."""
    return int(ratings[key].value_counts()["count"].to_numpy().max())


def _check_splits(spec: DatasetSpec, name: str, samples: pl.DataFrame, found: Findings) -> None:
    low, high = LIKED_BOUNDS  # the pipeline's own check of the samples lets nothing else pass
    mend = f"lower the core or min_history, or change like_above, now {spec.label.like_above:g}"
    for split in SPLITS:
        labels = samples.filter(pl.col("split") == split)["label"]
        if split == "test" and spec.protocol.first_test_samples:
            labels = labels.head(spec.protocol.first_test_samples)
        place = f"protocol {name}: the {split} split"
        liked = float(labels.cast(pl.Float64).mean() or 0.0)  # type: ignore[arg-type]
        if labels.is_empty():
            found.problem(f"{place} has no samples of {samples.height:,}: lower the core or correct fractions")
        elif labels.n_unique() == 1:
            found.problem(f"{place} has {labels.len():,} samples, {'all' if liked else 'none'} of them liked: {mend}")
        elif not low <= liked <= high:
            found.problem(f"{place} has {liked:.1%} likes, not between {low:.0%} and {high:.0%}: {mend}")
        if split == "test" and 0 < labels.len() < FEW_TESTS:
            found.warning(f"{place} has only {labels.len()} samples: figures will be coarse")
