"""Lines of delimited text (CSV and its kin) to fields; a line that does not fit is handed back, never dropped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from rallrec_pipeline.datasets.file_spec import TableFile

MAX_RECORD_LINES = 1000  # of one record: a quote that is not closed within them is a stray one
MAX_LIKE_RECORDS = 20  # lines within a field, if each is a record by itself: more stand between two stray quotes
ONE_LINE = ("user_id", "item_id", "rating", "timestamp")  # columns whose values never hold a line end
PARTS = "\x1fparts"  # column of a record's fields as written, each with a separator before it

Split = tuple[pl.LazyFrame, pl.DataFrame]


@dataclass(frozen=True)
class Dialect:
    """How fields are written. The regular expressions mean the same to Rust and to Python."""

    separator: str
    quote: str
    escape: str
    padded: bool = False
    """Whether blanks may stand around a quoted field."""

    @classmethod
    def of(cls, table: TableFile) -> Dialect:
        """The dialect of a table's file, as its settings have it."""
        return cls(table.separator, table.quote or "", table.escape)

    @property
    def pad(self) -> str:
        """What may stand around a quoted field."""
        return " *" if self.padded else ""

    @property
    def is_tabbed(self) -> bool:
        """Tabs do not occur within text: a line that they cut into the right number of fields is a record."""
        return self.separator == "\t"

    @property
    def inside(self) -> str:
        """What stands between the quotes of a field."""
        return r'(?:[^"\\]|\\.)*' if self.escape == "backslash" else r'(?:[^"]|"")*'

    def field(self, lenient: bool = False) -> str:
        """One field. A bare one holds no quote, unless `lenient`: then none at its start (`5" pipe`)."""
        end = rf"{re.escape(self.separator)}\n"
        bare = rf'[^"{end}][^{end}]*' if lenient else rf'[^"{end}]+'
        return rf'(?:{self.pad}"{self.inside}"{self.pad}|{bare}|)'

    def part(self, lenient: bool = False) -> str:
        """A separator and one field. A line after a separator consists of such parts, or it is no record."""
        return rf"(?s){re.escape(self.separator)}{self.field(lenient)}"

    def opening(self) -> str:
        """A line that ends within a quoted field."""
        return rf'(?s)\A(?:{self.field()}{re.escape(self.separator)})*{self.pad}"{self.inside}\\?\z'

    def closing(self) -> str:
        """A line that begins within a quoted field and ends outside."""
        return rf'(?s)\A{self.inside}"{self.pad}(?:{re.escape(self.separator)}{self.field()})*\z'

    def unquoted(self, text: pl.Expr) -> pl.Expr:
        """What a quoted field says."""
        inside = text.str.strip_prefix(self.quote).str.strip_suffix(self.quote)
        if self.escape == "backslash":
            return inside.str.replace_all(r"(?s)\\(.)", "$1")
        return inside.str.replace_all('""', '"', literal=True)


def header_fields(line: str, dialect: Dialect) -> list[str]:
    """Names in a header line."""
    quoted = _scanned(line, dialect) if dialect.quote and dialect.quote in line else []
    return [name.strip() for name in quoted or line.split(dialect.separator)]


def _scanned(line: str, dialect: Dialect) -> list[str]:
    """Fields of a line, without knowing how many; none where it is no whole record."""
    marked = dialect.separator + line
    parts = re.findall(dialect.part(), marked)
    if "".join(parts) != marked:
        return []
    return pl.DataFrame({"part": parts}).select(_meaning(pl.col("part"), dialect)).to_series().to_list()


def split_fields(lines: pl.LazyFrame, dialect: Dialect, fields: int, columns: Mapping[str, int]) -> Split:
    """(rows with `line`, `text` and `columns`; refused rows with `line`, `reason`, `text`).

    `lines` has `line` and `text`; empty ones are nothing. A record has `fields` fields; `columns` maps the name that a
    column gets to its place among them, from 0. A quoted field may hold the separator and line ends. A line that ends
    within one goes on to the line that closes it, if that makes a record of at most MAX_RECORD_LINES lines, none of the
    columns ONE_LINE holds a line end, the lines inside are not all records (more than MAX_LIKE_RECORDS), and not all
    lines are records if quotes mean nothing (between tabs, or with ids of one shape). Otherwise the quote is a stray
    one: that line alone is refused, or between tabs taken as it stands, and those after it stand by themselves.
    """
    if not dialect.quote:
        return _split_plain(lines, dialect.separator, fields, columns)
    has_quote, is_whole = pl.col("text").str.contains(dialect.quote, literal=True), _is_whole(fields, dialect)
    suspects = _in_parts(lines.filter(has_quote), dialect).filter(~is_whole).select("line", "text").collect()
    joined = _joined_records(suspects, lines, dialect, fields, columns)
    taken = joined.select(pl.int_ranges("line", pl.col("last") + 1).explode().alias("line"))
    if taken.height:
        lines = lines.join(taken.lazy(), on="line", how="anti")
    plain, broken = _split_plain(lines.filter(~has_quote), dialect.separator, fields, columns)
    loose = _in_parts(suspects.join(taken, on="line", how="anti").lazy(), dialect, lenient=True)
    quoted = _in_parts(lines.filter(has_quote), dialect), _in_parts(joined.drop("last").lazy(), dialect), loose
    records = [found.filter(is_whole).select("line", "text", *_columns(columns, dialect)) for found in quoted]
    reason = pl.lit(f"quotes do not enclose {fields} fields").alias("reason")
    stray = loose.filter(~is_whole).select("line", "text")
    if dialect.is_tabbed:
        is_cut = _cuts(dialect) + 1 == fields
        literal, _ = _split_plain(stray.filter(is_cut), dialect.separator, fields, columns)
        records, stray = [*records, literal], stray.filter(~is_cut)
    refused = stray.select("line", reason, "text").collect()
    return pl.concat([plain, *records]), pl.concat([broken, refused]).sort("line")


def _cuts(dialect: Dialect) -> pl.Expr:
    """How often the separator stands in a line, whatever the quotes say."""
    return pl.col("text").str.count_matches(dialect.separator, literal=True)


def _split_plain(lines: pl.LazyFrame, separator: str, fields: int, columns: Mapping[str, int]) -> Split:
    lines = lines.filter(pl.col("text") != "")
    found = pl.col("text").str.count_matches(separator, literal=True) + 1  # half the time of splitting to see it
    reason = pl.format("{} fields instead of {}", found, pl.lit(fields))
    refused = lines.filter(found != fields).select("line", reason.alias("reason"), "text").collect(engine="streaming")
    split = lines.with_columns(pl.col("text").str.split(separator).alias(PARTS))
    if refused.height:
        split = split.filter(pl.col(PARTS).list.len() == fields)
    values = [pl.col(PARTS).list.get(place).alias(name) for name, place in columns.items()]
    return split.select("line", "text", *values), refused


def _in_parts(lines: pl.LazyFrame, dialect: Dialect, lenient: bool = False) -> pl.LazyFrame:
    """`lines` with the column PARTS: one match after the other, a fraction of the time of a group for each field."""
    marked = pl.concat_str(pl.lit(dialect.separator), "text")
    return lines.with_columns(marked.str.extract_all(dialect.part(lenient)).alias(PARTS))


def _is_whole(fields: int, dialect: Dialect) -> pl.Expr:
    """Whether a line consists of `fields` parts, with nothing between them."""
    parts = pl.col(PARTS)
    length = pl.col("text").str.len_bytes() + len(dialect.separator.encode())
    return (parts.list.len() == fields) & (parts.list.join("").str.len_bytes() == length)


def _columns(columns: Mapping[str, int], dialect: Dialect) -> list[pl.Expr]:
    return [_meaning(pl.col(PARTS).list.get(place), dialect).alias(name) for name, place in columns.items()]


def _meaning(part: pl.Expr, dialect: Dialect) -> pl.Expr:
    """What a part says."""
    written = part.str.strip_prefix(dialect.separator)
    if dialect.padded:
        written = written.str.strip_chars(" ")
    is_quoted = written.str.starts_with(dialect.quote)
    return pl.when(is_quoted).then(dialect.unquoted(written)).otherwise(written)


def _joined_records(
    suspects: pl.DataFrame, lines: pl.LazyFrame, dialect: Dialect, fields: int, columns: Mapping[str, int]
) -> pl.DataFrame:
    """Records of several lines: `line` and `last`, the numbers of their first and last line, and `text`.

    Only a line with an odd number of quotes opens a field that it does not close, or closes one that it did not open;
    both are among the `suspects`, the lines that are no record by themselves.
    """
    escaped = r"\\." if dialect.escape == "backslash" else '""'
    quotes = pl.col("text").str.replace_all(escaped, "").str.count_matches(dialect.quote, literal=True)
    odd = suspects.filter(quotes % 2 == 1).sort("line")
    ends = {"last": pl.col("line").shift(-1), "end": pl.col("text").shift(-1)}
    pairs = (
        odd.with_columns(**ends)
        .with_row_index("pair")
        .filter(
            (pl.col("last") - pl.col("line") < MAX_RECORD_LINES)
            & pl.col("text").str.contains(dialect.opening())
            & pl.col("end").str.contains(dialect.closing())
        )
    )
    inner = pairs.select("pair", pl.int_ranges(pl.col("line") + 1, "last").alias("line")).explode("line").drop_nulls()
    texts = lines.join(inner.lazy(), on="line", how="inner").select("pair", "line", "text").collect()
    first, last = pairs.select("pair", "line", "text"), pairs.select("pair", line="last", text="end")
    joined = (
        pl.concat([first, texts, last])
        .sort("pair", "line")
        .group_by("pair", maintain_order=True)
        .agg(pl.col("line").first(), pl.col("line").last().alias("last"), pl.col("text").str.join("\n"))
    )
    like_records = _pairs_around_records(texts, dialect, fields)
    apart = _pairs_of_records(pl.concat([first, texts, last]), dialect, fields, columns)
    joined = joined.join(pl.concat([like_records, apart]), on="pair", how="anti", maintain_order="left")
    is_record = _is_whole(fields, dialect) & ~_has_line_end(columns, dialect)
    whole = _in_parts(joined.lazy(), dialect).filter(is_record).drop(PARTS).sort("pair").collect()
    # A line that closes a field does not open one: of pairs that share a line the first counts.
    run = pl.col("pair").cast(pl.Int64) - pl.int_range(pl.len())
    place = pl.int_range(pl.len()).over(run)
    return whole.filter(place % 2 == 0).select("line", "last", "text")


def _pairs_around_records(inner: pl.DataFrame, dialect: Dialect, fields: int) -> pl.DataFrame:
    """The pairs of lines between which stand too many lines, each of them a record by itself: one column, pair."""
    judged = _in_parts(inner.lazy(), dialect).select("pair", _is_whole(fields, dialect).alias("whole"))
    counts = judged.group_by("pair").agg(pl.len(), pl.col("whole").all()).collect()
    return counts.filter(pl.col("whole") & (pl.col("len") > MAX_LIKE_RECORDS)).select("pair")


def _pairs_of_records(lines: pl.DataFrame, dialect: Dialect, fields: int, columns: Mapping[str, int]) -> pl.DataFrame:
    """The pairs of lines that are, with all between them, records if quotes mean nothing: one column, pair.

    Between tabs that is enough. Commas occur in text: there the ids must look alike too, and hold figures.
    """
    places = [columns[name] for name in ONE_LINE[:2] if name in columns]
    if fields < 2 or not (places or dialect.is_tabbed):
        return lines.select("pair").clear()
    is_cut = (_cuts(dialect) + 1 == fields).all()
    if dialect.is_tabbed:
        return lines.group_by("pair").agg(is_cut.alias("cut")).filter("cut").select("pair")
    ids = pl.concat_str(
        pl.col("text").str.split(dialect.separator).list.get(place, null_on_oob=True) for place in places
    )
    shape = ids.str.strip_chars().str.replace_all(r"\d+", "9").str.replace_all(r"\p{L}+", "a")
    alike = (shape.n_unique() == 1) & shape.first().str.contains("9")
    return lines.group_by("pair").agg((is_cut & alike.fill_null(False)).alias("cut")).filter("cut").select("pair")


def _has_line_end(columns: Mapping[str, int], dialect: Dialect) -> pl.Expr:
    places = [place for name, place in columns.items() if name in ONE_LINE]
    if not places:
        return pl.lit(False)
    return pl.any_horizontal(_meaning(pl.col(PARTS).list.get(place), dialect).str.contains("\n") for place in places)
