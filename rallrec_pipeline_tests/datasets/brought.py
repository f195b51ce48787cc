"""Files as people bring them: a small world of ratings, written in as many ways, and what is made of it."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]

from rallrec_pipeline.datasets.catalog import load_dataset
from rallrec_pipeline.datasets.checking.report import CheckReport, check_dataset
from rallrec_pipeline.datasets.raw_files import fetch_raw_files
from rallrec_pipeline.datasets.readers import read_raw
from rallrec_pipeline.datasets.tables import RawTables

USERS, ITEMS, EACH, START = 16, 12, 9, 1_600_000_000
NAMES = ("Amber Harbour", "Brass Lantern", "Copper Field", "Distant Shore", "Eleven Doors", "Fading Bell")
Files = dict[str, bytes]
HEADER = ("user_id", "item_id", "rating", "timestamp")
INTERACTIONS = '{ user_id = "user_id", item_id = "item_id", rating = "rating", timestamp = "timestamp" }'


def world() -> list[tuple[str, str, int, int]]:
    """144 ratings (user, item, rating, time), none twice, in the order of time."""
    rng = np.random.default_rng(7)
    pairs = [(f"u{user}", f"i{item}") for user in range(USERS) for item in rng.permutation(ITEMS)[:EACH]]
    order = rng.permutation(len(pairs))
    return [(*pairs[place], int(rng.integers(1, 6)), START + 7201 * n) for n, place in enumerate(order)]


RATED = pl.DataFrame(world(), schema=HEADER, orient="row")
WANTED = RATED.with_columns(pl.col("rating").cast(pl.Float32), pl.col("timestamp").cast(pl.Int64))
"""The ratings as a file with types holds them, and as the table `interactions` does, but for microseconds."""


def titles() -> dict[str, str]:
    """The title of each item."""
    return {f"i{n}": f"{NAMES[n % len(NAMES)]} {n}" for n in range(ITEMS)}


def delimited(header: Sequence[str], rows: Sequence[Sequence[object]], mark: str = ",") -> bytes:
    """The rows as text, unquoted."""
    lines = [mark.join(header)] if header else []
    return "\n".join([*lines, *(mark.join(map(str, row)) for row in rows), ""]).encode()


def ratings_csv(mark: str = ",") -> bytes:
    """The ratings as CSV."""
    return delimited(HEADER, world(), mark)


def items_csv(mark: str = ",") -> bytes:
    """The items as CSV."""
    return delimited(("item_id", "title"), list(titles().items()), mark)


def json_lines(rows: Sequence[Mapping[str, object]]) -> bytes:
    """Objects, one a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def parquet(frame: pl.DataFrame) -> bytes:
    """A frame as a Parquet file."""
    stream = io.BytesIO()
    frame.write_parquet(stream)
    return stream.getvalue()


def zipped(name: str, content: bytes) -> bytes:
    """A zip with one file of data, in a folder, beside what people pack by the way."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(f"export/{name}", content)
        packed.writestr(f"__MACOSX/._{name}", b"\x00")
        packed.writestr("README.txt", b"read me")
    return stream.getvalue()


def tarred(name: str, content: bytes) -> bytes:
    """A tar with one file in two folders."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as packed:
        entry = tarfile.TarInfo(f"export/2020/{name}")
        entry.size = len(content)
        packed.addfile(entry, io.BytesIO(content))
        for folder in ("export", "export/2020"):
            entry = tarfile.TarInfo(folder)
            entry.type = tarfile.DIRTYPE
            packed.addfile(entry)
    return stream.getvalue()


def zst(content: bytes) -> bytes:
    """Bytes as zstd packs them."""
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


def write(root: Path, files: Files) -> Path:
    """The files in `root/data`."""
    for name, content in files.items():
        path = root / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root / "data"


def dataset(
    root: Path,
    files: Files,
    interactions: str = 'file = "ratings.csv"',
    columns: str = INTERACTIONS,
    items: str = 'file = "items.csv"',
    item_columns: str = '{ item_id = "item_id", title = "title" }',
    label: str = "scale = [1, 2, 3, 4, 5]\nlike_above = 3",
    top: str = "",
    rest: str = "",
) -> Path:
    """The TOML file of a dataset of `files`, in the catalogue of the lake `root/lake`."""
    write(root, {"ratings.csv": ratings_csv(), "items.csv": items_csv()} | files)
    path = root / "lake" / "catalog" / "shop.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'title = "t"\n{top}\n[source]\nkind = "folder"\nlocation = "../../data"\n[interactions]\n{interactions}\n'
        f"columns = {columns}\n[items]\n{items}\ncolumns = {item_columns}\n"
        f"[protocol]\nuser_core = 2\nitem_core = 2\nmin_history = 2\n[label]\n{label}\n{rest}\n",
        encoding="utf-8",
    )
    return path


def check(path: Path) -> CheckReport:
    """What `rallrec check` finds."""
    return check_dataset(path, path.parent.parent)


def tables(path: Path) -> RawTables:
    """The tables that `rallrec run` makes of the files."""
    spec, lake = load_dataset(path), path.parent.parent
    fetch_raw_files(spec, lake)
    return read_raw(spec, lake)


def told(messages: Sequence[str], *words: str) -> bool:
    """Whether one message has all of `words`."""
    return any(all(word in message for word in words) for message in messages)


def workbook(header: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> bytes:
    """A workbook of one sheet, as small as the format allows."""
    kinds = "http://schemas.openxmlformats.org"
    cells = [header, *rows]
    sheet = "".join(
        f'<row r="{n}">' + "".join(_cell(f"{chr(65 + place)}{n}", value) for place, value in enumerate(row)) + "</row>"
        for n, row in enumerate(cells, 1)
    )
    types = f"{kinds}/package/2006/content-types"
    office = f"{kinds}/officeDocument/2006/relationships"
    main = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    files = {
        "[Content_Types].xml": f'<Types xmlns="{types}"><Default Extension="rels" ContentType="application/vnd.'
        f'openxmlformats-package.relationships+xml"/><Override PartName="/xl/workbook.xml" ContentType="{main}.sheet.'
        f'main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="{main}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{kinds}/package/2006/relationships"><Relationship Id="r1" '
        f'Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{kinds}/spreadsheetml/2006/main" xmlns:r="{office}"><sheets>'
        '<sheet name="S" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{kinds}/package/2006/relationships"><Relationship '
        f'Id="r1" Type="{office}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{kinds}/spreadsheetml/2006/main"><sheetData>{sheet}'
        "</sheetData></worksheet>",
    }  # fmt: skip
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for name, text in files.items():
            packed.writestr(name, text)
    return stream.getvalue()


def _cell(place: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, int):
        return f'<c r="{place}"><v>{value}</v></c>'
    return f'<c r="{place}" t="inlineStr"><is><t>{escape(str(value))}</t></is></c>'
