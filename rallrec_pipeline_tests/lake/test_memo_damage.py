"""Finished rows whose bytes have changed: never used, told, and of a damaged file every sound row is saved."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rallrec_pipeline.errors import DamagedError, DataError, StaleArtefactError
from rallrec_pipeline.lake import memo_file as module
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import DESCRIPTIONS, KINDS, SCORES, VECTORS, Kind
from rallrec_pipeline.language_models.rows import complete_rows
from rallrec_pipeline_tests.faults.forks import killed_at_change
from rallrec_pipeline_tests.lake.flips import flip, rewrite

KEYS = [f"{number:032x}" for number in range(300)]
TABLE = "CREATE TABLE rows (key TEXT PRIMARY KEY NOT NULL, prompt, text, status, attempts, run_id, created_at)"


def rows_of(kind: Kind) -> pl.DataFrame:
    own = {
        "descriptions": {"prompt": [f"Describe {key}." for key in KEYS], "text": [f"é text of {key}" for key in KEYS]},
        "scores": {"probabilities": [[0.25, 0.75]] * len(KEYS), "seconds": [0.125] * len(KEYS)},
        "traces": {"text": [f"thought of {key}" for key in KEYS], "tokens": [3] * len(KEYS), "ended": [1] * len(KEYS)},
        "vectors": {"vector": [bytes.fromhex(key) * 24 for key in KEYS], "data_version": KEYS},
    }[kind.name]
    rows = {"key": KEYS, **own, "run_id": ["run"] * len(KEYS), "created_at": ["2026-01-01"] * len(KEYS)}
    return pl.DataFrame(rows, schema_overrides={name: kind.schema[name] for name in rows})


def found(memo: Memo) -> pl.DataFrame:
    return memo.find(KEYS).sort("key")


def edit(memo: Memo, statement: str) -> None:
    with closing(sqlite3.connect(memo.path)) as connection, connection:
        connection.execute(statement)


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_whatever_bit_flips_no_row_is_wrong_and_nearly_all_are_saved(tmp_path: Path, kind: Kind) -> None:
    memo, chance = Memo(tmp_path, kind), random.Random(7)
    memo.add(rows_of(kind))
    whole, sound = memo.path.read_bytes(), found(memo)
    header = range(100) if kind is SCORES else ()  # each byte of it
    places, lost = [*header, *(chance.randrange(len(whole)) for _ in range(40))], []
    for at in places:
        flip(memo.path, chance, at, at + 1)
        told = list[str]()
        again = Memo(tmp_path, kind, told.append)
        module._mended.clear()
        harm = again.damage()[1]
        again.mend()
        rows = found(again)
        assert rows.join(sound, on=sound.columns, how="semi", nulls_equal=True).height == rows.height, at
        lost.append(len(KEYS) - rows.height)
        if lost[-1]:
            assert harm and told, at
        again.add(rows_of(kind))
        assert found(again).equals(sound) and not again.damage()[1], at
        rewrite(memo.path, whole)
    page = len(KEYS) * module.PAGE // len(whole) + 1
    assert max(lost) <= 2 * page < len(KEYS) and 0 in lost
    assert [path.name for path in memo.path.parent.iterdir()] == [memo.path.name]


def test_a_damaged_row_is_computed_again_and_takes_its_place(tmp_path: Path, log: list[str]) -> None:
    memo = Memo(tmp_path, DESCRIPTIONS, log.append)
    memo.add(rows_of(DESCRIPTIONS))
    edit(memo, f"UPDATE rows SET text = 'another' WHERE key = '{KEYS[5]}'")
    edit(memo, f"UPDATE rows SET text = x'ff' WHERE key = '{KEYS[6]}'")
    edit(memo, f"UPDATE rows SET checksum = NULL WHERE key = '{KEYS[7]}'")
    assert memo.damage() == (300, ["3 rows are damaged"])
    asked = list[str]()

    def work(engine: None, part: dict[str, str], progress: object) -> dict[str, list[str]]:
        asked.extend(part)
        return {"text": [f"é text of {key}" for key in part]}

    done = complete_rows(KEYS, KEYS, memo, lambda: None, work, lambda key: key, 10, "run")  # type: ignore[arg-type]
    assert asked == KEYS[5:8] and done.made.height == 3
    assert done.rows["text"].to_list() == [f"é text of {key}" for key in KEYS]
    assert any("3 rows are damaged and made anew" in line for line in log) and memo.damage() == (300, [])


def test_a_row_under_a_damaged_key_goes_with_a_prune(tmp_path: Path) -> None:
    memo = Memo(tmp_path, DESCRIPTIONS)
    memo.add(rows_of(DESCRIPTIONS))
    edit(memo, f"UPDATE rows SET key = 'flipped' WHERE key = '{KEYS[0]}'")
    assert memo.damage()[1] == ["1 row is damaged"] and found(memo).height == 299
    assert memo.prune(KEYS, "2020")[0] == 1 and memo.damage() == (299, [])


def test_a_row_under_a_damaged_key_goes_with_the_next_work(tmp_path: Path, log: list[str]) -> None:
    memo = Memo(tmp_path, SCORES, log.append)
    memo.add(rows_of(SCORES))
    edit(memo, f"UPDATE rows SET key = 'flipped' WHERE key = '{KEYS[0]}'")
    assert memo.damage()[1] == ["1 row is damaged"]
    memo.mend()
    assert memo.damage() == (299, []) and found(memo)["key"].to_list() == KEYS[1:]
    assert "1 row is damaged and made anew" in log[0]


def test_a_file_that_is_no_database_at_all_is_replaced(tmp_path: Path, log: list[str]) -> None:
    memo = Memo(tmp_path, SCORES, log.append)
    memo.add(rows_of(SCORES))
    for content in (b"", b"nonsense" * 100, memo.path.read_bytes()[: module.PAGE + 100]):
        memo.path.write_bytes(content)
        module._mended.clear()
        assert memo.damage()[1]
        memo.mend()
        assert found(memo).is_empty()
        memo.add(rows_of(SCORES))
        assert found(memo).height == 300
    assert sum("was damaged: 0 rows are saved" in line for line in log) == 3


def test_who_waited_while_another_run_mended_the_file_keeps_what_that_has_stored_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Memo(tmp_path, SCORES), Memo(tmp_path, SCORES)
    second.path.parent.mkdir()
    second.path.touch()
    locked = second._locked

    def after_the_first() -> AbstractContextManager[None]:
        first.mend()
        first.add(rows_of(SCORES))
        return locked()

    monkeypatch.setattr(second, "_locked", after_the_first)
    second.mend()
    assert found(second).height == 300 and second.damage() == (300, [])


def test_what_another_run_stores_while_a_file_is_mended_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memo, salvage = Memo(tmp_path, SCORES), module.salvage_rows
    rows = rows_of(SCORES)
    memo.add(rows[:200])
    with memo.path.open("r+b") as file:
        file.write(b"no header")
    others: list[threading.Thread] = []

    def salvaged(*arguments: Any) -> int:
        saved = salvage(*arguments)
        others.append(threading.Thread(target=Memo(tmp_path, SCORES).add, args=(rows[200:],)))
        others[0].start()
        others[0].join(0.2)  # it waits, where it must not write to what is about to be replaced
        return saved

    monkeypatch.setattr(module, "salvage_rows", salvaged)
    module._mended.clear()
    memo.mend()
    others[0].join()
    assert found(memo).height == len(KEYS) and memo.damage() == (300, [])


def test_a_file_is_mended_only_where_there_is_room_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memo = Memo(tmp_path, SCORES)
    memo.add(rows_of(SCORES))
    with memo.path.open("r+b") as file:
        file.write(b"no header")
    module._mended.clear()
    with monkeypatch.context() as small:
        small.setattr(module, "SALVAGE_ROOM", 1 << 60)
        with pytest.raises(DataError, match=r"no space left to mend .*: free some disk space"):
            memo.mend()
    memo.mend()
    assert found(memo).height == len(KEYS), "no row was lost meanwhile"


def test_an_empty_file_is_named_and_who_looks_leaves_it_so(tmp_path: Path) -> None:
    memo = Memo(tmp_path, VECTORS)
    memo.add(rows_of(VECTORS))
    memo.path.write_bytes(b"")
    for look in (lambda: memo.find(KEYS), lambda: memo.known(KEYS)):
        with pytest.raises(DamagedError, match=r"is damaged \(it is empty\): run again"):
            look()
        assert len(memo.damage()[1]) == 1 and memo.path.read_bytes() == b""


@pytest.mark.process
def test_a_process_killed_while_it_makes_the_file_leaves_none_that_is_empty(tmp_path: Path) -> None:
    memo, kills = Memo(tmp_path, SCORES), 0

    def work() -> None:
        with memo.opened(create=True):
            pass

    while killed_at_change(work, kills + 1):
        kills += 1
        assert not memo.path.exists() or memo.damage() == (0, [])
        memo.path.unlink(missing_ok=True)
    assert kills > 5 and memo.damage() == (0, [])
    assert [path.name for path in memo.path.parent.iterdir()] == [memo.path.name]


def test_what_killed_processes_were_making_of_the_file_goes_with_the_next_work(tmp_path: Path) -> None:
    memo = Memo(tmp_path, SCORES)
    memo.add(rows_of(SCORES))
    draft = memo.path.with_name(".check-scores-abcd_123")
    draft.mkdir()
    (draft / "copy.sqlite").write_bytes(b"half")
    for end in ("", "-wal"):
        memo.path.with_name(f".scores.sqlite.0a1b2c3d.tmp{end}").write_bytes(b"half")
    other = memo.path.with_name(".vectors.sqlite.0a1b2c3d.tmp")
    other.write_bytes(b"of another kind, whose lock another may hold")
    memo.mend()
    assert {path.name for path in memo.path.parent.iterdir()} == {memo.path.name, other.name}
    assert found(memo).height == 300


def test_what_the_last_writer_had_not_moved_into_the_file_is_saved_too(tmp_path: Path) -> None:
    memo = Memo(tmp_path, VECTORS)
    memo.add(rows_of(VECTORS)[:200])
    with memo.opened() as other:  # as long as another reads, what is added stays beside the file
        other.execute("BEGIN")
        other.execute("SELECT * FROM rows").fetchone()
        memo.add(rows_of(VECTORS)[200:])
        beside, content = memo.path.with_name(memo.path.name + "-wal").read_bytes(), memo.path.read_bytes()
    copied = Memo(tmp_path / "copied", VECTORS)
    copied.path.parent.mkdir(parents=True)
    copied.path.write_bytes(content[: 6 * module.PAGE] + b"\xff" * module.PAGE + content[7 * module.PAGE :])
    copied.path.with_name(copied.path.name + "-wal").write_bytes(beside)
    assert copied.damage()[1]
    copied.mend()
    assert set(found(copied)["key"]) >= set(KEYS[200:]) and found(copied).height > 250
    assert [path.name for path in copied.path.parent.iterdir()] == [copied.path.name]


def test_a_new_file_takes_nothing_from_the_journal_of_one_that_is_gone(tmp_path: Path) -> None:
    memo = Memo(tmp_path, SCORES)
    with memo.opened(create=True) as other:  # as long as another reads, what is added stays in the journal
        other.execute("BEGIN")
        other.execute("SELECT * FROM rows").fetchone()
        memo.add(rows_of(SCORES)[:200])
        beside = memo.path.with_name(memo.path.name + "-wal")
        journal = beside.read_bytes()
    memo.path.unlink()
    beside.write_bytes(journal)
    memo.add(rows_of(SCORES)[250:])
    assert found(memo)["key"].to_list() == sorted(KEYS[250:]) and memo.damage() == (50, [])


def old_file(lake: Path) -> Memo:
    """A memo as it was before rows had checksums."""
    memo = Memo(lake, DESCRIPTIONS)
    memo.path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(memo.path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"{TABLE} WITHOUT ROWID")
        rows = [(key, "p", f"text of {key}", "ok", 1, "run", "2026") for key in KEYS]
        connection.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        connection.execute("PRAGMA user_version = 1")
    return memo


def test_a_file_of_an_older_version_gets_its_checksums(tmp_path: Path) -> None:
    memo = old_file(tmp_path)
    assert found(memo)["text"].to_list() == [f"text of {key}" for key in KEYS] and memo.damage() == (300, [])
    edit(memo, f"UPDATE rows SET text = 'another' WHERE key = '{KEYS[5]}'")
    assert found(memo).height == 299
    edit(memo, "PRAGMA user_version = 1")  # an older program was here: it adds rows without
    edit(memo, "INSERT INTO rows (key, text) VALUES ('new', 'new')")
    assert memo.find(["new"])["text"].to_list() == ["new"] and found(memo).height == 299


def test_an_old_file_that_may_only_be_read_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memo = old_file(tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    before = memo.path.read_bytes()
    assert found(memo).height == 300 and memo.damage() == (300, []) and memo.path.read_bytes() == before


def test_a_file_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    memo = Memo(tmp_path, DESCRIPTIONS)
    memo.add(rows_of(DESCRIPTIONS))
    edit(memo, "UPDATE rows SET checksum = 'made in another way'")
    edit(memo, "PRAGMA user_version = 7")
    for work in (lambda: found(memo), memo.mend):
        with pytest.raises(StaleArtefactError, match="is of a newer version of this program: update it"):
            work()
    assert Memo(tmp_path, DESCRIPTIONS).path.exists() and issubclass(DamagedError, DataError)
