"""Ids that are not what they seem: words for nothing, whole numbers with a fraction, other forms of known ones."""

from __future__ import annotations

import json
from collections.abc import Callable

import polars as pl

from rallrec_pipeline.datasets.checking.examples import examples_of
from rallrec_pipeline.datasets.checking.findings import Findings, share_of, shown
from rallrec_pipeline.datasets.checking.sheets import Sheet
from rallrec_pipeline.datasets.frames import WRITTEN

PLAIN_WORDS = (
    "null",
    "nan",
    "none",
    "nil",
    "na",
    "n/a",
    "#n/a",
    "\\n",
    "undefined",
    "(null)",
    "<na>",
    "nat",
    "NaN",
    "NaT",
    "-",
    "?",
)
NULL_WORDS = [
    *dict.fromkeys(form for word in PLAIN_WORDS for form in (word, word.upper(), word.capitalize(), word.title()))
]
SAMPLE = 2000  # ids that are compared
FORMS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "in another Unicode form (NFC and NFD)": lambda ids: ids.str.normalize("NFC"),
    "in upper and lower case": lambda ids: ids.str.normalize("NFKC").str.to_lowercase(),
    "by leading zeros": lambda ids: ids.str.strip_chars_start("0"),
    "by quotes or brackets around them": lambda ids: ids.str.strip_chars("'\"[]() "),
    "by a fraction (12.0 and 12)": lambda ids: ids.str.replace(r"\.0+$", ""),
}


def check_ids(sheet: Sheet, read: pl.DataFrame, rows: pl.LazyFrame, keys: tuple[str, ...], found: Findings) -> None:
    """Tell what ids of `keys` in `read` (line, ids) probably mean; nothing is refused for it."""
    for key in keys:
        if key in sheet.missing:
            continue
        words = read.filter(pl.col(key).is_in(pl.Series(NULL_WORDS).cast(read[key].dtype).implode()))
        if words.height:
            share = share_of(words.height, read.height, "rows")
            names = json.dumps(words[key].unique(maintain_order=True).head(3).to_list(), ensure_ascii=False)
            found.warning(
                f"{sheet.at(words['line'][0])}: {share} have the {key} {examples_of(words[key])}: "
                f"all are one {key.removesuffix('_id')}, or if that means nothing, set {sheet.kind}.empty = {names}"
            )
        if (written := WRITTEN + key) in rows.collect_schema().names():
            example = rows.select(written, key).head(1).collect().row(0)
            found.warning(f"{sheet.file}: {key} is written as {shown(example[0])}: it is read as {shown(example[1])}")


def likeness(unknown: pl.Series, known: pl.Series) -> str:
    """In what ids (n,) that are not `known` (m,) differ from those that are; empty where it is more than spelling."""
    ids = unknown.unique(maintain_order=True).head(SAMPLE).cast(pl.String).alias("id").to_frame()
    others = known.cast(pl.String).alias("other").to_frame()
    for what, form in FORMS.items():
        alike = ids.with_columns(form(pl.col("id")).alias("form")).join(
            others.with_columns(form(pl.col("other")).alias("form")), on="form", how="inner", maintain_order="left"
        )
        if alike["id"].n_unique() > ids.height / 2:
            one, other = alike.row(0, named=True)["id"], alike.row(0, named=True)["other"]
            return f"most differ from listed ids only {what}, as {_spelled(one)} from {_spelled(other)}"
    return ""


def _spelled(text: str) -> str:
    """An id with what cannot be told apart by looking written as its code points."""
    points = " ".join(f"U+{ord(mark):04X}" for mark in text if not mark.isascii())
    return f"{shown(text)} {points}".strip()
