"""The cascade: an expert orders all candidates, and a dearer method puts a few of them in order anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.recommendation.candidates import NO_ITEM, Candidates
from rallrec_pipeline.recommendation.recommender import Best, chosen, worth
from rallrec_pipeline.recommendation.today import Codes, Flags, Ints, Visits
from rallrec_pipeline.settings import RecommendationSettings

Floats = NDArray[np.float64]


class Rescoring(Protocol):
    """A dearer method that is asked about a shortlist."""

    def __call__(self, visits: Visits, items: Codes, p_yes: Floats) -> Floats:
        """P(yes) (n, s) of `items` (n, s), those that matter most first; NaN where the method was not asked.

        `p_yes` (n, s) is what the expert says; what is said of padding (-1) is not looked at.
        """


def places_asked(settings: RecommendationSettings) -> Ints:
    """Places (s,) in the expert's order, 0 is the best, that a dearer method is asked about; the most important first.

    The places of a smaller shortlist are the first of these.
    """
    every = np.arange(settings.candidates)
    distance = every if settings.asked == "best" else np.abs(every - (settings.n - 0.5))
    return np.argsort(distance, kind="stable")[: settings.shortlist]


def rescored(
    found: Candidates,
    p_yes: Floats,
    visits: Visits,
    settings: RecommendationSettings,
    rescoring: Rescoring,
    count: int,
    order: str | None = None,
) -> Best:
    """The `count` best candidates, of which `rescoring` has put those at `places_asked` in order anew.

    The places of the items that were asked about are dealt out among them by the new P(yes). All others keep theirs, so
    that no P(yes) of one method is held against that of another. `order` says how they are dealt out, if not as
    `settings` order the candidates.
    """
    places = places_asked(settings)
    depth = max(count, int(places.max(initial=-1)) + 1)
    first = chosen(found, p_yes, settings.order, depth)
    answers = rescoring(visits, first.items[:, places], first.p_yes[:, places])
    ascending = np.argsort(places)
    columns, answers = places[ascending], answers[:, ascending]
    asked = np.isfinite(answers) & (first.items[:, columns] != NO_ITEM)
    p_yes = first.p_yes.copy()
    p_yes[:, columns] = np.where(asked, answers, p_yes[:, columns])
    is_asked = first.asked.copy()
    is_asked[:, columns] = asked
    answered = replace(first, p_yes=p_yes, asked=is_asked)
    moved = _dealt_out(answered.part(columns), order or settings.order)
    comes = np.broadcast_to(np.arange(depth), first.items.shape).copy()
    comes[:, columns] = columns[moved]
    return answered.part(comes).part(np.arange(count))


def _dealt_out(best: Best, order: str) -> Ints:
    """The column that comes to each place (n, s): those that were asked by their worth, among the places they hold."""
    worths = np.where(best.asked, worth(best.p_yes, best.place.astype(np.float64), order), -np.inf)
    by_worth = np.lexsort((best.items, -worths))
    held = np.argsort(~best.asked, axis=1, kind="stable")
    number = np.arange(best.items.shape[1])
    comes = np.where(number < best.asked.sum(axis=1, keepdims=True), by_worth, held)
    found = np.empty_like(comes)
    np.put_along_axis(found, held, comes, axis=1)
    return np.asarray(found, np.int64)


def tokens_added(groups: Sequence[int], tokens: Sequence[Sequence[int]]) -> Ints:
    """Tokens (n,) that each prompt has besides those that it begins with like the first one of its group."""
    first: dict[int, Sequence[int]] = {}
    found = np.zeros(len(tokens), np.int64)
    for row, (group, own) in enumerate(zip(groups, tokens, strict=True)):
        known = first.setdefault(group, own)
        found[row] = len(own) - (0 if known is own else _shared(known, own))
    return found


def _shared(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens both begin with."""
    shortest = min(len(first), len(second))
    return next((place for place in range(shortest) if first[place] != second[place]), shortest)


def within_budget(groups: Sequence[int], added: Ints, most: int) -> Flags:
    """Which prompts (n,) are read when each group may have `most` tokens: from the first on, as long as they fit."""
    spent: dict[int, int] = {}
    found = np.zeros(len(added), np.bool_)
    for row, (group, tokens) in enumerate(zip(groups, added.tolist(), strict=True)):
        spent[group] = spent.get(group, 0) + tokens
        found[row] = spent[group] <= most
    return found


@dataclass(frozen=True)
class Answers:
    """What a method has said of items of visits, looked up and not asked again: by user, history length and item."""

    p_yes: Mapping[tuple[int, int, int], float]

    def __call__(self, visits: Visits, items: Codes, p_yes: Floats) -> Floats:
        """As `Rescoring`; NaN for what it was never asked."""
        rows = visits.rows(items)
        keys = zip(rows.users.tolist(), rows.lengths.tolist(), rows.targets.tolist(), strict=True)
        return np.array([self.p_yes.get(key, np.nan) for key in keys], np.float64).reshape(items.shape)
