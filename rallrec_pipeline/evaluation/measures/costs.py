"""What predictions cost: seconds and tokens, as measured and per million predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MILLION = 1_000_000
NO_SECONDS = "the seconds were not recorded"
NO_PREDICTIONS = "the number of predictions was not recorded, or is 0"
NO_TOKENS = "no tokens were counted: the run that made the table scored no row, or its record is of an earlier version"


@dataclass(frozen=True)
class Cost:
    """What a method took; None where it is not known.

    `seconds` were spent on `predictions` rows, `fit_seconds` of them on a fit before, which no further row costs again;
    `prompt_tokens` were spent on `token_rows` of the rows.
    """

    seconds: float | None = None
    predictions: int | None = None
    prompt_tokens: int | None = None
    token_rows: int | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    """Of a merge the methods that it is made of, each with the share of rows that it is asked about."""
    fit_seconds: float = 0.0

    @property
    def seconds_per_row(self) -> float | None:
        """Without the fit; None where it is not known."""
        if self.seconds is None or not self.predictions:
            return None
        return max(0.0, self.seconds - self.fit_seconds) / self.predictions

    @property
    def tokens_per_row(self) -> float | None:
        """None where it is not known."""
        return self.prompt_tokens / self.token_rows if self.prompt_tokens is not None and self.token_rows else None


def merged_cost(members: Mapping[str, Cost], shares: Mapping[str, float], rows: int) -> Cost:
    """The cost of `rows` predictions that are made of `members`, each asked about its share of them.

    Seconds and tokens are the sums over members; None where that of one is not known.
    """
    seconds = _total({name: cost.seconds_per_row for name, cost in members.items()}, shares)
    tokens = _total({name: cost.tokens_per_row for name, cost in members.items()}, shares)
    return Cost(
        None if seconds is None else seconds * rows,
        rows,
        None if tokens is None else round(tokens * rows),
        rows,
        dict(shares),
    )


def _total(per_row: Mapping[str, float | None], shares: Mapping[str, float]) -> float | None:
    known = {name: one for name, one in per_row.items() if one is not None}
    return sum(known[name] * share for name, share in shares.items()) if shares.keys() <= known.keys() else None


def told_cost(cost: Cost) -> dict[str, Any]:
    """The cost as plain values, with what a million predictions would take, and why a value is null."""
    found: dict[str, Any] = {
        "seconds": cost.seconds,
        "fit_seconds": cost.fit_seconds,
        "predictions": cost.predictions,
        "seconds_per_million": _per_million(cost.seconds_per_row),
        "prompt_tokens": cost.prompt_tokens,
        "tokens_per_million": _per_million(cost.tokens_per_row),
    }
    per_million = NO_SECONDS if cost.seconds is None else NO_PREDICTIONS
    reasons = {"seconds": NO_SECONDS, "predictions": NO_PREDICTIONS, "seconds_per_million": per_million}
    why = {key: reasons.get(key, NO_TOKENS) for key, value in found.items() if value is None}
    return found | ({"shares": dict(cost.shares)} if cost.shares else {}) | {"not_defined": why}


def _per_million(per_row: float | None) -> float | None:
    return None if per_row is None else per_row * MILLION
