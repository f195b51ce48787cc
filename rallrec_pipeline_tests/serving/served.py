"""A server in this process, and requests to it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import uvicorn
from starlette.testclient import TestClient

from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.parquet import write_table
from rallrec_pipeline.lake.store import Given, put_in_force
from rallrec_pipeline.serving.app import make_app
from rallrec_pipeline.serving.current import Current
from rallrec_pipeline.serving.loading import Loader
from rallrec_pipeline.serving.work import Work
from rallrec_pipeline.settings import ServingSettings, lake_root, load_settings
from rallrec_pipeline_tests.pipeline.given import in_force_now, store
from rallrec_pipeline_tests.pipeline.tiny import SMALL


@dataclass
class Served:
    """A client of the server, what the server has logged, and the snapshot at the start."""

    client: TestClient
    current: Current
    lines: list[str] = field(default_factory=list)

    def get(self, path: str, status: int = 200) -> Any:
        """The JSON of an answer, whose status is as expected."""
        return checked(self.client.get(path), status)

    def score(self, body: Any, status: int = 200) -> Any:
        """The JSON of an answer to `POST /score`; `body` is JSON-able, or the bytes themselves."""
        sent = {"content": body} if isinstance(body, bytes) else {"json": body}
        return checked(self.client.post("/score", **sent), status)


def checked(answer: Any, status: int) -> Any:
    """The JSON of an answer; a fault is one line and tells nothing of the inside."""
    found = answer.json()
    assert answer.status_code == status, found
    if status >= 400:
        assert list(found) == ["error"] and found["error"].isprintable(), found
        assert "Traceback" not in found["error"] and str(lake_root()) not in found["error"]
    return found


@contextmanager
def serving(loader: type[Loader] = Loader, **changed: Any) -> Iterator[Served]:
    """A server of the dataset in the lake of the environment; `changed` are settings of `[serving]`."""
    limits = load_settings().serving.model_copy(update={"poll_s": 0.02, **changed})
    lines: list[str] = []
    work = Work(limits)
    current = Current(loader(lake_root(), SMALL, None, lines.append), work, lines.append)
    with TestClient(make_app(current, work, limits, lake_root()), raise_server_exceptions=False) as client:
        yield Served(client, current, lines)


@contextmanager
def listening(current: Current, work: Work, limits: ServingSettings) -> Iterator[socket.socket]:
    """The same server on a real socket, and a connection to it."""
    config = uvicorn.Config(make_app(current, work, limits, lake_root()), log_level="warning")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            with socket.create_connection(bound.getsockname(), timeout=30) as connection:
                yield connection
        finally:
            server.should_exit = True
            thread.join()


def posted(body: bytes, length: int | None = None) -> bytes:
    """`POST /score` as it goes over the wire; `length` is what it says of its body."""
    return b"POST /score HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % (length or len(body)) + body


def until(served: Served, path: str, holds: Any, tries: int = 400) -> Any:
    """Ask until an answer is as wanted; each is a whole one, or says that there is none yet."""
    for _ in range(tries):
        answer = served.client.get(path)
        assert answer.status_code in (200, 503), answer.text
        if holds(answer.json()):
            return answer.json()
    raise AssertionError(answer.json())


def put_recommendations(lake: Path, items: dict[str, list[str]], variant: str = "demo") -> str:
    """Let `items` by user be what is recommended from now on; returns the fingerprint."""
    rows = [(user, rank, item) for user, own in items.items() for rank, item in enumerate(own, 1)]
    frame = pl.DataFrame(rows, schema={"user_id": pl.String, "rank": pl.Int32, "item_id": pl.String}, orient="row")
    frame = frame.with_columns(
        p_yes=pl.lit(0.5, pl.Float64),
        because=pl.lit(["i1"], pl.List(pl.String)),
        sources=pl.lit(["expert"], pl.List(pl.String)),
        method=pl.lit("rallrec"),
        fit=pl.lit("with this item"),
        model_fingerprint=pl.lit("model"),
        input_hash=pl.lit("hash"),
    )
    table = tables.RECOMMENDATIONS
    items = in_force_now(lake, SMALL, "items")
    inputs = {"items": Given(SMALL, items.fingerprint, items.data_version)}
    record = store(lake, SMALL, table.stage, lambda root: [write_table(frame, table, root, SMALL)], inputs=inputs)
    put_in_force(lake, record, variant, "run", {})
    return record.fingerprint
