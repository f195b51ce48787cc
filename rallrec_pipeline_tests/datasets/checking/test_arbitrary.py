"""Whatever the files hold, a check ends and tells it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline_tests.datasets.brought import told
from rallrec_pipeline_tests.datasets.checking.good_dataset import TABLES, check, make

TEXT = st.text(st.sampled_from('ui0129,";:\t\n\r\\{}[]é\x00 '), max_size=80).map(str.encode)
STARTS = {
    "ratings.csv": b"user,item,stars,when\n", "items.csv": b"item,name,genre\n", "users.csv": b'"user",age\n',
    "ratings.jsonl": b'{"user": "u1", "item": "i1", "stars": 5, "when": 1600000000}\n',
    "items.jsonl": b'{"item": "i1", "name": ["x"], "genre": {"x": "y"}}\n', "users.jsonl": b'{"user": 1, "age": 2}\n',
}  # fmt: skip


@settings(max_examples=30)
@given(st.sampled_from(TABLES), st.sampled_from(["csv", "jsonl", "parquet"]), st.binary(max_size=80) | TEXT)
def test_arbitrary_bytes_as_any_file_are_problems(name: str, ending: str, content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = make(Path(folder), ending, raters=6)
        (Path(folder) / "data" / f"{name}.{ending}").write_bytes(content)
        assert told(check(path).problems, f"{name}.{ending}")


@settings(max_examples=30)
@given(st.sampled_from(sorted(STARTS)), st.binary(max_size=120) | TEXT)
def test_arbitrary_rows_below_a_good_start_never_stop_the_check(name: str, content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = make(Path(folder), name.split(".")[1], raters=6)
        (Path(folder) / "data" / name).write_bytes(STARTS[name] + content)
        assert check(path).figures["rows"]


@settings(max_examples=30)
@given(st.sampled_from(TABLES), st.integers(0, 4000))
def test_a_file_cut_anywhere_never_stops_the_check(name: str, size: int) -> None:
    with TemporaryDirectory() as folder:
        path = make(Path(folder), "parquet", raters=6)
        file = Path(folder) / "data" / f"{name}.parquet"
        whole = file.read_bytes()
        file.write_bytes(whole[:size])
        assert told(check(path).problems, f"{name}.parquet") or size >= len(whole)


@settings(max_examples=30)
@given(st.binary(max_size=80))
def test_arbitrary_bytes_as_the_toml_file_are_problems(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "mine.toml"
        path.write_bytes(content)
        assert check(path).problems
