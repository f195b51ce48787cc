"""What predictions cost: seconds and tokens, as measured and per million predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MILLION = 1_000_000
_UNKNOWN = {
    "seconds": "the seconds were not recorded",
    "predictions": "the number of predictions was not recorded",
    "prompt": "no row was scored by the run that made the table, so no tokens were counted",
    "tokens": "no row was scored by the run that made the table, so no tokens were counted",
}


@dataclass(frozen=True)
class Cost:
    """What a method took; None where it is not known.

    `seconds` were spent on `predictions` rows, `prompt_tokens` on `token_rows` of them.
    """

    seconds: float | None = None
    predictions: int | None = None
    prompt_tokens: int | None = None
    token_rows: int | None = None


def told_cost(cost: Cost) -> dict[str, Any]:
    """The cost as plain values, with what a million predictions would take, and why a value is null."""
    found: dict[str, Any] = {
        "seconds": cost.seconds,
        "predictions": cost.predictions,
        "seconds_per_million": _per_million(cost.seconds, cost.predictions),
        "prompt_tokens": cost.prompt_tokens,
        "tokens_per_million": _per_million(cost.prompt_tokens, cost.token_rows),
    }
    why = {key: _UNKNOWN[key.split("_")[0]] for key, value in found.items() if value is None}
    return found | {"not_defined": why}


def _per_million(spent: float | None, rows: int | None) -> float | None:
    return spent / rows * MILLION if spent is not None and rows else None
