"""The first rows of each file that a new dataset may be made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from rallrec_pipeline.datasets.documents import MOST as DOCUMENT
from rallrec_pipeline.datasets.endings import format_of
from rallrec_pipeline.datasets.file_spec import ColumnSpec, TableFile
from rallrec_pipeline.datasets.guessing.layout import Layout, layout_of, settings_of
from rallrec_pipeline.datasets.lines import HEAD
from rallrec_pipeline.datasets.rows import column_names, open_rows
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.sources.source import data_files

ROWS = 10_000
MOST_COLUMNS = 60


@dataclass(frozen=True)
class Sample:
    """One file, or a folder of parts: how it is read, and its first rows as text."""

    path: Path
    file: str
    layout: Layout
    table: TableFile
    frame: pl.DataFrame
    whole: bool
    """Whether the rows are all that there are."""

    @property
    def names(self) -> list[str]:
        """The columns of the file."""
        return self.frame.columns


def tables_in(paths: list[Path]) -> list[Path]:
    """The tables that files and folders hold: a folder is one where its files are parts, else each of them is one."""
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DataError(f"there is no {path}: correct its name")
        files = data_files(path) if path.is_dir() else []
        known = [file for file in files if format_of(file.name)]
        if path.is_dir() and not known:
            raise DataError(f"{path} holds no file of data: name the files themselves")
        found += [path] if not known or _are_parts(path, known) else known
    return list(dict.fromkeys(found))


def read_sample(path: Path, base: Path) -> Sample:
    """The first rows of a table; its name starts at `base`. Raises DataError where it cannot be read."""
    layout = layout_of(path)
    if layout.fault:
        raise DataError(f"{path}: {layout.fault}")
    file = path.relative_to(base).as_posix()
    table = _table(file, layout)
    names = list(dict.fromkeys(column_names(path, table)))[:MOST_COLUMNS]
    columns = {name: ColumnSpec(column=name) for name in names}
    places = {f"{place}": column for place, column in enumerate(columns.values())}
    with open_rows(path, table, places, DOCUMENT if layout.format == "json_lines" else HEAD) as (rows, _):
        frame = rows.head(ROWS + 1).sort("line").select(f"{place}" for place in range(len(names))).collect()
    frame.columns = names
    cleaned = frame.head(ROWS).select(pl.all().fill_null("").str.strip_chars())
    return Sample(path, file, layout, table, cleaned, frame.height <= ROWS)


def _are_parts(folder: Path, files: list[Path]) -> bool:
    """Whether the files of a folder have the same columns."""
    if len({file.suffix for file in files}) > 1 or (format_of(folder.name) is None and len(files) == 1):
        return False
    if any("=" in part for file in files for part in file.relative_to(folder).parts):
        return True
    names = []
    for file in (files[0], files[-1]):
        layout = layout_of(file)
        names.append((layout.format, layout.fields, column_names(file, _table(file.name, layout))))
    return names[0] == names[1] and (len(files) > 1 or format_of(folder.name) is not None)


def _table(file: str, layout: Layout) -> TableFile:
    """How the file is read, as far as its layout tells; columns without names get some."""
    values: dict[str, object] = {"file": file, **settings_of(layout, file)}
    if not layout.has_header:
        values["header"] = [f"column {place + 1}" for place in range(layout.fields)]
    return TableFile.model_validate(values)
