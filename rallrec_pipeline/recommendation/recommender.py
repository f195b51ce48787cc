"""From users to their next items: candidates of several sources, scored by an expert, the best kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.baselines.factorisation import Factorisation
from rallrec_pipeline.recommendation import scores
from rallrec_pipeline.recommendation.candidates import NO_ITEM, Candidates, propose
from rallrec_pipeline.recommendation.expert import CandidateExpert
from rallrec_pipeline.recommendation.fit import ExpertFit
from rallrec_pipeline.recommendation.today import Codes, Flags, Ratings, Visits
from rallrec_pipeline.settings import RecommendationSettings

if TYPE_CHECKING:
    import faiss

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Catalogue:
    """The m items that can be recommended, in the order of the index: vectors (m, d) of each kind.

    `has_ratings` (m,) says of which the fit has seen ratings.
    """

    item_ids: list[str]
    mixture: Floats
    text: Floats
    collaborative: Floats
    has_ratings: Flags


@dataclass(frozen=True)
class Best:
    """Items (n, N) of n visits, the best first, -1 padded; their P(yes), the bits and the score of their sources.

    `asked` says of which P(yes) is that of a dearer method.
    """

    items: Codes
    p_yes: NDArray[np.float64]
    proposed: NDArray[np.uint8]
    place: Floats
    asked: Flags

    @classmethod
    def nothing(cls, count: int) -> Best:
        """That of no visit."""
        return cls(
            np.zeros((0, count), np.int32),
            np.zeros((0, count)),
            np.zeros((0, count), np.uint8),
            np.zeros((0, count), np.float32),
            np.zeros((0, count), np.bool_),
        )

    def part(self, columns: NDArray[np.int64]) -> Best:
        """The items in `columns`, (s,) of all rows or (n, s) of each row its own."""
        if columns.ndim == 1:
            return Best(*(values[:, columns] for values in vars(self).values()))
        return Best(*(np.take_along_axis(values, columns, axis=1) for values in vars(self).values()))


@dataclass(frozen=True)
class Recommender:
    """All that users can be recommended by. `fit`, `stated` and `ratings` have the codes of `catalogue`.

    `fit` expects something of items without ratings; `stated` is the factorisation without that, of which prompts tell.
    """

    catalogue: Catalogue
    fit: ExpertFit
    stated: Factorisation
    ratings: Ratings
    index: faiss.Index
    settings: RecommendationSettings
    like_above: float
    trees: int
    seed: int
    is_signed: bool = False

    @cached_property
    def expert(self) -> CandidateExpert:
        """What scores the candidates."""
        return CandidateExpert(self.fit, self.ratings, self.catalogue.text, self.like_above, self.trees, self.seed)

    @cached_property
    def source(self) -> scores.Scorer:
        """The expert that scores the whole catalogue."""
        return self.whole(self.settings.source)

    def whole(self, name: str) -> scores.Scorer:
        """Scores of the whole catalogue by `popularity`, `factorisation`, `item_knn` or `lightgcn`."""
        if name == "popularity":
            return scores.popularity(self.fit)
        if name == "factorisation":
            return scores.factorisation(self.fit, self.ratings)
        if name == "lightgcn":
            return scores.lightgcn(self.catalogue.collaborative, self.ratings, self.is_signed)
        return scores.item_knn(self.fit, self.ratings)

    def candidates(self, visits: Visits) -> Candidates:
        """Candidates of a block of visits; of an empty history popularity speaks in place of the expert."""
        seen = self.ratings.seen(visits)
        users = scores.user_vectors(self.catalogue.mixture, self.ratings, visits)
        longest = int(seen.sum(axis=1).max(initial=0))
        near = scores.by_index(self.index, users, self.settings.candidates, longest)
        popular, empty = scores.popularity(self.fit)(visits), (visits.lengths == 0)[:, None]
        found = {"expert": np.where(empty, popular, self.source(visits)), "popularity": popular}
        if not self.catalogue.has_ratings.all():
            likeness = users @ self.catalogue.mixture.T
            found["new"] = np.where(self.catalogue.has_ratings, -np.inf, likeness).astype(np.float32)
        return propose(found, near, seen, visits.lengths, self.settings)

    def best(self, visits: Visits, count: int) -> Best:
        """The `count` best of each visit, all visits together."""
        parts = [self.best_of(visits[block], count) for block in visits.blocks(len(self.catalogue.item_ids))]
        if not parts:
            return Best.nothing(count)
        return Best(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))

    def best_of(self, visits: Visits, count: int) -> Best:
        """The same of a block of visits."""
        found = self.candidates(visits)
        return chosen(found, self.expert(visits, found.items), self.settings.order, count)


def worth(p_yes: NDArray[np.float64], place: NDArray[np.float64], order: str) -> NDArray[np.float64]:
    """What items are ranked by: P(yes), the score of the source, or both multiplied."""
    worths = {"p_yes": p_yes, "source": place, "both": p_yes * place}
    return worths[order]


def chosen(found: Candidates, p_yes: NDArray[np.float64], order: str, count: int) -> Best:
    """The `count` candidates that are highest by P(yes) (n, c), by the score of the source, or by both multiplied."""
    worths = np.where(found.items == NO_ITEM, -np.inf, worth(p_yes, found.place.astype(np.float64), order))
    first = np.lexsort((found.items, -worths))[:, :count]
    items, p = np.take_along_axis(found.items, first, axis=1), np.take_along_axis(p_yes, first, axis=1)
    bits, place = (np.take_along_axis(part, first, axis=1) for part in (found.proposed, found.place))
    padded = ((0, 0), (0, max(0, count - first.shape[1])))
    return Best(
        np.pad(items, padded, constant_values=NO_ITEM),
        np.pad(np.where(items == NO_ITEM, 0.0, p), padded),
        np.pad(bits, padded),
        np.pad(place, padded),
        np.zeros((len(items), first.shape[1] + padded[1][1]), np.bool_),
    )
