"""The recommendations of all users at once; users of whom nothing has changed keep what they had."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.recommendation.because import lines_behind
from rallrec_pipeline.recommendation.candidates import Candidates
from rallrec_pipeline.recommendation.cascade import Rescoring, rescored
from rallrec_pipeline.recommendation.increments import item_versions, user_hashes
from rallrec_pipeline.recommendation.recommender import Best, Recommender, chosen
from rallrec_pipeline.recommendation.table import Maker, as_table
from rallrec_pipeline.recommendation.today import Ints, Visits
from rallrec_pipeline.retrieval.histories import Retriever

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
    what `rescoring` is told of users. `expert` gives P(yes) of what is not asked, `dearer` that of what is.
    """

    recommender: Recommender
    retriever: Retriever
    expert: Maker
    common: str
    texts: list[str]
    profiles: Mapping[str, str] = field(default_factory=dict)
    rescoring: Rescoring | None = None
    dearer: Maker | None = None

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
            best = Best.nothing(0)
            lines = np.zeros((0, 0, 0), np.int32)
        else:
            with _timed(steps[CANDIDATES], int((found.items >= 0).sum())):
                p_yes = recommender.expert(visits, found.items)
            if self.rescoring is None:
                best = chosen(found, p_yes, settings.order, settings.n)
            else:
                best = rescored(found, p_yes, visits, settings, _counting(self.rescoring, steps), settings.n)
            lines = lines_behind(self.retriever, recommender.ratings, visits, best.items)
        return as_table(ids, hashes, best, lines, recommender.catalogue, self.expert, self.dearer)


def _counting(rescoring: Rescoring, steps: Mapping[str, Step]) -> Rescoring:
    """`rescoring`, whose answers and seconds are counted."""

    def call(visits: Visits, items: NDArray[np.int32], p_yes: NDArray[np.float64]) -> NDArray[np.float64]:
        with _timed(steps[SHORTLIST], 0):
            found = rescoring(visits, items, p_yes)
        steps[SHORTLIST].predictions += int((np.isfinite(found) & (items >= 0)).sum())
        return found

    return call


@contextmanager
def _timed(step: Step, predictions: int) -> Iterator[None]:
    start = time.perf_counter()
    yield
    step.predictions += predictions
    step.seconds += time.perf_counter() - start


def _of(found: Candidates, rows: Ints) -> Candidates:
    return replace(found, **{name: values[rows] for name, values in vars(found).items()})
