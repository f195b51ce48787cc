"""What nobody waits for is given up, and others get their turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from rallrec_pipeline.errors import RequestError
from rallrec_pipeline.serving.work import Work, require_wanted
from rallrec_pipeline.settings import ServingSettings

LONG_S = 20


@pytest.fixture
def work() -> Iterator[Work]:
    found = Work(ServingSettings(timeout_s=0.2, waiting=2))
    yield found
    found.close()


def in_parts() -> str:
    """Long work that looks after each part whether anybody waits."""
    end = time.monotonic() + LONG_S
    while time.monotonic() < end:
        require_wanted()
        time.sleep(0.01)
    return "done"


async def told(work: Work) -> str:
    with pytest.raises(RequestError) as found:
        await work.run(in_parts, uses_llm=True)
    return str(found.value)


def test_an_answer_that_takes_too_long_makes_room_for_the_next(work: Work) -> None:
    async def asked() -> tuple[str, str]:
        first = await told(work)
        return first, await work.run(lambda: "next", uses_llm=True)

    start = time.monotonic()
    first, second = asyncio.run(asked())
    assert "ask for less at once" in first and second == "next" and time.monotonic() - start < LONG_S / 2


def test_one_that_had_no_turn_is_told_so_and_a_third_is_turned_away(work: Work) -> None:
    async def asked() -> list[str]:
        return await asyncio.gather(told(work), told(work), told(work))

    messages = asyncio.run(asked())
    assert "ask for less at once" in messages[0] and "others are being scored" in messages[1]
    assert "2 requests are being scored" in messages[2]


def test_a_caller_who_goes_and_a_server_that_stops_end_the_work(work: Work) -> None:
    async def asked() -> None:
        gone = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(work.run(in_parts, True, gone))
        await asyncio.sleep(0.05)
        gone.set_result(None)
        with pytest.raises(RequestError, match="the caller has gone"):
            await task
        assert await work.run(lambda: True, uses_llm=True)
        last = asyncio.create_task(work.run(in_parts, uses_llm=True))
        await asyncio.sleep(0.05)
        work.close()
        assert isinstance((await asyncio.gather(last, return_exceptions=True))[0], RequestError)

    start = time.monotonic()
    asyncio.run(asked())
    assert time.monotonic() - start < LONG_S / 2
