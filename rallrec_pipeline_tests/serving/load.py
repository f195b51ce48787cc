"""Many callers at once, with next to no work of their own: each asks again when it is answered."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field


@dataclass
class Load:
    """What callers saw: seconds of each answer, and whatever was no 200."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def p95_ms(self) -> float:
        """The time within which 95% of the answers came."""
        return 1000 * sorted(self.seconds)[int(0.95 * len(self.seconds))]


def get(path: str) -> bytes:
    """A request for a path."""
    return f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode()


def post(path: str, body: bytes) -> bytes:
    """A request with a JSON body."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def put_load_on(host: str, port: int, requests: list[bytes], callers: int, seconds: float) -> Load:
    """`callers` ask `requests` in turn for so many seconds."""
    load = Load()
    asyncio.run(_all(load, host, port, requests, callers, seconds))
    return load


async def _all(load: Load, host: str, port: int, requests: list[bytes], callers: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    await asyncio.gather(
        *(
            _caller(load, host, port, requests[n % len(requests) :] + requests[: n % len(requests)], end)
            for n in range(callers)
        )
    )


async def _caller(load: Load, host: str, port: int, requests: list[bytes], end: float) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    place = 0
    while time.monotonic() < end:
        start = time.perf_counter()
        try:
            writer.write(requests[place % len(requests)])
            status = await _answered(reader)
        except (OSError, asyncio.IncompleteReadError) as error:
            load.failures.append(repr(error))
            return
        load.seconds.append(time.perf_counter() - start)
        if status != b"200":
            load.failures.append(status.decode())
        place += 1
    writer.close()


async def _answered(reader: asyncio.StreamReader) -> bytes:
    """The status of an answer, read to its end."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    await reader.readexactly(int(length))
    return head.split(b" ")[1]
