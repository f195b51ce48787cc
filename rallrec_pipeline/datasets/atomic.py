"""RecBole's atomic files: tab-separated text with a header of `name:type`."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from rallrec_pipeline.datasets.catalog import DatasetSpec, ReaderSpec
from rallrec_pipeline.datasets.tables import RawTables, judge_ids, judge_ratings, rejected_rows
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.text import clean_text

ARTICLES = frozenset(("The", "A", "An", "Les", "La", "Le", "L'", "Il", "Das", "Der", "Die", "Det", "El"))
INTERACTION_COLUMNS = ("user_id", "item_id", "rating", "timestamp")


def read_atomic(spec: DatasetSpec, folder: Path) -> RawTables:
    """All tables of a dataset in atomic format. Raises DataError when a file is no such table."""
    reader = spec.reader
    items, bad_items = _catalogue(folder / reader.items, "item_id", ("title", *spec.item_fields), reader)
    users, bad_users = _users(spec, folder)
    ratings, bad_ratings = _interactions(spec, folder / reader.interactions, items["item_id"])
    return RawTables(ratings, items, users, pl.concat([bad_ratings, bad_items, bad_users]))


def move_article(title: str) -> str:
    """`Postman, The` as `The Postman`; a title in brackets alike: `Big Blue, The (Grand bleu, Le)`."""
    return "".join(_with_article_first(part) for part in re.split(r"([()])", title))


def _with_article_first(part: str) -> str:
    text = part.strip()
    name, _, article = text.rpartition(", ")
    if not name or article not in ARTICLES:
        return part
    return part.replace(text, f"{article}{name}" if article.endswith("'") else f"{article} {name}")


def _interactions(spec: DatasetSpec, path: Path, item_ids: pl.Series) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows, malformed = _read_lines(path, INTERACTION_COLUMNS, spec.reader)
    numbers = rows.with_columns(
        pl.col("rating").cast(pl.Float64, strict=False), pl.col("timestamp").cast(pl.Float64, strict=False)
    )
    judged = judge_ratings(numbers, spec.label, item_ids)
    good = judged.filter(pl.col("reason").is_null()).select(
        "user_id", "item_id", pl.col("rating").cast(pl.Float32), pl.col("timestamp").cast(pl.Int64)
    )
    refused = pl.concat([malformed, _refused(judged)])
    return good, rejected_rows(refused.sort("line"), path.name)


def _users(spec: DatasetSpec, folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    if spec.reader.users is None:
        empty = pl.DataFrame(schema={"line": pl.Int64, "reason": pl.String, "text": pl.String})
        return pl.DataFrame(schema={"user_id": pl.String}), rejected_rows(empty, "")
    return _catalogue(folder / spec.reader.users, "user_id", spec.user_fields, spec.reader)


def _catalogue(path: Path, key: str, fields: tuple[str, ...], reader: ReaderSpec) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows with `key` and `fields`, all text, and the refused rows."""
    rows, malformed = _read_lines(path, (key, *fields), reader)
    judged = judge_ids(rows, key)
    good = judged.filter(pl.col("reason").is_null()).select(pl.col(key), *(_field(name, reader) for name in fields))
    return good, rejected_rows(pl.concat([malformed, _refused(judged)]).sort("line"), path.name)


def _field(name: str, reader: ReaderSpec) -> pl.Expr:
    value = pl.col(name)
    if name in reader.list_fields:
        value = value.str.replace_all(r"\s+", ", ")
    if name in reader.numeric_fields:
        value = pl.when(value.str.contains(r"^-?\d+(\.\d+)?$")).then(value).otherwise(pl.lit(""))
    if name == "title" and reader.move_articles:
        value = value.map_elements(move_article, return_dtype=pl.String)
    return value.alias(name)


def _refused(judged: pl.DataFrame) -> pl.DataFrame:
    return judged.filter(pl.col("reason").is_not_null()).select("line", "reason", "text")


def _read_lines(path: Path, wanted: tuple[str, ...], reader: ReaderSpec) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows with line, text and the `wanted` columns as text; rows with the wrong number of fields).

    Raises DataError when the file is empty or its header lacks a column.
    """
    header, lines = _lines(path)
    names = [name.split(":")[0].strip() for name in header.split("\t")]
    sources = {name: reader.columns.get(name, name) for name in wanted}
    unclear = [source for source in sources.values() if names.count(source) != 1]
    if unclear:
        found = clean_text(", ".join(names))
        raise DataError(
            f"{path}: the header must have {', '.join(unclear)} once; it has {found}: mend the file or `reader.columns`"
        )
    fields = lines.with_columns(pl.col("text").str.split("\t").alias("fields"))
    whole = pl.col("fields").list.len() == len(names)
    good = fields.filter(whole).select(
        "line",
        "text",
        *(pl.col("fields").list.get(names.index(s)).str.strip_chars().alias(n) for n, s in sources.items()),
    )
    problem = pl.format("{} fields instead of {}", pl.col("fields").list.len(), pl.lit(len(names)))
    return good, fields.filter(~whole).select("line", problem.alias("reason"), "text")


def _lines(path: Path) -> tuple[str, pl.DataFrame]:
    """Header, and all other lines that are not empty, with line numbers from 2.

    Bytes that are no UTF-8 become U+FFFD. Lines end in LF or CR LF; in a file without any LF, in CR.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error
    lines = text.replace("\r\n", "\n").split("\n") if "\n" in text else text.split("\r")
    if not lines[0].strip():
        raise DataError(f"{path} is empty or has no header: fetch the file again")
    frame = pl.DataFrame({"text": lines[1:]}, schema={"text": pl.String}).with_row_index("line", offset=2)
    kept = frame.filter(pl.col("text") != "")  # a line of tabs alone is a row, and is refused
    return lines[0], kept.with_columns(pl.col("line").cast(pl.Int64))
