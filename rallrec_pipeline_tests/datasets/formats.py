"""A dataset of three small files in each format, and the tables that are read of it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from rallrec_pipeline.datasets.readers import read_raw
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.datasets.tables import RawTables
from rallrec_pipeline.lake.parquet import check_schema
from rallrec_pipeline.lake.tables import INTERACTIONS, ITEMS, REJECTED_ROWS, USERS
from rallrec_pipeline_tests.datasets.brought import parquet

COLUMNS: dict[str, dict[str, Any]] = {
    "interactions": {"user_id": "who", "item_id": "what", "rating": "stars", "timestamp": "when"},
    "items": {"item_id": "what", "title": "name", "tags": {"column": "tags", "split": "|"}},
    "users": {"user_id": "who", "town": "town"},
}
FORMATS: dict[str, dict[str, Any]] = {
    "csv": {},
    "tsv": {},
    "semicolon.csv": {"separator": ";", "escape": "backslash", "encoding": "cp1252", "empty": ["NULL"]},
    "dat": {"separator": "::", "quote": "", "encoding": "latin-1"},
    "inter": {},
    "jsonl": {},
    "parquet": {},
}


def make_spec(ending: str, **changes: Any) -> DatasetSpec:
    tables = {
        name: {"file": f"{name}.{ending}", "columns": columns, **FORMATS[ending]} for name, columns in COLUMNS.items()
    }
    values = {
        "name": "mine",
        "title": "Mine",
        "source": {"kind": "folder", "location": "nowhere"},
        **tables,
        "label": {"scale": [1, 2, 3, 4, 5], "like_above": 3},
    }
    return DatasetSpec.model_validate(values | changes)


def read(spec: DatasetSpec, files: dict[str, bytes]) -> RawTables:
    with TemporaryDirectory() as folder:
        raw = Path(folder) / "raw" / "mine"
        raw.mkdir(parents=True)
        for name, content in files.items():
            (raw / name).write_bytes(content)
        found = read_raw(spec, Path(folder))
        assert sorted(path.name for path in raw.iterdir()) == sorted(files), "the reader leaves nothing behind"
    for rows, table in (
        (found.interactions, INTERACTIONS),
        (found.items, ITEMS),
        (found.users, USERS),
        (found.rejected, REJECTED_ROWS),
    ):
        check_schema(rows, table, "mine")
    return found


def encode(ending: str, header: list[str], rows: list[list[str]]) -> bytes:
    """The rows as a file of each format."""
    options = FORMATS[ending]
    if ending == "jsonl":
        return "".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in rows).encode()
    if ending == "parquet":
        return parquet(pl.DataFrame(rows, schema=dict.fromkeys(header, pl.String), orient="row"))
    if ending in ("dat", "inter"):
        lines = [options.get("separator", "\t").join(row) for row in [header, *rows]]
        return ("\n".join(lines) + "\n").encode(options.get("encoding", "utf-8"))
    text = io.StringIO()
    backslash = options.get("escape") == "backslash"
    writer = csv.writer(
        text,
        delimiter="\t" if ending == "tsv" else options.get("separator", ","),
        escapechar="\\" if backslash else None,
        doublequote=not backslash,
        quoting=csv.QUOTE_ALL if backslash else csv.QUOTE_MINIMAL,
        lineterminator="\r\n",
    )
    writer.writerows([header, *rows])
    return text.getvalue().encode(options.get("encoding", "utf-8"))


def files_of(ending: str, ratings: list[list[str]], items: list[list[str]], users: list[list[str]]) -> dict[str, bytes]:
    return {
        f"interactions.{ending}": encode(ending, ["who", "what", "stars", "when"], ratings),
        f"items.{ending}": encode(ending, ["what", "name", "tags"], items),
        f"users.{ending}": encode(ending, ["who", "town"], users),
    }
