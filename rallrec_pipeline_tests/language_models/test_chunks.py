"""Chunks: the same cut however many are in work, nothing finished is lost, and progress only grows."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from rallrec_pipeline.language_models import chunks
from rallrec_pipeline.language_models.chunks import in_chunks
from rallrec_pipeline.language_models.protocols import Progress

ROWS = list(range(23))


@pytest.mark.parametrize("at_once", [1, 2, 8])
def test_the_cut_does_not_depend_on_how_many_are_in_work(at_once: int) -> None:
    seen: list[tuple[int, int]] = []

    def work(chunk: Sequence[int], part: Progress | None) -> list[int]:
        time.sleep(0.002 * (chunk[0] % 3))  # later chunks overtake earlier ones
        return list(chunk)

    found = list(in_chunks(work, ROWS, 5, at_once, lambda *state: seen.append(state)))
    assert sorted(found) == [ROWS[start : start + 5] for start in range(0, 23, 5)]
    assert seen == sorted(set(seen)) and seen[-1] == (23, 23)


def test_so_many_chunks_are_in_work_and_no_more() -> None:
    both = threading.Barrier(2, timeout=10)  # broken unless two are in work at a time
    running, most, lock = 0, 0, threading.Lock()

    def work(chunk: Sequence[int], part: Progress | None) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait()
        with lock:
            running -= 1

    assert len(list(in_chunks(work, ROWS[:20], 5, 2))) == 4 and most == 2


def test_what_chunks_in_work_have_done_is_told_before_one_of_them_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "LOOK_EVERY_S", 0.01)
    seen: list[tuple[int, int]] = []
    told = threading.Event()

    def work(chunk: Sequence[int], part: Progress | None) -> None:
        assert part is not None
        part(3, len(chunk))
        assert told.wait(10), "neither ends before both are told of"

    def report(*state: int) -> None:
        seen.append((state[0], state[1]))
        if state[0] == 6:
            told.set()

    assert len(list(in_chunks(work, ROWS[:10], 5, 2, report))) == 2
    assert (6, 10) in seen and seen == sorted(set(seen)) and seen[-1] == (10, 10)


def test_after_an_error_no_chunk_is_begun_and_those_in_work_are_given_out() -> None:
    begun: list[int] = []

    def work(chunk: Sequence[int], part: Progress | None) -> int:
        begun.append(chunk[0])
        if chunk[0] == 5:
            raise ValueError("the second chunk")
        time.sleep(0.2)
        return chunk[0]

    found: list[int] = []
    with pytest.raises(ValueError, match="the second chunk"):
        found.extend(in_chunks(work, ROWS, 5, 3))
    assert sorted(begun) == [0, 5, 10] and sorted(found) == [0, 10]


def test_no_rows_are_no_work() -> None:
    assert list(in_chunks(lambda chunk, part: chunk, [], 5, 3)) == []


@pytest.mark.parametrize("at_once", [1, 3])
def test_when_there_is_enough_no_chunk_is_begun_and_those_in_work_are_given_out(at_once: int) -> None:
    begun: list[int] = []

    def work(chunk: Sequence[int], part: Progress | None) -> int:
        begun.append(chunk[0])
        time.sleep(0.01 * (1 + len(begun)))
        return chunk[0]

    found: list[int] = []
    for one in in_chunks(work, ROWS, 2, at_once, enough=lambda: bool(found)):
        found.append(one)
    assert sorted(found) == sorted(begun) == list(range(0, 2 * at_once, 2))
