"""The ratings and means that a prompt shows, for a control: does the LLM do more than average them?

What a factorisation expects, which a prompt may state too, is not among them.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.statistics import rating_statistics
from rallrec_pipeline.prompts.facts import make_facts

Floats = NDArray[np.float32]
SHOWN = "reranked"  # the history of the tuned method


def prompt_numbers(
    histories: pl.DataFrame, core: pl.DataFrame, samples: pl.DataFrame, training: pl.DataFrame
) -> dict[str, Floats]:
    """Five numbers of each row of `histories` (table `retrieved_histories`, of one retriever): name -> (n,) float32.

    The target's mean rating; the mean of the ratings shown, and that weighted by 1/rank, the most relevant first; both
    minus the means of their items. All are as prompts state them: no mean knows its own answer (`prompts/facts.py`).
    `training` are the ratings that the means are made of.
    """
    facts = make_facts(["item_mean"], rating_statistics(core, samples), histories, training)
    lists = histories.select(
        pl.int_range(pl.len(), dtype=pl.UInt32).alias("row"),
        "user_id",
        pl.col(SHOWN).alias("item_id"),
        pl.col(f"{SHOWN}_ratings").alias("rating"),
    )
    shown = lists.filter(pl.col("item_id").list.len() > 0).explode("item_id", "rating")
    shown = shown.with_columns(
        (1 / pl.int_range(1, pl.len() + 1).over("row")).alias("weight"),
        pl.col("rating").cast(pl.Float64),
        (pl.col("rating") - facts.history_mean(shown)).alias("above"),
    )
    weight = pl.col("weight")
    means = shown.group_by("row").agg(
        pl.col("rating").mean().alias("shown_mean"),
        ((pl.col("rating") * weight).sum() / weight.sum()).alias("shown_weighted"),
        pl.col("above").mean().alias("shown_above"),
        ((pl.col("above") * weight).sum() / weight.sum()).alias("shown_weighted_above"),
    )
    found = lists.select("row").join(means, on="row", how="left", maintain_order="left").drop("row")
    overall = pl.lit(float(training["rating"].cast(pl.Float64).mean() or 0.0))  # type: ignore[arg-type]
    numbers = found.select(
        facts.target_mean(histories["sample_id"]).fill_null(overall).alias("target_mean"),
        pl.col("shown_mean", "shown_weighted").fill_null(overall),
        pl.col("shown_above", "shown_weighted_above").fill_null(0.0),
    )
    return {name: numbers[name].to_numpy().astype(np.float32) for name in numbers.columns}
