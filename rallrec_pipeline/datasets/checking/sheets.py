"""One table of a dataset, as far as its file can be read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from rallrec_pipeline.datasets.checking.columns import broken_rules, columns_of, missing_columns
from rallrec_pipeline.datasets.checking.encodings import is_of_its_format
from rallrec_pipeline.datasets.checking.findings import Findings, share_of, shown
from rallrec_pipeline.datasets.endings import BINARY
from rallrec_pipeline.datasets.file_spec import ColumnSpec, TableFile
from rallrec_pipeline.datasets.guessing.layout import AS_JSON
from rallrec_pipeline.datasets.lines import decoded
from rallrec_pipeline.datasets.readers import raw_folder
from rallrec_pipeline.datasets.rows import unclear_columns
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.datasets.unpacking import open_plain
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.sources.source import data_files
from rallrec_pipeline.text import clean_text

WIDER = re.compile(r"(\d+) fields instead of (\d+)")
MANY_LINES = 1000  # that tell whether quotes mean anything


@dataclass(frozen=True)
class Sheet:
    """One table: its file, those of its columns that can be read, and the names of those that cannot."""

    kind: str
    path: Path
    table: TableFile
    columns: dict[str, ColumnSpec]
    missing: frozenset[str]

    @property
    def file(self) -> str:
        """The file's name."""
        return self.table.file

    def at(self, line: int) -> str:
        """The place of a row."""
        return f"{self.file}, {'row' if self.table.format in BINARY else 'line'} {line}"

    def whole(self, rows: pl.LazyFrame, keys: Iterable[str]) -> pl.LazyFrame:
        """`rows` with empty ids where the file has none."""
        return rows.with_columns(pl.lit(None, pl.String).alias(key) for key in keys if key in self.missing)


@contextmanager
def telling(found: Findings, path: Path) -> Iterator[None]:
    """What a reader cannot read is a problem, told under the file's own name."""
    try:
        yield
    except DataError as error:
        found.problem(str(error).replace(str(path), path.name))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        found.problem(f"{path.name} cannot be read ({clean_text(str(error), 200)}): mend the file")


def open_sheet(spec: DatasetSpec, place: Path, table: TableFile, kind: str, found: Findings) -> Sheet | None:
    """A table as far as it can be read; None without a file, or when its bytes are of another kind.

    `place` is a lake; `kind` is `interactions`, `items` or `users`.
    """
    path = raw_folder(place, spec.name) / table.file
    if not path.exists():
        return None
    with telling(found, path):
        if not is_of_its_format(path, table, kind, found):
            return None
        columns = columns_of(kind, table)
        missing = unclear_columns(path, table, columns)
        if missing:
            found.problem(missing_columns(path, table, kind, {name: columns[name].column for name in missing}))
        broken = [*missing, *broken_rules(kind, table, columns, found)]
        sound = {name: column for name, column in columns.items() if name not in broken}
        return Sheet(kind, path, table, sound, frozenset(broken)) if sound else None
    return None


def tell_malformed(sheet: Sheet, malformed: pl.DataFrame, total: int, grave: bool, found: Findings) -> None:
    """Rows (line, reason, text) of `total` that are no record."""
    if malformed.is_empty():
        return
    first = malformed.sort("line").row(0, named=True)
    if sheet.table.format == "json_lines":
        mend = AS_JSON
    elif "quotes" in first["reason"] and _is_unquoted(sheet):
        mend = f'quotes are text in this file: set {sheet.kind}.quote = ""'
    elif wider := WIDER.fullmatch(first["reason"]) if _are_wider(malformed) else None:
        mend = (
            f"the rows have one field more than the header, as R and a separator at the end make them: set "
            f"{sheet.kind}.skip_lines = 1 and name all {wider[1]} columns in {sheet.kind}.header"
        )
    else:
        mend = "correct separator, quote, escape or header, or mend the file"
    share = share_of(malformed.height, total, "rows")
    why = f"{first['reason']}: {shown(first['text'])}"
    found.fault(grave, f"{sheet.at(first['line'])}: {share} cannot be split ({why}): {mend}")


def _are_wider(malformed: pl.DataFrame) -> bool:
    """Whether all rows have one field more than the header."""
    found = WIDER.fullmatch(malformed["reason"][0])
    return found is not None and int(found[1]) == int(found[2]) + 1 and malformed["reason"].n_unique() == 1


def tell_merged(sheet: Sheet, rows: pl.LazyFrame, found: Findings) -> None:
    """Records of several lines whose lines would each be one: a stray quote may have made one of two."""
    if sheet.table.format not in ("csv", "atomic") or not sheet.table.quote:
        return
    cuts = pl.col("text").str.split("\n").list.eval(pl.element().str.count_matches(sheet.table.separator, literal=True))
    alike = (pl.col("cuts").list.min() == pl.col("cuts").list.max()) & (pl.col("cuts").list.min() > 0)
    joined = rows.filter(pl.col("text").str.contains("\n")).select("line", "text").with_columns(cuts.alias("cuts"))
    merged = joined.filter(alike).collect().sort("line")
    if merged.height:
        lines = f"{merged.height:,} record{'s hold' if merged.height > 1 else ' holds'} line ends within quotes"
        found.warning(
            f"{sheet.at(merged['line'][0])}: {lines}, as {shown(merged['text'][0])}, though each line could be "
            f'a record: if quotes are text in this file, set {sheet.kind}.quote = ""'
        )


def _is_unquoted(sheet: Sheet) -> bool:
    """Whether the lines of a file are cut alike when quotes mean nothing."""
    part = data_files(sheet.path)[0] if sheet.path.is_dir() else sheet.path
    with open_plain(part) as stream:
        text = next(decoded(stream, sheet.table.encoding), "")
    lines = [line for line in text.split("\n")[:MANY_LINES] if line.strip()]
    return len({line.count(sheet.table.separator) for line in lines}) == 1


def tell_empty(sheet: Sheet, found: Findings) -> None:
    """A file without a row."""
    found.problem(f"{sheet.file} has no rows: correct {sheet.kind}.file or fill it")
