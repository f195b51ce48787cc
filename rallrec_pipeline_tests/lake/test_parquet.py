"""Tables: the declared schema is enforced by the writer, and a missing or damaged file is one line."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from rallrec_pipeline.errors import DataError, RallrecError, StaleArtefactError
from rallrec_pipeline.lake import tables as lake_tables
from rallrec_pipeline.lake.parquet import check_schema, read_table, scan_table, write_table
from rallrec_pipeline.lake.tables import (
    INTERACTIONS,
    ITEMS,
    Table,
    embeddings_table,
    predictions_table,
    prompts_table,
)

GOOD = pl.DataFrame(
    {
        "user_id": ["1", "1", "2"],
        "item_id": ["1", "2", "1"],
        "rating": [1.0, 2.0, 3.0],
        "timestamp": [1, 2, 3],
        "microsecond": [0, 0, 0],
    },
    schema=INTERACTIONS.columns,
)


def test_a_table_comes_back_in_the_declared_order_of_columns(tmp_path: Path) -> None:
    path = write_table(GOOD.select(reversed(GOOD.columns)), INTERACTIONS, tmp_path, "small")
    assert path == tmp_path / "tables/interactions/small.parquet"
    assert read_table(INTERACTIONS, tmp_path, "small").equals(GOOD)
    assert scan_table(INTERACTIONS, tmp_path, "small").select("rating").collect().equals(GOOD.select("rating"))


@pytest.mark.parametrize(
    ("frame", "what"),
    [
        (GOOD.drop("rating"), "missing columns ['rating'], unexpected columns []"),
        (GOOD.with_columns(extra=pl.lit("x")), "missing columns [], unexpected columns ['extra']"),
        (GOOD.cast({"rating": pl.Float64}), "column 'rating' is Float64, expected Float32"),
        (GOOD.cast({"user_id": pl.Int64}), "column 'user_id' is Int64, expected String"),
        (pl.concat([GOOD, GOOD.head(2)]), "2 rows repeat the key"),
    ],
)
def test_a_broken_schema_is_refused_and_nothing_is_written(tmp_path: Path, frame: pl.DataFrame, what: str) -> None:
    write_table(GOOD, INTERACTIONS, tmp_path, "small")
    with pytest.raises(DataError) as caught:
        write_table(frame, INTERACTIONS, tmp_path, "small")
    assert what in str(caught.value) and "interactions of 'small'" in str(caught.value)
    assert read_table(INTERACTIONS, tmp_path, "small").equals(GOOD)


def test_open_fields_take_text_only() -> None:
    items = pl.DataFrame({"item_id": ["1"], "title": ["Toy Story"], "genres": ["Comedy"]})
    assert check_schema(items, ITEMS, "small").columns == ["item_id", "title", "genres"]
    with pytest.raises(DataError, match=r"must be text, these are not: \['year'\]"):
        check_schema(items.with_columns(year=pl.lit(1995)), ITEMS, "small")


def test_vectors_may_have_any_width_but_must_be_float32() -> None:
    table = embeddings_table("item")
    text = {name: pl.Series(["x"]) for name, dtype in table.columns.items() if dtype == pl.String}
    for width in (1, 64):
        vector = pl.Series([[0.5] * width], dtype=pl.Array(pl.Float32, width))
        assert check_schema(pl.DataFrame(text | {"vector": vector}), table, "small").height == 1
    for dtype in (pl.Array(pl.Float64, 2), pl.List(pl.Float32)):
        with pytest.raises(DataError, match="column 'vector'"):
            check_schema(pl.DataFrame(text | {"vector": pl.Series([[0.5, 0.5]], dtype=dtype)}), table, "small")


def test_a_table_that_was_never_made_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(StaleArtefactError, match="run `rallrec run small --select interactions` first"):
        read_table(INTERACTIONS, tmp_path, "small")


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_damaged_table_is_one_line(tmp_path: Path, keep: int) -> None:
    path = write_table(GOOD, INTERACTIONS, tmp_path, "small")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RallrecError, match="is damaged") as caught:
        read_table(INTERACTIONS, tmp_path, "small")
    assert str(path) in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_every_table_has_a_place_of_its_own_and_a_key_among_its_columns() -> None:
    tables = [
        *(found for found in vars(lake_tables).values() if isinstance(found, Table)),
        *(prompts_table(split) for split in ("tuning", "evaluation")),
        *(embeddings_table(kind) for kind in ("title", "description", "text", "collaborative", "aligned", "item")),
        *(predictions_table(method) for method in ("rallrec", "recent")),
    ]
    places = [table.file(Path("lake"), dataset) for table in tables for dataset in ("a", "b")]
    assert len(set(places)) == len(places)
    assert all(set(table.key) <= set(table.columns) for table in tables)
    assert len(tables) > 15
