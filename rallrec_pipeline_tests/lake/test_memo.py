"""The memo: nothing finished is ever lost or paid for twice, whatever ends the process."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake import memo as memo_module
from rallrec_pipeline.lake import memo_file as module
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import DESCRIPTIONS, SCORES, VECTORS

KEYS = "abcdefgh"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
BATCHES = st.lists(st.dictionaries(st.sampled_from(KEYS), TEXT, max_size=5), max_size=6)


def add(memo: Memo, texts: dict[str, str], created_at: str | None = "2026-01-01") -> None:
    finished = [(key, f"Describe {key}.", text, "ok", 1, "run", created_at) for key, text in texts.items()]
    memo.add(pl.DataFrame(finished, schema=DESCRIPTIONS.schema, orient="row"))


def texts(memo: Memo, keys: str = KEYS) -> dict[str, str]:
    found = memo.find(keys)
    assert dict(found.schema) == memo.kind.schema and found["key"].is_unique().all()
    return dict(found.select("key", "text").iter_rows())


def test_an_empty_memo_finds_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    memo = Memo(tmp_path / "lake", DESCRIPTIONS)
    memo.add(pl.DataFrame(schema=DESCRIPTIONS.schema))
    assert texts(memo) == {} and memo.known("ab") == set() and memo.prune([], "2027") == (0, 0)
    assert not (tmp_path / "lake").exists()
    add(memo, {"a": "A"})
    assert texts(memo, "") == {} and [path.name for path in memo.path.parent.iterdir()] == ["descriptions.sqlite"]


@settings(max_examples=20)
@given(BATCHES)
def test_the_newest_row_of_each_key_is_found(batches: list[dict[str, str]]) -> None:
    with TemporaryDirectory() as lake:
        memo, newest = Memo(Path(lake), DESCRIPTIONS), dict[str, str]()
        for batch in batches:
            add(memo, batch)
            newest |= batch
        again = Memo(Path(lake), DESCRIPTIONS)
        assert texts(again) == newest and again.known(KEYS) == set(newest)
        assert texts(again, "aah") == {key: text for key, text in newest.items() if key in "ah"}


@settings(max_examples=20)
@given(st.lists(FINITE, max_size=5), st.binary(max_size=9), st.one_of(st.none(), TEXT))
def test_values_keep_every_bit(values: list[float], vector: bytes, text: str | None) -> None:
    with TemporaryDirectory() as folder:
        lake = Path(folder)
        Memo(lake, SCORES).add(pl.DataFrame({"key": ["a"], "probabilities": [values]}))
        Memo(lake, VECTORS).add(pl.DataFrame({"key": ["a"], "vector": [vector]}))
        Memo(lake, DESCRIPTIONS).add(
            pl.DataFrame({"key": ["a"], "text": [text]}, dict.fromkeys(["key", "text"], pl.String))
        )
        (kept,) = Memo(lake, SCORES).find("a")["probabilities"].to_list()
        assert kept == values and [math.copysign(1, v) for v in kept] == [math.copysign(1, v) for v in values]
        assert Memo(lake, VECTORS).find("a")["vector"].to_list() == [vector]
        assert texts(Memo(lake, DESCRIPTIONS)) == {"a": text or ""}


def test_kinds_have_their_own_columns_and_files(tmp_path: Path) -> None:
    scored = Memo(tmp_path, SCORES)
    add(Memo(tmp_path, DESCRIPTIONS), {"a": "A"})
    assert dict(scored.find("a").schema) == SCORES.schema and scored.find("a").is_empty()
    scored.add(pl.DataFrame({"key": ["a", "b"], "probabilities": [[0.25, 0.75], [0.2, 0.3, 0.5]], "seconds": 0.5}))
    assert scored.find("b").rows() == [("b", [0.2, 0.3, 0.5], 0.5, "", "")]
    assert texts(Memo(tmp_path, DESCRIPTIONS)) == {"a": "A"}


def test_more_keys_than_are_asked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rallrec_pipeline.lake.memo.ASKED_AT_ONCE", 3)
    memo = Memo(tmp_path, DESCRIPTIONS)
    add(memo, dict.fromkeys(KEYS, "x"))
    assert memo.known([*KEYS, "none"]) == set(KEYS) == set(memo.find(KEYS)["key"])


@settings(max_examples=20)
@given(
    st.dictionaries(st.sampled_from(KEYS), st.sampled_from(["2025", "2026", "2027", None])),
    st.sets(st.sampled_from(KEYS)),
    st.sets(st.sampled_from(KEYS)),
)
def test_prune_keeps_what_is_used_or_young(times: dict[str, str | None], keep: set[str], superseded: set[str]) -> None:
    with TemporaryDirectory() as lake:
        memo = Memo(Path(lake), DESCRIPTIONS)
        for key, time in times.items():
            add(memo, {key: key.upper()}, time)
        stays = {k for k, time in times.items() if k in keep or (k not in superseded and (time or "2026") >= "2026")}
        promised = memo.prune(keep, "2026", superseded, dry_run=True)
        assert set(texts(memo)) == set(times)
        assert memo.prune(keep, "2026", superseded) == promised
        assert promised[0] == len(times) - len(stays) and (promised[1] > 0) == (promised[0] > 0)
        assert texts(memo) == {key: key.upper() for key in stays}
        assert memo.prune(keep, "2026", superseded) == (0, 0)


def test_prune_gives_the_room_back(tmp_path: Path) -> None:
    memo = Memo(tmp_path, VECTORS)
    for start in range(0, 200, 50):
        keys = [f"{number:032x}" for number in range(start, start + 50)]
        memo.add(pl.DataFrame({"key": keys, "vector": [os.urandom(8192)] * 50, "created_at": "2026"}))
    before = memo.path.stat().st_size
    rows, size = memo.prune([f"{number:032x}" for number in range(20)], "2027")
    assert rows == 180 and size > 180 * 8192
    assert memo.path.stat().st_size < before / 5


def test_rows_are_removed_where_their_room_cannot_be_given_back_and_the_next_prune_gives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    memo, delete = Memo(tmp_path, VECTORS, said.append), memo_module._delete
    keys = [f"{number:032x}" for number in range(200)]
    memo.add(pl.DataFrame({"key": keys, "vector": [os.urandom(8192)] * 200, "created_at": "2026"}))
    before = memo.path.stat().st_size
    with closing(sqlite3.connect(memo.path)) as other, monkeypatch.context() as patch:

        def and_another_begins(*arguments: Any) -> None:
            delete(*arguments)
            other.execute("BEGIN IMMEDIATE")

        patch.setattr(memo_module, "_delete", and_another_begins)
        patch.setattr(module, "WAIT_S", 0)
        rows, _ = memo.prune(keys[:100], "2027")
    assert rows == 100 and memo.known(keys) == set(keys[:100])
    (line,) = said
    assert "database is locked" in line and line.endswith("prune again")
    assert memo.prune(keys[:100], "2027") == (0, 0) and memo.path.stat().st_size < 0.7 * before


WRITER = """
import sys
from pathlib import Path
import polars as pl
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import DESCRIPTIONS
lake, name, batches = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for batch in range(batches):
    keys = [f"{name}-{batch}-{row}" for row in range(50)] + [f"both-{batch}"]
    Memo(lake, DESCRIPTIONS).add(pl.DataFrame({"key": keys, "text": [f"text of {key}" for key in keys]}))
    print(batch, flush=True)
"""


def writer(lake: Path, name: str, batches: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(lake), name, str(batches)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_write_at_once_from_the_first_moment_on(tmp_path: Path) -> None:
    writers = [writer(tmp_path, name, 20) for name in ("one", "two", "three")]
    for process in writers:
        process.communicate()
    assert [process.returncode for process in writers] == [0, 0, 0]
    names = [f"{n}-{b}-{r}" for n in ("one", "two", "three") for b in range(20) for r in range(50)]
    keys = [*names, *(f"both-{b}" for b in range(20))]
    found = Memo(tmp_path, DESCRIPTIONS).find(keys)
    assert dict(found.select("key", "text").iter_rows()) == {key: f"text of {key}" for key in keys}


def test_threads_write_at_once(tmp_path: Path) -> None:
    memo = Memo(tmp_path, DESCRIPTIONS)
    threads = [threading.Thread(target=add, args=(memo, {f"k{n}": f"t{n}"})) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert memo.known([f"k{n}" for n in range(9)]) == {f"k{n}" for n in range(8)}


@pytest.mark.parametrize("after", [0, 3])
def test_a_process_that_is_killed_loses_no_batch_that_it_had_finished(tmp_path: Path, after: int) -> None:
    process = writer(tmp_path, "one", 10_000)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= after:
            break
    process.send_signal(signal.SIGKILL)  # most likely within the next add
    rest, _ = process.communicate()
    finished = max([after, *(int(line) for line in rest.split() if line.isdecimal())])
    memo = Memo(tmp_path, DESCRIPTIONS)
    assert memo.known([f"both-{b}" for b in range(finished + 1)]) == {f"both-{b}" for b in range(finished + 1)}
    for batch in range(finished + 1, finished + 3):  # a batch is there as a whole or not at all
        keys = [*(f"one-{batch}-{row}" for row in range(50)), f"both-{batch}"]
        assert len(memo.known(keys)) in (0, 51)
    add(memo, {"a": "A"})
    assert texts(memo, "a") == {"a": "A"}


def test_an_add_that_fails_in_the_middle_adds_nothing(tmp_path: Path) -> None:
    memo = Memo(tmp_path, DESCRIPTIONS)
    add(memo, {"a": "A"})
    rows: dict[str, Any] = {"key": ["b", None], "text": ["B", "no key"]}
    with pytest.raises(DataError):
        memo.add(pl.DataFrame(rows))
    assert texts(memo) == {"a": "A"}
    scored = Memo(tmp_path, SCORES)
    with pytest.raises(ValueError, match="not JSON compliant"):
        scored.add(pl.DataFrame({"key": ["a", "b"], "probabilities": [[0.5], [math.nan]]}))
    assert scored.known("ab") == set()


@pytest.mark.parametrize("content", [b"nonsense" * 100, b"SQLite format 3\x00" + b"\x01" * 4000])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    memo = Memo(tmp_path, DESCRIPTIONS)
    add(memo, {"a": "A"})
    memo.path.write_bytes(content)
    for work in (lambda: memo.find("a"), lambda: memo.known("a"), lambda: add(memo, {"b": "B"})):
        with pytest.raises(DataError, match="is damaged") as caught:
            work()
        said = str(caught.value)
        assert f"{memo.path} is damaged" in said and "run again, sound rows are kept" in said and "\n" not in said
    memo.path.unlink()
    assert texts(memo) == {}


def test_damage_within_the_file_is_named_too(tmp_path: Path) -> None:
    memo = Memo(tmp_path, DESCRIPTIONS)
    add(memo, {f"k{n}": "text" * 50 for n in range(500)})
    whole = memo.path.read_bytes()
    memo.path.write_bytes(whole[: module.PAGE] + b"\xff" * (len(whole) - module.PAGE))
    with pytest.raises(DataError, match=r"descriptions.sqlite is damaged .*: run again, sound rows are kept"):
        memo.find(["k1"])


def test_a_file_that_another_run_keeps_busy_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memo = Memo(tmp_path, DESCRIPTIONS)
    add(memo, {"a": "A"})
    monkeypatch.setattr(module, "WAIT_S", 0.05)
    with memo.opened() as other:
        other.execute("BEGIN IMMEDIATE")
        assert texts(memo) == {"a": "A"}, "readers do not wait"
        with pytest.raises(DataError, match="is in use by another run: run again"):
            add(memo, {"b": "B"})


def test_a_lake_that_may_only_be_read_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memo = Memo(tmp_path, DESCRIPTIONS)
    add(memo, {"a": "A"})
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert texts(memo) == {"a": "A"}
    with pytest.raises(DataError, match="make the folder writable"):
        add(memo, {"b": "B"})
