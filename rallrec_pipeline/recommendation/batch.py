"""The recommendations of all users at once; users of whom nothing has changed keep what they had."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.recommendation.because import lines_behind
from rallrec_pipeline.recommendation.candidates import Candidates
from rallrec_pipeline.recommendation.increments import item_versions, user_hashes
from rallrec_pipeline.recommendation.recommender import Best, Recommender, chosen
from rallrec_pipeline.recommendation.table import as_table
from rallrec_pipeline.recommendation.today import Codes, Ints, Visits
from rallrec_pipeline.retrieval.histories import Retriever


class Rescoring(Protocol):
    """A dearer method that is asked about a shortlist."""

    def __call__(self, visits: Visits, items: Codes) -> NDArray[np.float64]:
        """P(yes) (n, s) of `items` (n, s); what is said of padding (-1) is not looked at."""


CATALOGUE, CANDIDATES, SHORTLIST = "catalogue", "candidates", "shortlist"
"""Steps of the cascade: all items by the sources, the candidates by the expert, the shortlist by the dearer method."""


@dataclass
class Step:
    """How many pairs of a user and an item a step has scored, and in how many seconds."""

    predictions: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Recommended:
    """The table, the provenance of each user, and how many users were worked on."""

    table: pl.DataFrame
    rows: pl.DataFrame
    computed: int
    steps: Mapping[str, Step]
    """What each step of the cascade has cost."""


@dataclass(frozen=True)
class Batch:
    """How users are recommended items: by whom, what stands behind an item, and under which name.

    `common` is the hash of all that all users depend on; `texts` (m,) what else is known of each item, `profiles`
    what `rescoring` is told of users.
    """

    recommender: Recommender
    retriever: Retriever
    method: str
    model_fingerprint: str
    common: str
    texts: list[str]
    profiles: Mapping[str, str] = field(default_factory=dict)
    rescoring: Rescoring | None = None

    def run(self, visits: Visits, previous: pl.DataFrame | None, progress: Callable[[int, int], None]) -> Recommended:
        """The recommendations of `visits`; rows of `previous` that hold are taken from there."""
        catalogue, names = self.recommender.catalogue, np.array(self.recommender.ratings.sequences.user_ids, object)
        vectors = np.concatenate([catalogue.mixture, catalogue.text, catalogue.collaborative], axis=1)
        versions = item_versions(catalogue.item_ids, vectors, self.texts)
        parts: list[pl.DataFrame] = []
        known = set() if previous is None else set(previous["input_hash"])
        hashes: list[str] = []
        steps = {name: Step() for name in (CATALOGUE, CANDIDATES, SHORTLIST)}
        computed = 0
        for block in visits.blocks(len(catalogue.item_ids)):
            some = visits[block]
            with _timed(steps[CATALOGUE], len(some) * len(catalogue.item_ids)):
                found = self.recommender.candidates(some)
            own = user_hashes(self.recommender.ratings, some, found.items, versions, self.common, self.profiles)
            stale = np.flatnonzero([one not in known for one in own]).astype(np.int64)
            ids = names[some.users[stale]].tolist()
            parts.append(self._made(some[stale], _of(found, stale), ids, [own[row] for row in stale], steps))
            hashes.extend(own)
            computed += len(stale)
            progress(len(hashes), len(visits))
        rows = {"user_id": names[visits.users].tolist(), "input_hash": hashes, "history_length": visits.lengths}
        made = pl.DataFrame(rows, schema={"user_id": pl.String, "input_hash": pl.String, "history_length": pl.Int64})
        parts.append(self._made(visits[:0], None, [], [], steps))
        if previous is not None:
            parts.append(previous.filter(pl.col("input_hash").is_in(made["input_hash"].implode())))
        return Recommended(pl.concat(parts).sort("user_id", "rank"), made, computed, steps)

    def _made(
        self,
        visits: Visits,
        found: Candidates | None,
        ids: list[str],
        hashes: list[str],
        steps: Mapping[str, Step],
    ) -> pl.DataFrame:
        """The rows of a block of users."""
        settings, recommender = self.recommender.settings, self.recommender
        if found is None or not len(visits):
            best = Best(np.zeros((0, 0), np.int32), np.zeros((0, 0)), np.zeros((0, 0), np.uint8))
            lines = np.zeros((0, 0, 0), np.int32)
        else:
            with _timed(steps[CANDIDATES], int((found.items >= 0).sum())):
                p_yes = recommender.expert(visits, found.items)
            if self.rescoring is not None:
                found, _ = shortlist(found, p_yes, settings.order, settings.shortlist)
                with _timed(steps[SHORTLIST], int((found.items >= 0).sum())):
                    p_yes = self.rescoring(visits, found.items)
            best = chosen(found, p_yes, settings.order, settings.n)
            lines = lines_behind(self.retriever, recommender.ratings, visits, best.items)
        return as_table(ids, hashes, best, lines, recommender.catalogue, self.method, self.model_fingerprint)


def shortlist(
    found: Candidates, p_yes: NDArray[np.float64], order: str, count: int
) -> tuple[Candidates, NDArray[np.float64]]:
    """The `count` best of the candidates by the expert, and what it says of them."""
    best = chosen(found, p_yes, order, min(count, found.items.shape[1]))
    place = np.zeros(best.items.shape, np.float32)
    for column in range(best.items.shape[1]):
        same = found.items == best.items[:, [column]]
        place[:, column] = np.where(same, found.place, 0).max(axis=1, initial=0)
    return Candidates(best.items, best.proposed, place), best.p_yes


@contextmanager
def _timed(step: Step, predictions: int) -> Iterator[None]:
    start = time.perf_counter()
    yield
    step.predictions += predictions
    step.seconds += time.perf_counter() - start


def _of(found: Candidates, rows: Ints) -> Candidates:
    return replace(found, **{name: values[rows] for name, values in vars(found).items()})
