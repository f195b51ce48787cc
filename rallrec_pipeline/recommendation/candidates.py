"""Which items of the catalogue are scored for a user: several sources propose, each by its share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.settings import RecommendationSettings

Codes = NDArray[np.int32]
Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
SOURCES = ("index", "expert", "popularity", "new")
NO_ITEM = -1  # where there are fewer candidates than asked for


@dataclass(frozen=True)
class Candidates:
    """Items (n, c) of n visits, none twice and none seen, in no particular order; -1 pads.

    `proposed` (n, c) has a bit for each of `SOURCES`, 0 for what only fills up; `place` (n, c) is the score of the
    expert that proposes, from 0 for the lowest candidate to 1 for the highest. An item without ratings has none, and
    gets the mean of the others.
    """

    items: Codes
    proposed: NDArray[np.uint8]
    place: Floats


def quotas(settings: RecommendationSettings) -> dict[str, int]:
    """Items that each source proposes of a user with a history."""
    shares = {
        "index": settings.index_share,
        "expert": settings.expert_share,
        "popularity": settings.popularity_share,
        "new": settings.new_share,
    }
    return {source: round(share * settings.candidates) for source, share in shares.items()}


def propose(
    scores: Mapping[str, Floats],
    near: NDArray[np.int64],
    seen: Flags,
    lengths: NDArray[np.int64],
    settings: RecommendationSettings,
) -> Candidates:
    """Candidates of n visits by `scores` (n, m) of expert, popularity and (-inf for items with ratings) new ones.

    `near` (n, k) are places that the index found, the nearest first. With a history shorter than `newcomer` popularity
    takes the place of the index. The expert fills up what sources share.
    """
    wanted = quotas(settings)
    proposed = np.zeros(seen.shape, np.uint8)
    newcomer = lengths < settings.newcomer
    _mark(proposed, _first(near, seen, np.where(newcomer, 0, wanted["index"])), 0)
    _mark(proposed, best_unseen(scores["expert"], seen, wanted["expert"]), 1)
    popular = np.where(newcomer, wanted["popularity"] + wanted["index"], wanted["popularity"])
    most = best_unseen(scores["popularity"], seen, int(popular.max(initial=0)))
    _mark(proposed, np.where(np.arange(most.shape[1]) < popular[:, None], most, NO_ITEM), 2)
    if "new" in scores:
        _mark(proposed, best_unseen(scores["new"], seen, wanted["new"]), 3)
    count = min(settings.candidates + ("new" in scores) * wanted["new"], seen.shape[1])
    new = np.isfinite(scores["new"][0]) if "new" in scores and len(seen) else np.zeros(seen.shape[1], np.bool_)
    return _filled(proposed, scores["expert"], seen, new, count)


def sources_of(bits: int) -> list[str]:
    """Names of the sources of one candidate; what only fills up is the expert's."""
    return [name for place, name in enumerate(SOURCES) if bits >> place & 1] or ["expert"]


def _first(near: NDArray[np.int64], seen: Flags, quota: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first `quota` (n,) of `near` (n, k) that are not seen, the others -1."""
    new = near >= 0
    new[new] &= ~seen[np.nonzero(new)[0], near[new]]
    return np.where(new & (np.cumsum(new, axis=1) <= quota[:, None]), near, NO_ITEM)


def best_unseen(scores: Floats, seen: Flags, quota: int) -> NDArray[np.int64]:
    """Places (n, at most quota) with the highest finite score that are not seen, the best first; -1 pads."""
    k = min(quota, scores.shape[1])
    if k == 0:
        return np.full((len(scores), 0), NO_ITEM)
    masked = np.where(seen, -np.inf, scores)
    best = np.argpartition(-masked, k - 1, axis=1)[:, :k]
    values = np.take_along_axis(masked, best, axis=1)
    order = np.lexsort((best, -values))  # of equals the first in the catalogue
    best, values = np.take_along_axis(best, order, axis=1), np.take_along_axis(values, order, axis=1)
    return np.where(np.isfinite(values), best, NO_ITEM)


def _mark(proposed: NDArray[np.uint8], places: NDArray[np.int64], bit: int) -> None:
    rows, columns = np.nonzero(places >= 0)
    proposed[rows, places[rows, columns]] |= np.uint8(1 << bit)


def _filled(proposed: NDArray[np.uint8], expert: Floats, seen: Flags, new: Flags, count: int) -> Candidates:
    """The proposed items, and after them the expert's best, `count` together; `new` (m,) are items without ratings."""
    lift = np.float32(2 * (np.abs(expert).max(axis=1, initial=0, keepdims=True) + 1))  # of the row alone
    best = best_unseen(np.where(proposed > 0, expert + lift, expert), seen, count)
    known = best >= 0
    places = np.maximum(best, 0)
    bits = np.where(known, np.take_along_axis(proposed, places, axis=1), 0)
    judged = known & ~new[places]
    place = _from_0_to_1(np.take_along_axis(expert, places, axis=1), judged)
    mean = place.sum(axis=1, keepdims=True) / np.maximum(judged.sum(axis=1, keepdims=True), 1)
    place = np.where(known & ~judged, mean, place)
    return Candidates(best.astype(np.int32), bits.astype(np.uint8), place.astype(np.float32))


def _from_0_to_1(scores: Floats, judged: Flags) -> Floats:
    """`scores` (n, c) of the cells that are `judged`, from 0 for the lowest of a row to 1 for its highest; else 0."""
    low = np.where(judged, scores, np.inf).min(axis=1, initial=np.inf, keepdims=True)
    high = np.where(judged, scores, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
    span = np.where(high > low, high - low, 1)
    return np.where(judged, (scores - np.where(np.isfinite(low), low, 0)) / span, 0).astype(np.float32)
