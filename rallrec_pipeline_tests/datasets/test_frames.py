"""Files with types of their own, as Parquet: numbers, lists, moments, arrays and structs."""

from __future__ import annotations

import polars as pl
import pytest

from rallrec_pipeline_tests.datasets.brought import parquet
from rallrec_pipeline_tests.datasets.formats import COLUMNS, files_of, make_spec, read


def test_parquet_keeps_numbers_lists_and_moments() -> None:
    moments = pl.Series([1_000_000, 2_500_000], dtype=pl.Int64).cast(pl.Datetime("us"))
    ratings = pl.DataFrame({"who": [1, 2], "what": [7, 7], "stars": [5, 2], "when": moments})
    items = pl.DataFrame({"what": [7], "name": ["Seven"], "tags": [["a", "b"]]})
    users = pl.DataFrame({"who": [1], "town": ["x"]})
    frames = {"interactions": ratings, "items": items, "users": users}
    found = read(make_spec("parquet"), {f"{name}.parquet": parquet(frame) for name, frame in frames.items()})
    assert found.interactions.rows() == [("1", "7", 5.0, 1, 0), ("2", "7", 2.0, 2, 500_000)]
    assert found.items.rows() == [("7", "Seven", "a, b")]


@pytest.mark.parametrize(
    "column", [{}, {"unit": "ms"}, {"time_format": "%Y-%m-%d %H:%M:%S"}, {"time_format": "%Y-%m-%dT%H:%M:%S%z"}]
)
def test_a_moment_in_parquet_is_one_whatever_its_column_says(column: dict[str, str]) -> None:
    columns = {**COLUMNS["interactions"], "timestamp": {"column": "when", **column}}
    spec = make_spec("parquet", interactions={"file": "interactions.parquet", "columns": columns})
    when = pl.Series(["2020-01-01 01:00:05"]).str.to_datetime(time_unit="ms").dt.replace_time_zone("Europe/Berlin")
    files = files_of("parquet", [], [["i", "T", ""]], [])
    files["interactions.parquet"] = parquet(pl.DataFrame({"who": ["u"], "what": ["i"], "stars": [5], "when": when}))
    assert read(spec, files).interactions["timestamp"].to_list() == [1_577_836_805]


def test_parquet_may_hold_arrays_bytes_structs_and_dates() -> None:
    files = files_of("parquet", [], [], []) | {
        "items.parquet": parquet(
            pl.DataFrame(
                {
                    "what": [b"text", b"\xff\x00"],
                    "name": [{"en": "One"}, None],
                    "tags": pl.Series([[1, 2], [3, None]], dtype=pl.Array(pl.Int64, 2)),
                }
            )
        ),
        "users.parquet": parquet(pl.DataFrame({"who": ["u"], "town": pl.Series(["1990-05-01"]).str.to_date()})),
    }
    found = read(make_spec("parquet"), files)
    assert found.items.rows() == [("text", '{"en":"One"}', "1, 2"), ("ff00", "", "3")]
    assert found.users.rows() == [("u", "1990-05-01")]
