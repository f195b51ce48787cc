"""Bodies that are made to keep the server busy are refused at the price of reading them."""

from __future__ import annotations

import json
import time

import pytest

from rallrec_pipeline.errors import RequestError
from rallrec_pipeline.serving.requests import read_request
from rallrec_pipeline.settings import ServingSettings

LIMITS = ServingSettings()


def seconds_of(body: bytes, match: str) -> float:
    start = time.process_time()
    with pytest.raises(RequestError, match=match):
        read_request(body, LIMITS)
    return time.process_time() - start


def test_a_key_that_is_there_twice_is_found_in_one_pass() -> None:
    def body(keys: int) -> bytes:
        return ("{" + ",".join(f'"k{number}":0' for number in (*range(keys), keys - 1)) + "}").encode()

    small, large = (seconds_of(body(keys), "is there twice") for keys in (3_000, 48_000))
    assert large < 16 * 8 * max(small, 1e-3), "16 times the keys took more than a hundred times as long"


@pytest.mark.parametrize("name", ["targets", "history"])
def test_too_many_entries_are_counted_before_any_is_looked_at(name: str) -> None:
    entries = [{} for _ in range(100_000)]  # each of them wrong
    body = json.dumps({"targets": [{"item_id": "i1"}], name: entries}).encode()
    with pytest.raises(RequestError, match=f"{name}: 100,000 entries, at most"):
        read_request(body, LIMITS)
