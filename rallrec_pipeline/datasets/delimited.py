"""Lines of delimited text (CSV and its kin) to fields; a line that does not fit is handed back, never dropped."""

from __future__ import annotations

import re
from dataclasses import dataclass

import polars as pl

from rallrec_pipeline.datasets.spec import TableFile

Split = tuple[pl.LazyFrame, pl.DataFrame]


@dataclass(frozen=True)
class Dialect:
    """How fields are written."""

    separator: str
    quote: str
    escape: str

    @classmethod
    def of(cls, table: TableFile) -> Dialect:
        """The dialect of a table's file."""
        return cls(table.separator, table.quote or "", table.escape)

    def record(self, fields: int, lenient: bool = False) -> str:
        """Regular expression of a whole record: two groups per field, quoted and bare. For Rust and Python alike.

        A bare field holds no quote, unless `lenient`: then none at its start (`5" pipe`).
        """
        inside = r'(?:[^"\\]|\\.)*' if self.escape == "backslash" else r'(?:[^"]|"")*'
        other = rf"[^{re.escape(self.separator)}\n]" if lenient else rf'[^"{re.escape(self.separator)}\n]'
        outside = rf'[^"{re.escape(self.separator)}\n]{other}*'
        field = rf'(?:"({inside})"|({outside})?)'
        return rf"(?s)\A{re.escape(self.separator).join([field] * fields)}\z"

    def unquoted(self, text: pl.Expr) -> pl.Expr:
        """What a quoted field says."""
        if self.escape == "backslash":
            return text.str.replace_all(r"(?s)\\(.)", "$1")
        return text.str.replace_all('""', '"', literal=True)


def header_fields(line: str, dialect: Dialect) -> list[str]:
    """Names in a header line."""
    quoted = _scanned(line, dialect) if dialect.quote and dialect.quote in line else []
    return [name.strip() for name in quoted or line.split(dialect.separator)]


def _scanned(line: str, dialect: Dialect) -> list[str]:
    """Fields of a line, one after the other, without knowing how many; none where it is no whole record."""
    one = dialect.record(1).removeprefix(r"(?s)\A").removesuffix(r"\z")
    field = re.compile(rf"(?s){one}({re.escape(dialect.separator)}|\Z)")
    escaped = (r"(?s)\\(.)", r"\1") if dialect.escape == "backslash" else ('""', '"')
    found, place = [], 0
    while match := field.match(line, place):
        inside, bare, end = match.groups()
        found.append(bare or "" if inside is None else re.sub(*escaped, inside))
        if not end:
            return found
        place = match.end()
    return []


def split_fields(lines: pl.LazyFrame, dialect: Dialect, fields: int) -> Split:
    """(rows with `line`, `text` and a list `fields`; refused rows with `line`, `reason`, `text`).

    `lines` has `line` and `text`; empty ones are nothing. A quoted field may hold the separator and line ends. A stray
    quote spoils its own lines only: a line that is whole by itself is never taken for the inside of a field.
    """
    filled = lines.filter(pl.col("text") != "")
    if not dialect.quote:
        return _split_plain(filled, dialect.separator, fields)
    has_quote = pl.col("text").str.contains(dialect.quote, literal=True)
    plain, broken = _split_plain(filled.filter(~has_quote), dialect.separator, fields)
    with_quotes = lines.filter(has_quote)
    strict, lenient = dialect.record(fields), dialect.record(fields, lenient=True)
    rest = [with_quotes.filter(~pl.col("text").str.contains(strict)).collect(), broken.select("line", "text")]
    if rest[0].height:  # only a quote that is open makes an empty line a part of anything
        rest.append(lines.filter(pl.col("text") == "").collect())
    joined = _join_records(pl.concat(rest).sort("line"), dialect)
    is_strict, is_lenient = pl.col("text").str.contains(strict), pl.col("text").str.contains(lenient)
    records = [
        plain,
        _quoted(with_quotes, dialect, fields, strict),
        _quoted(joined.lazy(), dialect, fields, strict),
        _quoted(joined.filter(~is_strict).lazy(), dialect, fields, lenient),
    ]
    refused = joined.filter(~is_strict & ~is_lenient).select("line", _why(dialect, fields).alias("reason"), "text")
    return pl.concat(records), refused


def _split_plain(lines: pl.LazyFrame, separator: str, fields: int) -> Split:
    found = pl.col("text").str.count_matches(separator, literal=True) + 1  # half the time of splitting to see it
    reason = pl.format("{} fields instead of {}", found, pl.lit(fields))
    refused = lines.filter(found != fields).select("line", reason.alias("reason"), "text").collect(engine="streaming")
    split = lines.with_columns(pl.col("text").str.split(separator).alias("fields"))
    return split.filter(pl.col("fields").list.len() == fields), refused


def _quoted(lines: pl.LazyFrame, dialect: Dialect, fields: int, pattern: str) -> pl.LazyFrame:
    """Lines that match the pattern of a record, with their fields."""
    groups = pl.col("text").str.extract_groups(pattern)
    values = [
        pl.coalesce(
            dialect.unquoted(pl.col("groups").struct.field(str(2 * i + 1))),
            pl.col("groups").struct.field(str(2 * i + 2)),
            pl.lit(""),
        )
        for i in range(fields)
    ]
    found = lines.filter(pl.col("text").str.contains(pattern)).with_columns(groups.alias("groups"))
    return found.with_columns(pl.concat_list(values).alias("fields")).drop("groups")


def _join_records(rest: pl.DataFrame, dialect: Dialect) -> pl.DataFrame:
    """Neighbouring lines that are no record by themselves, joined where a quote is open between them."""
    if rest.is_empty():
        return rest
    escaped = r"\\." if dialect.escape == "backslash" else '""'
    quotes = pl.col("text").str.replace_all(escaped, "").str.count_matches(dialect.quote, literal=True)
    run = pl.col("line") - pl.int_range(pl.len())  # constant along neighbouring lines
    marked = rest.with_columns(run.alias("run"), quotes.alias("quotes"))
    open_before = (pl.col("quotes").cum_sum() - pl.col("quotes")).over("run") % 2 == 1
    records = marked.with_columns((~open_before).cum_sum().over("run").alias("record"))
    joined = records.group_by("run", "record").agg(pl.col("line").first(), pl.col("text").str.join("\n"))
    return joined.sort("line").select("line", "text").filter(pl.col("text") != "")


def _why(dialect: Dialect, fields: int) -> pl.Expr:
    bare = ~pl.col("text").str.contains(dialect.quote, literal=True)
    count = pl.col("text").str.count_matches(dialect.separator, literal=True) + 1
    return (
        pl.when(bare)
        .then(pl.format("{} fields instead of {}", count, pl.lit(fields)))
        .otherwise(pl.format("quotes do not enclose {} fields", pl.lit(fields)))
    )
