"""The one loop over rows: each key once, stored as it is finished, the same however often it is broken off."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import DESCRIPTIONS, SCORES
from rallrec_pipeline.language_models.protocols import Progress
from rallrec_pipeline.language_models.rows import Completed, complete_rows

WORDS = st.lists(st.text("abc", max_size=4), max_size=25)


class Engine:
    """Turns a chunk into texts that tell which chunk it was; breaks off at its `stop`-th call."""

    def __init__(self, stop: int | None = None, calls_at_once: int = 1) -> None:
        self.stop, self.calls_at_once, self.lock = stop, calls_at_once, threading.Lock()
        self.chunks: list[list[str]] = []

    def work(self, batch: Sequence[str]) -> list[str]:
        with self.lock:
            if self.stop is not None and len(self.chunks) == self.stop:
                raise KeyboardInterrupt
            self.chunks.append(list(batch))
        return [f"{text} in {'|'.join(batch)}" for text in batch]


def complete(
    inputs: Sequence[str], lake: Path, engine: Engine, run: str = "run", progress: Progress | None = None
) -> Completed:
    def work(loaded: Engine, batch: Mapping[str, str], part: Progress | None) -> dict[str, list[Any]]:
        assert list(batch) == [f"key of {text}" for text in batch.values()]
        if part is not None:
            part(len(batch), len(batch))
        return {"text": loaded.work(list(batch.values()))}

    keys = [f"key of {text}" for text in inputs]
    return complete_rows(keys, inputs, Memo(lake, DESCRIPTIONS), lambda: engine, work, str, 3, run, progress)


@settings(max_examples=25)
@given(WORDS)
def test_rows_come_in_the_order_of_the_keys_and_each_is_computed_once(inputs: list[str]) -> None:
    with TemporaryDirectory() as folder:
        engine = Engine()
        done = complete(inputs, Path(folder), engine)
        asked = sorted(set(inputs))
        assert engine.chunks == [asked[start : start + 3] for start in range(0, len(asked), 3)]
        assert done.rows["key"].to_list() == [f"key of {text}" for text in inputs]
        assert [text.split(" in ")[0] for text in done.rows["text"]] == inputs
        assert done.made.height == len(asked) and set(done.rows["run_id"]) <= {"run"}
        again = complete(inputs[::-1], Path(folder), Engine(stop=0), "later")
        assert again.rows.equals(done.rows.reverse()) and again.made.is_empty()


@settings(max_examples=25)
@given(WORDS, st.lists(st.integers(0, 3), max_size=4), st.sampled_from([1, 2]))
def test_however_often_it_is_broken_off_it_ends_alike(inputs: list[str], stops: list[int], at_once: int) -> None:
    with TemporaryDirectory() as broken, TemporaryDirectory() as whole:
        chunks = 0
        for stop in stops:
            engine = Engine(stop, at_once)
            with contextlib.suppress(KeyboardInterrupt):
                complete(inputs, Path(broken), engine)
            chunks += len(engine.chunks)
        last = Engine(calls_at_once=at_once)
        ended, undisturbed = complete(inputs, Path(broken), last), complete(inputs, Path(whole), Engine())
        assert ended.rows["text"].equals(undisturbed.rows["text"])
        assert chunks + len(last.chunks) == -(-len(set(inputs)) // 3), "no chunk was computed twice"


def test_a_finished_chunk_is_stored_before_the_next_is_asked_for(tmp_path: Path) -> None:
    class Watching(Engine):
        def work(self, batch: Sequence[str]) -> list[str]:
            before = [f"key of {text}" for chunk in self.chunks for text in chunk]
            assert Memo(tmp_path, DESCRIPTIONS).known(before) == set(before)
            return super().work(batch)

    engine = Watching()
    complete(list("abcdefgh"), tmp_path, engine)
    assert len(engine.chunks) == 3


def test_without_missing_rows_no_engine_is_loaded(tmp_path: Path) -> None:
    def no_engine() -> NoReturn:
        raise AssertionError("nothing is missing")

    memo = Memo(tmp_path, SCORES)
    done = complete_rows([], [], memo, no_engine, lambda *_: {}, str, 3, "run")
    assert done.rows.is_empty() and done.made.is_empty() and dict(done.rows.schema) == SCORES.schema
    assert not memo.path.exists()


def test_progress_counts_the_missing_rows(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    complete(["a", "b"], tmp_path, Engine())
    complete(list("abcdefg"), tmp_path, Engine(), progress=lambda *state: seen.append(state))
    assert seen == [(3, 5), (5, 5)]


def test_a_reused_row_keeps_the_run_that_made_it(tmp_path: Path) -> None:
    complete(["a"], tmp_path, Engine(), "one")
    done = complete(["b", "a", "b"], tmp_path, Engine(), "two")
    assert done.rows["run_id"].to_list() == ["two", "one", "two"]
    assert done.made["key"].to_list() == ["key of b"]


def test_too_few_inputs_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="zip"):
        complete_rows(["a", "b"], ["a"], Memo(tmp_path, SCORES), Engine, lambda *_: {}, str, 3, "run")
