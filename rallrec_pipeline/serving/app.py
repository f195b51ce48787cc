"""The server as a Starlette application: five addresses, JSON in and out, one line for every fault."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

import rallrec_pipeline
from rallrec_pipeline.errors import RallrecError, RequestError
from rallrec_pipeline.finite import finite
from rallrec_pipeline.serving.current import Current
from rallrec_pipeline.serving.forgotten import Forgotten
from rallrec_pipeline.serving.openapi import MOST_SHOWN, SHOWN, document
from rallrec_pipeline.serving.questions import question_of
from rallrec_pipeline.serving.requests import BAD, TOO_LARGE, UNFIT, ScoreRequest, read_request
from rallrec_pipeline.serving.snapshot import ServedMethod, Snapshot, without_lake
from rallrec_pipeline.serving.work import Work
from rallrec_pipeline.settings import ServingSettings
from rallrec_pipeline.text import clean_text

PARAMETERS = "n", "fingerprint"
UNAVAILABLE, BROKEN = 503, 500
TOO_SLOW = 408
THROWN_AWAY = 8  # times the longest body that is taken: so much of a longer one is read to its end
LONG_BODY = 16_384  # bytes; to look at more may take some milliseconds


def make_app(current: Current, work: Work, limits: ServingSettings, lake: Path) -> Starlette:
    """The application; while it runs it watches for new results. No caller learns where `lake` lies.

    Raises DataError when nobody knows which users were forgotten.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        watching = asyncio.create_task(current.watch(limits.poll_s))
        yield
        watching.cancel()
        work.close()

    async def told(request: Request, error: Exception) -> Response:
        status = error.status if isinstance(error, RequestError) else UNAVAILABLE
        ends = {"connection": "close"} if status in (TOO_SLOW, TOO_LARGE) else {}  # whose body was not read to its end
        return _fault(status, without_lake(str(error), lake), ends)

    server = _Server(current, Forgotten(lake, current.snapshot.dataset), work, limits)
    return Starlette(
        routes=[
            Route("/users/{user_id:path}/recommendations", server.recommendations),
            Route("/score", server.score, methods=["POST"]),
            Route("/healthz", server.healthz),
            Route("/version", server.version),
            Route("/openapi.json", server.openapi),
        ],
        exception_handlers={RallrecError: told, HTTPException: _told_of_http, Exception: _told_of_a_defect},
        lifespan=lifespan,
    )


class _Server:
    def __init__(self, current: Current, forgotten: Forgotten, work: Work, limits: ServingSettings) -> None:
        self.current, self.forgotten, self.work, self.limits = current, forgotten, work, limits

    async def recommendations(self, request: Request) -> Response:
        snapshot, user_id = self.current.snapshot, request.path_params["user_id"]
        most = _count(_known(request.query_params).get("n"))
        self.forgotten.require_not(user_id)
        found = snapshot.recommended(request.query_params.get("fingerprint"))
        rows, kept = found.of(user_id, most)
        answer = {"fingerprint": found.fingerprint, "user_id": user_id, "kept": kept, "recommendations": rows}
        return _json(_head(snapshot) | answer)

    async def score(self, request: Request) -> Response:
        body = await self._body(request)
        if len(body) > LONG_BODY:  # others are answered while it is read
            asked = await asyncio.to_thread(read_request, body, self.limits)
        else:
            asked = read_request(body, self.limits)
        snapshot = self.current.snapshot
        self.forgotten.require_not(asked.user_id)
        name, method = snapshot.method(asked.method, asked.fingerprint)
        gone = asyncio.create_task(_gone(request))
        try:
            answer = await self.work.run(lambda: _answer(method, asked), method.answerer.uses_llm, gone)
        finally:
            gone.cancel()
        self.forgotten.require_not(asked.user_id)  # who was forgotten meanwhile is not answered either
        return _json(_head(snapshot) | {"method": name, "fingerprint": method.fingerprint, "targets": answer})

    async def healthz(self, request: Request) -> Response:
        snapshot = self.current.snapshot
        if snapshot.is_empty:
            return _fault(UNAVAILABLE, "nothing can be answered: GET /version says why")
        return _json({"status": "ok"})

    async def version(self, request: Request) -> Response:
        snapshot = self.current.snapshot
        parts = {"recommendations": snapshot.recommendations, **snapshot.methods}
        told = {
            name: {"missing": str(part)}
            if isinstance(part, RallrecError)
            else {"fingerprint": part.fingerprint, "made_from": snapshot.versions[name]}
            | ({"newer_failed": snapshot.failed[name]} if name in snapshot.failed else {})
            for name, part in parts.items()
        }
        own = {"program": rallrec_pipeline.__version__, "taken_at": snapshot.taken_at}
        return _json(_head(snapshot) | own | {"parts": told})

    async def openapi(self, request: Request) -> Response:
        return _json(document(self.current.snapshot, self.limits))

    async def _body(self, request: Request) -> bytes:
        """The body. Raises RequestError for one that is too long, after most of it was thrown away.

        A connection that is closed over what nobody has read is reset, and the answer is lost.
        """
        body, read = bytearray(), 0
        try:
            async with asyncio.timeout(self.limits.timeout_s):
                async for part in request.stream():
                    read += len(part)
                    if read <= self.limits.body_bytes:
                        body += part
                    elif read > THROWN_AWAY * self.limits.body_bytes:
                        break
        except TimeoutError as error:
            raise RequestError(TOO_SLOW, f"the body did not come within {self.limits.timeout_s:g} s") from error
        except ClientDisconnect as error:
            raise RequestError(BAD, "the caller has gone") from error
        if read > self.limits.body_bytes:
            raise self._too_large()
        return bytes(body)

    def _too_large(self) -> RequestError:
        return RequestError(TOO_LARGE, f"the body has more than {self.limits.body_bytes:,} bytes (serving.body_bytes)")


async def _gone(request: Request) -> None:
    """Ends when the caller of a request, whose body was read, has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _answer(method: ServedMethod, asked: ScoreRequest) -> list[dict[str, Any]]:
    """The targets with P(yes), in the order of the request."""
    question = question_of(asked, method.catalogue)
    found = method.answerer.answer(question, asked.explain)
    rows: list[dict[str, Any]] = []
    for place, number in enumerate(question.targets):
        row: dict[str, Any] = {"item_id": question.ids[number], "p_yes": float(found.p_yes[place])}
        if found.lines is not None:
            shown = found.lines[place]
            row["lines"] = [
                {"item_id": question.ids[int(line.item_id)], "line": _line_of(question.history, int(line.item_id))}
                | {"rating": line.rating, "change": line.change}
                for line in shown
            ]
        rows.append(row)
    return rows


def _line_of(history: Any, number: int) -> int:
    """Which line of the history an item is, the oldest is 0."""
    return int((history == number).argmax())


def _head(snapshot: Snapshot) -> dict[str, Any]:
    return {"dataset": snapshot.dataset, "variant": snapshot.variant}


def _known(parameters: QueryParams) -> QueryParams:
    """Raises RequestError for a parameter that is unknown or there twice."""
    names = [name for name, _ in parameters.multi_items()]
    for name in names:
        if name not in PARAMETERS or names.count(name) > 1:
            fault = "is there twice" if name in PARAMETERS else f"is unknown: there are {' and '.join(PARAMETERS)}"
            raise RequestError(UNFIT, f"the parameter {clean_text(name, 40)!r} {fault}")
    return parameters


def _count(text: str | None) -> int:
    """Raises RequestError for what is no number from 1 to `MOST_SHOWN`."""
    if text is None:
        return SHOWN
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MOST_SHOWN):
        raise RequestError(UNFIT, f"n is {clean_text(text, 20)!r}: give a number from 1 to {MOST_SHOWN:,}")
    return int(text)


def _json(value: Any, status: int = 200) -> Response:
    """JSON in ASCII: no text from data can break it, a lone surrogate neither."""
    return Response(json.dumps(finite(value), allow_nan=False) + "\n", status, media_type="application/json")


def _fault(status: int, message: str, headers: Any = None) -> Response:
    found = _json({"error": clean_text(message, 1000)}, status)
    found.headers.update(headers or {})
    return found


async def _told_of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    hint = ": GET /openapi.json tells the addresses" if error.status_code in (404, 405) else ""
    return _fault(error.status_code, f"{error.detail}{hint}", error.headers)


async def _told_of_a_defect(request: Request, error: Exception) -> Response:
    """The caller learns no more than that; the log has the traceback."""
    return _fault(BROKEN, "the server could not answer: its log says why")
