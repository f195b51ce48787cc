"""What must hold of recommendations."""

from __future__ import annotations

import polars as pl

from rallrec_pipeline.lake import tables
from rallrec_pipeline.pipeline.checks.verdict import Verdict
from rallrec_pipeline.pipeline.context import StageRun


def nothing_seen_is_recommended(run: StageRun) -> Verdict:
    """No user is recommended what he has rated, or anything twice."""
    made = run.read(tables.RECOMMENDATIONS).select("user_id", "item_id")
    seen = made.join(run.read(tables.INTERACTIONS), on=["user_id", "item_id"], how="semi").height
    twice = made.height - made.unique().height
    return Verdict(not seen and not twice, {"rows": made.height, "seen": seen, "twice": twice})


def recommendations_are_whole(run: StageRun) -> Verdict:
    """Ranks of a user are 1 to n, probabilities lie in [0, 1], what stands behind an item is of the user's history."""
    made = run.read(tables.RECOMMENDATIONS)
    ranks = made.group_by("user_id").agg(pl.col("rank").sort() == pl.int_range(1, pl.len() + 1))
    broken = ranks.filter(~pl.col("rank").list.all()).height
    outside = made.filter(~pl.col("p_yes").is_between(0, 1).fill_null(False)).height  # NaN is not between
    lines = made.select("user_id", pl.col("because").alias("item_id")).explode("item_id").drop_nulls()
    foreign = lines.join(run.read(tables.INTERACTIONS), on=["user_id", "item_id"], how="anti").height
    figures = {"broken_ranks": broken, "outside_0_1": outside, "foreign_lines": foreign}
    return Verdict(not any(figures.values()), {"rows": made.height, **figures})


def rescored_candidates_are_whole(run: StageRun) -> Verdict:
    """Of the report's users: P(yes) lies in [0, 1]; each moment is a sample's, with no more rows than a shortlist."""
    settings = run.settings.recommendations
    if settings.method is None:
        return Verdict(True, {"rows": 0})
    made, moment = run.read(tables.RESCORED_CANDIDATES), ["user_id", "history_length"]
    held_out = run.read(tables.SAMPLES).filter(pl.col("split").is_in(["valid", "test"]))
    known = held_out.select("user_id", pl.col("history_length").cast(pl.Int32))
    figures = {
        "outside_0_1": made.filter(~pl.col("p_yes").is_between(0, 1).fill_null(False)).height,  # NaN is not between
        "twice": made.height - made.unique(tables.RESCORED_CANDIDATES.key).height,
        "too_long": made.group_by(moment).len().filter(pl.col("len") > settings.shortlist).height,
        "no_moment": made.join(known, on=moment, how="anti").height,
    }
    return Verdict(not any(figures.values()), {"rows": made.height, **figures})


def every_user_is_covered(run: StageRun) -> Verdict:
    """Every user of the ratings has recommendations, or is counted among those without, or was not to be drawn."""
    told = run.given("recommendations").metadata
    users = run.read(tables.INTERACTIONS)["user_id"].unique()
    covered = run.read(tables.RECOMMENDATIONS)["user_id"].unique()
    drawn = run.settings.recommendations.users
    lacking = users.filter(~users.is_in(covered.implode()))
    holds = bool(drawn) or len(lacking) <= told["without_any"]
    counts = {"users": len(users), "covered": len(covered), "lacking": len(lacking)}
    return Verdict(holds and len(covered) + told["without_any"] == told["users"], counts)
