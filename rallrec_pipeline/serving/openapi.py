"""The OpenAPI document of the server, made of the same models that read requests."""

from __future__ import annotations

from typing import Any

import rallrec_pipeline
from rallrec_pipeline.serving.requests import ScoreRequest
from rallrec_pipeline.serving.snapshot import Snapshot
from rallrec_pipeline.settings import ServingSettings

VERSION = "3.1.0"
SHOWN, MOST_SHOWN = 10, 1000  # recommendations in an answer: without `n`, and at most
_TEXT, _NUMBER, _OBJECT = {"type": "string"}, {"type": "number"}, {"type": "object"}
_TEXTS = {"type": "array", "items": _TEXT}
_ID = {"type": ["string", "null"]}
_PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
_HEAD = {"dataset": _TEXT, "variant": _TEXT}


def document(snapshot: Snapshot, limits: ServingSettings) -> dict[str, Any]:
    """The document; what it says of methods and limits is what holds now."""
    asked = ScoreRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas = {**asked.pop("$defs"), "ScoreRequest": asked, **_answers()}
    told = schemas["ScoreRequest"]["properties"]
    told["method"]["examples"] = list(snapshot.methods)
    told["targets"]["maxItems"] = limits.targets
    told["history"]["anyOf"][0]["maxItems"] = limits.history_lines
    return {
        "openapi": VERSION,
        "info": {
            "title": "rallrec",
            "version": rallrec_pipeline.__version__,
            "description": f"Recommendations of {snapshot.dataset} ({snapshot.variant}). A fault is one line: `error`.",
        },
        "paths": _paths(limits),
        "components": {"schemas": schemas},
    }


def _paths(limits: ServingSettings) -> dict[str, Any]:
    user = {"name": "user_id", "in": "path", "required": True, "schema": _TEXT}
    number = {"type": "integer", "minimum": 1, "maximum": MOST_SHOWN, "default": SHOWN}
    n = {"name": "n", "in": "query", "schema": number}
    fingerprint = {"name": "fingerprint", "in": "query", "schema": _TEXT, "description": "Answer only by this result."}
    faults = {
        "400": "The body is no JSON.",
        "408": "The body did not come in time.",
        "413": f"The body has more than {limits.body_bytes:,} bytes.",
    }
    common = {"404": "An unknown user, item or method.", "409": "Another result is in force.", "422": "A wrong value."}
    busy = {"503": "Nothing was made yet, or too much is asked at once."}
    return {
        "/users/{user_id}/recommendations": {
            "get": _operation(
                "The next items of a user", "Recommended", common | busy, parameters=[user, n, fingerprint]
            )
        },
        "/score": {
            "post": _operation(
                "P(yes) of items for a history", "Scored", faults | common | busy, requestBody=_body("ScoreRequest")
            )
        },
        "/healthz": {"get": _operation("Whether anything can be answered", "Health", busy)},
        "/version": {"get": _operation("What is in force", "Version", {})},
        "/openapi.json": {"get": _operation("This document", "Document", {})},
    }


def _operation(summary: str, answer: str, faults: dict[str, str], **more: Any) -> dict[str, Any]:
    told = {status: {"description": why, **_content("Fault")} for status, why in faults.items()}
    return {"summary": summary, **more, "responses": {"200": {"description": summary, **_content(answer)}, **told}}


def _body(schema: str) -> dict[str, Any]:
    return {"required": True, **_content(schema)}


def _content(schema: str) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of}


def _answers() -> dict[str, Any]:
    line = _object(item_id=_ID, line={"type": "integer"}, rating=_NUMBER, change=_NUMBER)
    target = _object(item_id=_ID, p_yes=_PROBABILITY)
    target["properties"]["lines"] = _list(line)
    texts = dict.fromkeys(("item_id", "title", "method", "fit", "model_fingerprint"), _TEXT)
    row = _object(**texts, rank={"type": "integer"}, p_yes=_PROBABILITY, because=_TEXTS, sources=_TEXTS)
    return {
        "Recommended": _object(
            **_HEAD, fingerprint=_TEXT, user_id=_TEXT, kept={"type": "integer"}, recommendations=_list(row)
        ),
        "Scored": _object(**_HEAD, method=_TEXT, fingerprint=_TEXT, targets=_list(target)),
        "Health": _object(status=_TEXT),
        "Version": _object(**_HEAD, program=_TEXT, taken_at=_TEXT, parts=_OBJECT),
        "Document": _OBJECT,
        "Fault": _object(error=_TEXT),
    }
