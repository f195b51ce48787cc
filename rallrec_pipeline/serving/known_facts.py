"""The facts that a prompt may state, for a question: those of the batch where it knows them, else the same made now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.baselines.expectation import Expectation
from rallrec_pipeline.baselines.rating_log import RatingLog
from rallrec_pipeline.datasets.histories import training_interactions
from rallrec_pipeline.datasets.statistics import SHRINKAGE
from rallrec_pipeline.lake import tables
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.stages.prompts import stated_weights
from rallrec_pipeline.prompts.facts import Facts, ItemMeans
from rallrec_pipeline.serving.catalogue import ByUser
from rallrec_pipeline.serving.questions import USER, Question
from rallrec_pipeline.settings import Fact


@dataclass(frozen=True)
class KnownFacts:
    """Of the training ratings: `sums` has item_id, total and count, `rated` user_id and item_id, `mean` is that of all.

    `foretold` has user_id, item_id and expected, `fit` foretells what is not in it; None where no method states that.
    """

    sums: pl.DataFrame
    rated: ByUser
    mean: float
    is_implicit: bool
    foretold: ByUser | None
    fit: Expectation | None

    @classmethod
    def read(cls, run: StageRun, wanted: Sequence[Fact]) -> KnownFacts:
        """From the tables of a run's inputs."""
        core, samples = run.read(tables.CORE_INTERACTIONS), run.read(tables.SAMPLES)
        fit = None
        if "expected_rating" in wanted:
            log = RatingLog.of(core, samples, run.read(tables.CORE_ITEMS)["item_id"].to_list())
            fit = Expectation.of(log, run.spec.label.like_above, run.seeds.fits, stated_weights(run))
        return cls.of(core, samples, run.spec.is_implicit, run.read(tables.EXPECTED_RATINGS) if fit else None, fit)

    @classmethod
    def of(
        cls,
        core: pl.DataFrame,
        samples: pl.DataFrame,
        implicit: bool,
        foretold: pl.DataFrame | None,
        fit: Expectation | None,
    ) -> KnownFacts:
        """By the same training ratings as the stages take; `foretold` is the table `expected_ratings`."""
        training = samples.filter(pl.col("split") == "train") if implicit else training_interactions(core, samples)
        rating = pl.col("rating").cast(pl.Float64)
        sums = training.group_by("item_id").agg(rating.sum().alias("total"), pl.len().cast(pl.Int64).alias("count"))
        mean = float(training["rating"].cast(pl.Float64).mean() or 0.0)  # type: ignore[arg-type]
        rated = ByUser(training.select("user_id", "item_id"))
        return cls(sums, rated, mean, implicit, None if foretold is None else ByUser(foretold), fit)

    def facts(self, question: Question, wanted: Sequence[Fact]) -> Facts:
        """The facts in `wanted`; `sample_id` is the place of a target, `item_id` the number of an item."""
        samples = pl.DataFrame({"sample_id": pl.Series(range(len(question.targets)), dtype=pl.Int64)})
        return Facts(
            self._item_means(question, samples) if "item_mean" in wanted else None,
            samples.with_columns(user_mean=pl.lit(self._user_mean(question))) if "user_mean" in wanted else None,
            self._expected(question) if "expected_rating" in wanted else None,
        )

    def _item_means(self, question: Question, samples: pl.DataFrame) -> ItemMeans:
        ids = pl.DataFrame({"real": pl.Series(question.ids, dtype=pl.String)}).with_row_index("number")
        sums = ids.join(self.sums, left_on="real", right_on="item_id", how="left", maintain_order="left")
        sums = sums.with_columns(pl.col("total").fill_null(0.0), pl.col("count").fill_null(0))
        means = (pl.col("total") + SHRINKAGE * self.mean) / (pl.col("count") + SHRINKAGE)
        of_items = sums.select(means.cast(pl.Float32)).to_series()
        numbered = sums.select(pl.col("number").cast(pl.String).alias("item_id"), "total", "count")
        own = self.rated.rows(question.user_id)["item_id"].to_list() if question.user_id is not None else list[str]()
        pairs = ids.filter(pl.col("real").is_in(own))
        pairs = pairs.select(pl.lit(USER).alias("user_id"), pl.col("number").cast(pl.String).alias("item_id"))
        return ItemMeans(
            samples.with_columns(of_items.gather(question.targets).alias("item_mean")), numbered, pairs, self.mean
        )

    def _user_mean(self, question: Question) -> float:
        """As `rating_statistics` has it."""
        lines = len(question.history)
        total = float(lines) if self.is_implicit else float(question.ratings.astype(np.float64).sum())
        return float(np.float32((total + SHRINKAGE * self.mean) / (lines + SHRINKAGE)))

    def _expected(self, question: Question) -> pl.DataFrame:
        """Of each item of the question. That of a line is foretold by the lines before it.

        The table holds what was foretold at the moment of a rating, so it is taken where that moment is the question's.
        """
        ids = pl.DataFrame({"item_id": pl.Series(question.ids, dtype=pl.String)})
        found = pl.repeat(None, len(ids), dtype=pl.Float32, eager=True)
        if question.known_items and self.foretold is not None and question.user_id is not None:
            known = self.foretold.rows(question.user_id).filter(pl.col("item_id").is_in(list(question.known_items)))
            found = ids.join(known, on="item_id", how="left", maintain_order="left")["expected"]
        missing = np.flatnonzero(found.is_null().to_numpy()).astype(np.int32)
        numbers = [str(number) for number in range(len(ids))]
        expected = found.scatter(missing, self._foretell(question, missing)) if len(missing) else found
        return pl.DataFrame({"user_id": [USER] * len(ids), "item_id": numbers, "expected": expected})

    def _foretell(self, question: Question, items: NDArray[np.int32]) -> NDArray[np.float32]:
        """What is expected of `items`: of a line by the lines before it, of all others by the whole history."""
        assert self.fit is not None, "`read` makes a fit where a method states expected ratings"
        lines = np.full(len(question.codes), len(question.history), np.int32)
        lines[question.history] = np.arange(len(question.history))
        return self.fit.of_one_user(question.codes, question.history, question.ratings, items, lines[items])
