"""The profile of a dataset: what it holds, and where its ratings went on the way from the raw file to the samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.kcore import core_in_words, rules_before_core
from rallrec_pipeline.datasets.protocol_spec import LabelSpec, ProtocolSpec
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.datasets.tables import refused_ratings
from rallrec_pipeline.datasets.ties import equal_time_share

SPLITS = ("train", "valid", "test")
MAX_REASONS = 12  # a reason may count fields ("7 fields instead of 4"), so there may be many
MAX_MONTHS = 120
POPULARITY_POINTS = 200
HISTORY_BINS = 24
QUANTILES = {"min": 0.0, "p10": 0.1, "p25": 0.25, "median": 0.5, "p75": 0.75, "p90": 0.9, "p99": 0.99, "max": 1.0}

Profile = dict[str, Any]


@dataclass(frozen=True)
class _Counts:
    """How often each of n values occurs: `values` ascending and `counts`, both (n,) int64."""

    values: NDArray[np.int64]
    counts: NDArray[np.int64]

    @property
    def total(self) -> int:
        return int(self.counts.sum())


def profile_dataset(
    interactions: pl.DataFrame,
    rejected: pl.DataFrame,
    core: pl.DataFrame,
    core_items: pl.DataFrame,
    samples: pl.DataFrame,
    items: pl.DataFrame,
    spec: DatasetSpec,
) -> Profile:
    """Figures of one dataset under the protocol of `spec`; all of it goes into JSON as it is.

    The frames are the tables `interactions` (n ratings), `rejected_rows`, `core_interactions`, `core_items`,
    `samples` and `items`. Only these columns are looked at: user_id, item_id, rating, timestamp of both kinds of
    ratings; table, reason; title; split, label, rating, timestamp, history_length; item_id and the required fields.
    """
    refused = refused_ratings(rejected)
    raw_popularity, core_popularity = _item_counts(interactions), _item_counts(core)
    steps = [
        *_refused_steps(refused),
        *_protocol_steps(interactions, items, core.height, spec.protocol),
        *_sample_steps(core.height, samples, spec.protocol, spec.label),
    ]
    users, core_users = interactions["user_id"].n_unique(), core["user_id"].n_unique()
    cells = core_users * len(core_popularity)
    return {
        "dataset": spec.name,
        "title": spec.title,
        "protocol": spec.protocol_name,
        "split": spec.protocol.split,
        "implicit": spec.is_implicit,
        "raw": {
            "read": interactions.height + refused.len(),
            "refused": refused.len(),
            "interactions": interactions.height,
            "users": users,
            "items": len(raw_popularity),
            "equal_times": equal_time_share(interactions),
        },
        "core": {
            "interactions": core.height,
            "users": core_users,
            "items": len(core_popularity),
            "density": core.height / cells if cells else None,
            "items_without_title": core_items.filter(pl.col("title").fill_null("") == "").height,
        },
        "samples": _samples(samples, spec.label),
        "funnel": _chained(interactions.height + refused.len(), steps),
        "ratings": _ratings(interactions, core, spec),
        "time": _time(interactions, core, samples, spec.protocol),
        "popularity": {"raw": _popularity(raw_popularity), "core": _popularity(core_popularity)},
        "history_length": _history_length(_counted(samples["history_length"])),
    }


@dataclass(frozen=True)
class _Step:
    """One step of the funnel: rows that leave, rows that join."""

    name: str
    dropped: int = 0
    added: int = 0


def _chained(rows: int, steps: Iterable[_Step]) -> list[dict[str, Any]]:
    """Rows in, dropped, added and out of each step, beginning with the `rows` of the raw file."""
    funnel = []
    for step in (_Step("ratings in the raw file"), *steps):
        after = rows - step.dropped + step.added
        funnel.append(
            {"step": step.name, "rows_in": rows, "dropped": step.dropped, "added": step.added, "rows_out": after}
        )
        rows = after
    return funnel


def _refused_steps(reasons: pl.Series) -> list[_Step]:
    """A step for each reason (n,), the most frequent first; rare ones beyond MAX_REASONS share a step."""
    counts = reasons.alias("reason").value_counts().sort("count", "reason", descending=[True, False])
    named, others = counts.head(MAX_REASONS), counts.slice(MAX_REASONS)
    steps = [_Step(f"refused: {reason}", dropped) for reason, dropped in named.iter_rows()]
    if others.height:
        steps.append(_Step(f"refused for {others.height} other reasons", int(others["count"].sum())))
    return steps


def _protocol_steps(interactions: pl.DataFrame, items: pl.DataFrame, core: int, protocol: ProtocolSpec) -> list[_Step]:
    """What `protocol` leaves out, rule by rule; `core` is the number of ratings in the end."""
    steps, before = [], interactions.height
    for rule in rules_before_core(interactions, items, protocol):
        after = _height(rule.ratings)
        steps.append(_Step(rule.words, before - after))
        before = after
    return [*steps, _Step(_core_rule(protocol), before - core)]


def _height(rows: pl.LazyFrame) -> int:
    """Number of rows; Polars then reads the columns that the filters need, and no more."""
    return int(rows.select(pl.len()).collect().item())


def _core_rule(protocol: ProtocolSpec) -> str:
    """The k-core in words."""
    rule = f"k-core: {core_in_words(protocol)}"
    if protocol.item_limit is None:
        return rule
    return f"{rule}; {'first' if protocol.item_limit_first else 'then'} the {protocol.item_limit:,} most rated items"


def _sample_steps(core: int, samples: pl.DataFrame, protocol: ProtocolSpec, label: LabelSpec) -> list[_Step]:
    """From `core` ratings to samples: those that are history only, and sampled negatives."""
    negatives = _negatives(samples, label)
    early = f"fewer than {protocol.min_history} earlier ratings of the user"
    why = f"not the user's last rating, or {early}" if protocol.split == "user" else early
    steps = [_Step(f"history only: {why}", core + negatives - samples.height)]
    return [*steps, _Step("sampled negatives", added=negatives)] if label.negatives else steps


def _negatives(samples: pl.DataFrame, label: LabelSpec) -> int:
    """Samples of what never happened: with implicit feedback those rated 0."""
    return int((samples["rating"] == 0).sum()) if label.negatives else 0


def _samples(samples: pl.DataFrame, label: LabelSpec) -> dict[str, Any]:
    figures = samples.group_by("split").agg(pl.len(), pl.col("label").mean())
    found = {split: (rows, liked) for split, rows, liked in figures.iter_rows()}
    return {
        "rows": samples.height,
        "negatives": _negatives(samples, label),
        "splits": {
            split: {"rows": found[split][0], "liked": found[split][1]} if split in found else {"rows": 0, "liked": None}
            for split in SPLITS
        },
    }


def _ratings(interactions: pl.DataFrame, core: pl.DataFrame, spec: DatasetSpec) -> dict[str, Any]:
    """Rating histogram: `values` (r,), and how many ratings of each there are before and after the protocol.

    The scale's own values are there even where nobody gave them; of implicit feedback only what happened is.
    """
    raw, kept = _by_rating(interactions), _by_rating(core)
    scale = () if spec.is_implicit else spec.label.scale
    values = sorted({float(np.float32(value)) for value in scale} | set(raw) | set(kept))
    return {
        "values": [round(value, 6) for value in values],  # 0.1 and not its neighbour in single precision
        "raw": [raw.get(value, 0) for value in values],
        "core": [kept.get(value, 0) for value in values],
        "like_above": spec.label.like_above,
    }


def _by_rating(ratings: pl.DataFrame) -> Mapping[float, int]:
    return dict(ratings["rating"].alias("rating").value_counts().iter_rows())


def _time(
    interactions: pl.DataFrame, core: pl.DataFrame, samples: pl.DataFrame, protocol: ProtocolSpec
) -> dict[str, Any] | None:
    """Ratings per month (per year if there are more than MAX_MONTHS), without gaps; None where no rating has a time.

    `core` is None where only the order of one user's ratings counts: times then order these, and no more. `borders`
    are the days on which validation and test samples begin, where the split is one in time.
    """
    raw, kept = _months(interactions), _months(core)
    if not raw.total:
        return None
    first, last = int(raw.values[0]), int(raw.values[-1])
    yearly = last - first >= MAX_MONTHS
    if yearly:
        first, last = first // 12, last // 12
    start, end = interactions.select(pl.col("timestamp").min(), last=pl.col("timestamp").max()).row(0)
    return {
        "unit": "year" if yearly else "month",
        "periods": [str(p) if yearly else f"{p // 12}-{p % 12 + 1:02d}" for p in range(first, last + 1)],
        "raw": _per_period(raw, first, last, yearly),
        "core": _per_period(kept, first, last, yearly) if kept.total else None,
        "without_time": interactions.height - raw.total,
        "first": _day(start),
        "last": _day(end),
        "borders": {} if protocol.orders_users_alone else _borders(samples),
    }


def _months(ratings: pl.DataFrame) -> _Counts:
    """Ratings by month, counted from the year 0."""
    moment = pl.from_epoch("timestamp", time_unit="s").dt
    month = moment.year().cast(pl.Int64) * 12 + moment.month().cast(pl.Int64) - 1
    return _counted(ratings.select(month.alias("month"))["month"])


def _per_period(months: _Counts, first: int, last: int, yearly: bool) -> list[int]:
    periods = (months.values // 12 if yearly else months.values) - first
    return np.bincount(periods, weights=months.counts, minlength=last - first + 1).astype(np.int64).tolist()


def _borders(samples: pl.DataFrame) -> dict[str, str]:
    begins = samples.group_by("split").agg(pl.col("timestamp").min()).drop_nulls()
    found = {split: second for split, second in begins.iter_rows() if split != "train"}
    return {split: _day(found[split]) for split in SPLITS if split in found}


def _day(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).date().isoformat()


def _item_counts(ratings: pl.DataFrame) -> NDArray[np.int64]:
    """Ratings of each item, the most rated first: (items,)."""
    counts = ratings["item_id"].alias("item_id").value_counts()["count"]
    return counts.cast(pl.Int64).sort(descending=True).to_numpy()


def _popularity(counts: NDArray[np.int64]) -> dict[str, list[int]]:
    """Ratings of the items at ranks (1 is the most rated) that are even on a logarithmic axis."""
    if not len(counts):
        return {"ranks": [], "interactions": []}
    ranks = np.unique(np.geomspace(1, len(counts), POPULARITY_POINTS).round().astype(np.int64))
    return {"ranks": ranks.tolist(), "interactions": counts[ranks - 1].tolist()}


def _history_length(lengths: _Counts) -> dict[str, Any]:
    """Quantiles of the samples' history lengths and their histogram.

    Bin i holds the lengths from edges[i] to edges[i + 1] - 1; the bins widen as lengths grow.
    """
    if not lengths.total:
        return {"quantiles": {}, "edges": [], "samples": []}
    cumulative = lengths.counts.cumsum()
    ranks = np.floor(np.array(list(QUANTILES.values())) * (lengths.total - 1))
    values = lengths.values[np.searchsorted(cumulative, ranks, side="right")]
    above = np.geomspace(1, lengths.values[-1] + 1, HISTORY_BINS + 1).round().astype(np.int64)
    edges = np.unique(np.concatenate([[0], above]))
    histogram, _ = np.histogram(lengths.values, edges, weights=lengths.counts)
    return {
        "quantiles": dict(zip(QUANTILES, values.tolist(), strict=True)),
        "edges": edges.tolist(),
        "samples": histogram.astype(np.int64).tolist(),
    }


def _counted(values: pl.Series) -> _Counts:
    """How often each whole number of `values` (n,) occurs, empty ones aside."""
    counts = values.drop_nulls().cast(pl.Int64).alias("value").value_counts().sort("value")
    return _Counts(counts["value"].to_numpy(), counts["count"].cast(pl.Int64).to_numpy())
