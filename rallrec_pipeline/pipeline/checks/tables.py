"""What must hold of interactions, core tables and samples."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import polars as pl

from rallrec_pipeline.datasets.histories import LIKED_BOUNDS, evaluated
from rallrec_pipeline.datasets.order import exact_times
from rallrec_pipeline.datasets.protocol_spec import DatesSpec, Statistic
from rallrec_pipeline.datasets.tables import RATINGS, REPEATED, bad_ratings, refused_ratings
from rallrec_pipeline.lake import tables
from rallrec_pipeline.pipeline.checks.verdict import EXAMPLES, Verdict, row_told
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.text import clean_text


def few_rejected_rows(run: StageRun) -> Verdict:
    """The dataset's own bound on the share of raw ratings that were refused."""
    rejected, kept = run.read(tables.REJECTED_ROWS), run.read(tables.INTERACTIONS).height
    reasons = refused_ratings(rejected)
    bad = bad_ratings(reasons, run.spec.is_implicit)
    share, bound = bad / max(1, reasons.len() + kept), run.spec.max_rejected
    figures = {"rejected": reasons.len(), "counted": bad, "share": share, "bound": bound}
    return Verdict(share <= bound, figures, [] if share <= bound else _refused(run, rejected))


def _refused(run: StageRun, rejected: pl.DataFrame) -> list[str]:
    """Some of the ratings that count against the file, of each reason in turn."""
    ratings = rejected.filter(pl.col("table") == RATINGS)
    if run.spec.is_implicit:
        ratings = ratings.filter(~pl.col("reason").is_in(list(REPEATED.values())))
    turn = pl.int_range(pl.len()).over("reason").alias("turn")
    shown = ratings.with_columns(turn).sort("turn", maintain_order=True).head(EXAMPLES)
    return [row_told(*row) for row in shown.select("file", "line", "reason").iter_rows()]


def k_core_holds(run: StageRun) -> Verdict:
    """Ratings of each user and item lie within the protocol's bounds."""
    core, rules = run.read(tables.CORE_INTERACTIONS), run.spec.protocol
    # An item limit that cuts after the fixed point, as the published code does, leaves users with fewer.
    cut_after = rules.item_limit is not None and not rules.item_limit_first
    users = _within(core, "user_id", 1 if cut_after else rules.user_core, rules.user_cap)
    items = _within(core, "item_id", rules.item_core, rules.item_cap)
    outside = [*_outside(core, "user_id", users), *_outside(core, "item_id", items)]
    return Verdict(users["holds"] and items["holds"], {"users": users, "items": items}, outside[:EXAMPLES])


def splits_follow_time(run: StageRun) -> Verdict:
    """No training sample is later than a validation sample, none of those later than a test sample.

    Where the protocol names days, each split lies between its own. Where it splits users: no user is in two splits,
    none has two targets, and (in a source with times) none has rated anything of the core after the target.
    Leave-last-out: see `_last_are_left_out`.
    """
    samples = run.read(tables.SAMPLES)
    if run.spec.protocol.split == "last":
        return _last_are_left_out(run, samples)
    if run.spec.protocol.split == "user":
        splits = samples.group_by("user_id").agg(pl.col("split").n_unique(), pl.col("history_length").n_unique())
        torn = splits.filter((pl.col("split") > 1) | (pl.col("history_length") > 1)).height
        late = _targets_before_others(run, samples)
        figures = {"users": splits.height, "users_in_two_splits": torn, "targets_before_others": late}
        return Verdict(torn == 0 and late == 0, figures)
    spans = {
        split: (low, high)
        for split, low, high in samples.group_by("split")
        .agg(pl.col("timestamp").min().alias("first"), pl.col("timestamp").max().alias("last"))
        .iter_rows()
    }
    ordered = [spans[split] for split in ("train", "valid", "test") if split in spans]
    holds = all(earlier[1] <= later[0] for earlier, later in pairwise(ordered))
    holds = holds and all(_within_days(split, *span, run.spec.protocol.dates) for split, span in spans.items())
    return Verdict(holds and "train" in spans and "test" in spans, {k: list(v) for k, v in spans.items()})


def _within_days(split: str, first: int, last: int, dates: DatesSpec | None) -> bool:
    """Whether the days of a split's first and last sample are those that the protocol gives it."""
    if dates is None:
        return True
    begin, end = {
        "train": (dates.train, dates.valid),
        "valid": (dates.valid, dates.test),
        "test": (dates.test, dates.end),
    }[split]
    days = [datetime.fromtimestamp(second, UTC).date() for second in (first, last)]
    return (begin is None or begin <= days[0]) and (end is None or days[1] < end)


def _last_are_left_out(run: StageRun, samples: pl.DataFrame) -> Verdict:
    """Of each user one test target, which is the last rating of the core, and one validation target just before it.

    No training target of a user is later than those. Targets of other users may be: that is the nature of this split,
    so such training targets are counted and told, and no verdict hangs on them.
    """
    timed = samples.join(_times_of_core(run), on=["user_id", "item_id"])  # sampled negatives have no time
    late = pl.col("split") != "train"
    users = timed.group_by("user_id").agg(
        *((pl.col("split") == split).sum().alias(split) for split in ("train", "valid", "test")),
        pl.col("last").first(),
        pl.col("before_last").first(),
        *(pl.col("time").filter(pl.col("split") == split).min().alias(f"{split}_at") for split in ("valid", "test")),
        pl.col("time").filter(~late).max().alias("train_until"),
    )
    held_out_from = pl.min_horizontal("valid_at", "test_at")
    broken = {
        "users_without_one_test_target": pl.col("test") != 1,
        "users_without_one_validation_target": pl.col("valid")
        != (pl.col("train") + pl.col("valid") > 0).cast(pl.Int64),
        "test_targets_before_others": pl.col("test_at") < pl.col("last"),
        "validation_targets_before_others": pl.col("valid_at") < pl.col("before_last"),
        "users_with_later_training_targets": pl.col("train_until") > held_out_from,
    }
    figures = {name: users.filter(rule).height for name, rule in broken.items()}
    first = timed.filter(late)["time"].min()
    inherent = timed.filter(~late, pl.col("time") > first).height
    told = {"users": users.height, "training_targets_after_a_held_out_one_of_another_user": inherent}
    return Verdict(users.height > 0 and not any(figures.values()), told | figures)


def labels_balanced(run: StageRun) -> Verdict:
    """Each split has samples, liked ones and others; of the test split those count that the protocol evaluates."""
    samples = evaluated(run.read(tables.SAMPLES), run.spec.protocol)
    shares = dict(samples.group_by("split").agg(pl.col("label").mean()).iter_rows())
    low, high = LIKED_BOUNDS
    return Verdict(set(shares) >= {"train", "valid", "test"} and all(low <= v <= high for v in shares.values()), shares)


def paper_statistics(run: StageRun) -> Verdict:
    """The figures that the protocol expects of the full official files; of a subset nothing is compared.

    They must be equal, or differ by no more than the protocol's `tolerance`; each is told beside what was found.
    """
    expected = dict(run.spec.protocol.expected)
    if not expected:
        return Verdict(True, {"note": "this protocol expects no figures: nothing was compared"})
    full = expected.pop("raw_interactions", None)
    raw = run.read(tables.INTERACTIONS).height + refused_ratings(run.read(tables.REJECTED_ROWS)).len()
    if full is None:
        return Verdict(True, {"note": "without an expected `raw_interactions` a subset may be present: not compared"})
    if raw != full:
        return Verdict(True, {"note": f"a subset ({raw:,} of {full:,} ratings) is present: nothing was compared"})
    found, tolerance = _statistics(run), run.spec.protocol.tolerance
    compared = {name: {"found": found[name], "expected": value} for name, value in sorted(expected.items())}
    different = [
        name for name, pair in compared.items() if abs(pair["found"] - pair["expected"]) > tolerance * pair["expected"]
    ]
    figures = {"raw_interactions": raw, "tolerance": tolerance, "compared": compared, "different": different}
    return Verdict(not different, figures)


def _statistics(run: StageRun) -> dict[Statistic, int]:
    """The figures that a protocol may expect, counted in the tables."""
    core, samples = run.read(tables.CORE_INTERACTIONS), run.read(tables.SAMPLES)
    splits = dict(samples["split"].value_counts().iter_rows())
    return {
        "interactions": core.height,
        "users": core["user_id"].n_unique(),
        "items": core["item_id"].n_unique(),
        "samples": samples.height,
        "sample_users": samples["user_id"].n_unique(),
        "sample_items": samples["item_id"].n_unique(),
        "train": splits.get("train", 0),
        "valid": splits.get("valid", 0),
        "test": splits.get("test", 0),
    }


def _within(core: pl.DataFrame, key: str, least: int, most: int | None) -> dict[str, Any]:
    """Fewest and most ratings of a user or item, the bounds, and whether they hold."""
    counts = core[key].value_counts()["count"].to_list()
    fewest, largest = min(counts, default=0), max(counts, default=0)
    holds = least <= fewest and (most is None or largest <= most)
    return {"fewest": fewest, "most": largest, "at_least": least, "at_most": most, "holds": holds}


def _outside(core: pl.DataFrame, key: str, bounds: dict[str, Any]) -> list[str]:
    """Some items whose number of ratings breaks the bounds; of users how many have how few or many."""
    least, most = bounds["at_least"], bounds["at_most"]
    counts = core[key].value_counts().sort("count", key)
    too_many = pl.lit(False) if most is None else pl.col("count") > most
    wrong = counts.filter((pl.col("count") < least) | too_many)
    if key == "user_id":
        sizes = wrong["count"].value_counts(name="users").sort("count").head(EXAMPLES)
        return [f"{users} users have {count} ratings" for count, users in sizes.iter_rows()]
    wrong = wrong.head(EXAMPLES)
    return [f"{key} {clean_text(name)} has {count} ratings" for name, count in wrong.iter_rows()]


def _targets_before_others(run: StageRun, samples: pl.DataFrame) -> int:
    """Targets that are older than another core rating of their user; without times none."""
    targets = samples.join(_times_of_core(run), on=["user_id", "item_id"])  # sampled negatives have no time
    return targets.filter(pl.col("time") < pl.col("last")).height


def _times_of_core(run: StageRun) -> pl.DataFrame:
    """Exact time of each core rating, of its user's last one and of the one before that, out of the raw ratings."""
    pair = ["user_id", "item_id"]
    rated = run.read(tables.INTERACTIONS)
    times = rated.select(*pair, exact_times(rated).alias("time"))
    core = run.read(tables.CORE_INTERACTIONS).select(pair).join(times, on=pair)
    ordered = pl.col("time").sort(descending=True)
    ends = core.group_by("user_id").agg(
        ordered.first().alias("last"), ordered.get(1, null_on_oob=True).alias("before_last")
    )
    return core.join(ends, on="user_id")
