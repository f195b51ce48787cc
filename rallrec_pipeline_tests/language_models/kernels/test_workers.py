"""Forward passes side by side: the same results in the same order, and the caller's threads left as they were."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice

import pytest
import torch

from rallrec_pipeline.language_models.kernels.workers import AHEAD, Workers

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_workers_share_the_threads_and_leave_those_of_the_caller() -> None:
    workers = Workers(CPU, 2)
    met = threading.Barrier(2)  # both must be in work at once

    def threads_of_a_pass(_: int) -> tuple[int, bool]:
        met.wait(10)
        return torch.get_num_threads(), torch.is_inference_mode_enabled()

    assert list(workers.map(threads_of_a_pass, range(4))) == [(2, True)] * 4
    assert torch.get_num_threads() == 4 and not torch.is_inference_mode_enabled()
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [4], "a thread that comes later has what the caller has"


def test_results_come_in_order_and_no_more_are_made_than_wanted() -> None:
    workers, begun, slow = Workers(CPU, 4), [], threading.Event()

    def compute(part: int) -> int:
        begun.append(part)
        if part == 0:
            slow.wait(0.2)
        return part * part

    first = list(islice(workers.map(compute, iter(range(1000))), 3))
    assert first == [0, 1, 4]
    assert len(begun) <= 3 + AHEAD * workers.count


def test_an_error_of_a_pass_is_raised_where_its_result_is_due() -> None:
    def compute(part: int) -> int:
        if part == 2:
            raise ValueError("no memory")
        return part

    got = Workers(CPU, 2).map(compute, range(9))
    assert [next(got), next(got)] == [0, 1]
    with pytest.raises(ValueError, match="no memory"):
        next(got)


def test_one_worker_is_the_caller_itself() -> None:
    for workers in (Workers(CPU, 1), Workers(torch.device("meta"), 8)):
        assert workers.count == 1
        assert workers.call(threading.get_ident) == threading.get_ident()
