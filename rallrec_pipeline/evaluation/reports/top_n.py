"""The figures of the report on recommendations: means over users with bootstrap intervals, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.evaluation.measures.bootstrap import draws
from rallrec_pipeline.evaluation.measures.significance import ALPHA, difference, holm, interval
from rallrec_pipeline.finite import finite

Floats = NDArray[np.float64]
ByUser = Mapping[str, Floats]
"""Measure at a depth -> its value for each user (n,), NaN where a user has none."""
CHOOSING = "ndcg_at_10"
"""By its mean over validation users the best method is chosen."""
COMPARED = ("recall_at_10", "ndcg_at_10")
PAIRED = tuple(f"{measure}_at_{k}" for measure in ("recall", "ndcg") for k in (5, 10, 20))
SAMPLING = "the full catalogue: every item that the user had not rated by then competes, and no negatives are sampled"


@dataclass(frozen=True)
class Ranked:
    """One method: its measures by user on validation and test users, and what all users together show.

    `cold_users` is of the test users with short histories, `cold_items` of all test users against liked items with few
    ratings. `seconds` are those of `pairs` users times items.
    """

    title: str
    valid: ByUser
    test: ByUser
    cold_users: ByUser
    cold_items: ByUser
    coverage: Mapping[str, float]
    seconds: float
    pairs: int


def build_top_n(
    ranked: Mapping[str, Ranked],
    about: Mapping[str, Any],
    resamples: int,
    seed: int,
    pairs: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The report, JSON-able; `about` is what else it tells. The method with the best validation NDCG@10 is chosen.

    `pairs` names methods, and to each the one that it is held against besides the chosen one.
    """
    chosen = max(ranked, key=lambda name: _mean(ranked[name].valid[CHOOSING], worst=True))
    slices = ("test", "cold_users", "cold_items")
    drawn = {
        part: _resampled({name: getattr(one, part) for name, one in ranked.items()}, resamples, seed) for part in slices
    }
    methods = {
        name: {
            "title": one.title,
            "valid": {measure: _mean(values) for measure, values in one.valid.items()},
            **{part: _figures(getattr(one, part), drawn[part][name]) for part in slices},
            "coverage": dict(one.coverage),
            "seconds": one.seconds,
            "scored": one.pairs,
            "seconds_per_million": one.seconds / one.pairs * 1e6 if one.pairs else None,
        }
        for name, one in ranked.items()
    }
    report = {
        **about,
        "candidates": SAMPLING,
        "chosen": chosen,
        "chosen_by": "mean NDCG@10",
        "methods": methods,
        "against_chosen": _against_chosen(ranked, drawn["test"], chosen),
        "pairs": _pairs(ranked, drawn["test"], pairs or {}),
    }
    return dict(finite(report))


def _mean(values: Floats, worst: bool = False) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else (float("-inf") if worst else float("nan"))


def _figures(by_user: ByUser, drawn: Mapping[str, Floats]) -> dict[str, dict[str, Any]]:
    found = {}
    for measure, values in by_user.items():
        told = interval(drawn[measure])
        known = int(np.isfinite(values).sum())
        found[measure] = {"value": _mean(values), "se": told.se, "ci": [told.low, told.high], "users": known}
    return found


def _resampled(ranked: Mapping[str, ByUser], resamples: int, seed: int) -> dict[str, dict[str, Floats]]:
    """Means over resampled users, the same users for all: method -> measure -> (resamples,)."""
    users = len(next(iter(next(iter(ranked.values())).values())))
    names = list(next(iter(ranked.values())))
    if not users:
        return {method: {name: np.zeros(0) for name in names} for method in ranked}
    stacked = {method: np.column_stack([by_user[name] for name in names]) for method, by_user in ranked.items()}
    parts: dict[str, list[Floats]] = {method: [] for method in ranked}
    for counts in draws(users, resamples, np.random.default_rng(seed)):
        for method, values in stacked.items():
            known = np.isfinite(values)
            weight = counts @ known
            total = counts @ np.where(known, values, 0)
            parts[method].append(np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0))
    return {m: dict(zip(names, np.concatenate(part).T, strict=True)) for m, part in parts.items()}


def _against_chosen(
    ranked: Mapping[str, Ranked], drawn: Mapping[str, Mapping[str, Floats]], chosen: str
) -> dict[str, dict[str, Any]]:
    """The chosen method minus each other; Holm's correction is over the others."""
    others = [name for name in ranked if name != chosen]
    found: dict[str, dict[str, Any]] = {name: {} for name in others}
    for measure in COMPARED:
        told = _differences(ranked, drawn, [(chosen, other) for other in others], measure)
        for name, one in zip(others, told, strict=True):
            found[name][measure] = one
    return found


def _pairs(
    ranked: Mapping[str, Ranked], drawn: Mapping[str, Mapping[str, Floats]], pairs: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Each method minus what it is held against, by every measure of `PAIRED`; Holm's correction is over methods."""
    found: dict[str, dict[str, Any]] = {name: {"other": other} for name, other in pairs.items()}
    for measure in PAIRED:
        for name, one in zip(pairs, _differences(ranked, drawn, list(pairs.items()), measure), strict=True):
            found[name][measure] = one
    return found


def _differences(
    ranked: Mapping[str, Ranked],
    drawn: Mapping[str, Mapping[str, Floats]],
    pairs: Sequence[tuple[str, str]],
    measure: str,
) -> list[dict[str, Any]]:
    """The first minus the second of each pair, on the same test users; the pairs are one family of tests."""
    told = [
        difference(
            drawn[first][measure],
            drawn[second][measure],
            _mean(ranked[first].test[measure]) - _mean(ranked[second].test[measure]),
        )
        for first, second in pairs
    ]
    return [
        {"difference": one.difference, "se": one.se, "ci": [one.low, one.high], "p_value": one.p_value}
        | {"p_holm": p, "significant": bool(p < ALPHA)}
        for one, p in zip(told, holm([one.p_value for one in told]), strict=True)
    ]
