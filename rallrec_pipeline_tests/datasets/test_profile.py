"""The profile of a dataset: nothing is lost between its figures, whatever the ratings look like."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.datasets.histories import in_protocol_order, make_samples
from rallrec_pipeline.datasets.kcore import core_of
from rallrec_pipeline.datasets.profile import MAX_REASONS, POPULARITY_POINTS, QUANTILES, Profile, profile_dataset
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline_tests.datasets.worlds import SCHEMA, frame, make_spec, ratings

REJECTED = {"table": pl.String, "reason": pl.String}
IMPLICIT = {"file": "s.inter", "columns": {"timestamp": "timestamp"}}


def second(*moment: int) -> int:
    """A UTC moment as the tables have it."""
    return int(datetime(*moment, tzinfo=UTC).timestamp())  # type: ignore[arg-type,misc]


def catalogue(interactions: pl.DataFrame, untitled: tuple[str, ...] = ()) -> pl.DataFrame:
    """A title for each item but the `untitled`."""
    title = pl.when(pl.col("item_id").is_in(untitled)).then(pl.lit("")).otherwise(pl.lit("A title"))
    return interactions.select("item_id").unique().with_columns(title.alias("title"))


def refusals(*reasons: str, table: str = "interactions") -> pl.DataFrame:
    return pl.DataFrame([(table, reason) for reason in reasons], schema=REJECTED, orient="row")


def profile_of(
    interactions: pl.DataFrame,
    spec: DatasetSpec,
    rejected: pl.DataFrame | None = None,
    items: pl.DataFrame | None = None,
) -> tuple[Profile, pl.DataFrame, pl.DataFrame]:
    """The profile with the core and the samples that the pipeline makes of `interactions`."""
    items = catalogue(interactions) if items is None else items
    core = in_protocol_order(core_of(interactions, items, spec.protocol), spec.protocol, 3)
    samples = make_samples(core, spec.protocol, spec.label, 3)
    core_items = items.join(core, on="item_id", how="semi")
    rejected = refusals() if rejected is None else rejected
    return profile_dataset(interactions, rejected, core, core_items, samples, items, spec), core, samples


def protocol(**changes: Any) -> DatasetSpec:
    return make_spec(protocol={"user_core": 2, "item_core": 2, "min_history": 1} | changes)


PROTOCOLS = (
    protocol(),
    protocol(drop_ratings=[1, 3], require=["title"]),
    protocol(split="user", item_limit=3, user_cap=4),
    protocol(item_limit=2, item_limit_first=True, min_history=0, user_core=1, item_core=1),
    protocol(selection={"user_core": 3, "user_cap": 4, "item_core": 2}, require=["title"], drop_ratings=[2]),
)


@settings(max_examples=60)
@given(ratings(), st.lists(st.sampled_from(["bad", "worse", "| *worst*"])), st.sampled_from(PROTOCOLS))
def test_nothing_is_lost_between_the_figures(rows: pl.DataFrame, reasons: list[str], spec: DatasetSpec) -> None:
    found, core, samples = profile_of(rows, spec, refusals(*reasons), catalogue(rows, ("4", "8")))
    funnel = found["funnel"]
    assert funnel[0]["rows_in"] == found["raw"]["read"] == rows.height + len(reasons)
    assert funnel[-1]["rows_out"] == samples.height == found["samples"]["rows"]
    assert all(s["rows_out"] == s["rows_in"] - s["dropped"] + s["added"] for s in funnel)
    assert all(before["rows_out"] == after["rows_in"] for before, after in pairwise(funnel))
    assert all(s["dropped"] >= 0 and s["added"] == 0 for s in funnel)
    assert sum(s["dropped"] for s in funnel if s["step"].startswith("refused")) == len(reasons)
    assert sum(found["ratings"]["raw"]) == rows.height and sum(found["ratings"]["core"]) == core.height
    assert sum(found["history_length"]["samples"]) == samples.height
    assert sum(split["rows"] for split in found["samples"]["splits"].values()) == samples.height
    assert sum(found["time"]["raw"] if found["time"] else ()) == rows.height
    json.dumps(found, allow_nan=False)


@settings(max_examples=60)
@given(ratings(users=8, items=30, most=120))
def test_popularity_and_history_are_those_of_numpy(rows: pl.DataFrame) -> None:
    found, _, samples = profile_of(rows, protocol())
    counts = sorted(rows["item_id"].value_counts()["count"].to_list(), reverse=True)
    curve = found["popularity"]["raw"]
    assert curve["interactions"] == [counts[rank - 1] for rank in curve["ranks"]]
    assert not counts or (curve["ranks"][0], curve["ranks"][-1]) == (1, len(counts))
    lengths, history = samples["history_length"].to_numpy(), found["history_length"]
    if len(lengths):
        expected = np.quantile(lengths, list(QUANTILES.values()), method="lower").tolist()
        assert list(history["quantiles"].values()) == expected
        assert history["samples"] == np.histogram(lengths, history["edges"])[0].tolist()
        assert history["edges"][0] == 0 and history["edges"][-1] == lengths.max() + 1


def test_a_long_tail_has_few_points() -> None:
    rows = pl.DataFrame({"item_id": [str(item) for item in range(3_000) for _ in range(1 + 3_000 // (item + 1))]})
    rows = rows.select(
        pl.int_range(pl.len()).cast(pl.String).alias("user_id"), "item_id", rating=pl.lit(3.0, pl.Float32)
    ).with_columns(pl.lit(None, pl.Int64).alias("timestamp"))
    found, _, _ = profile_of(rows, protocol(split="user"))
    curve = found["popularity"]["raw"]
    assert len(curve["ranks"]) <= POPULARITY_POINTS and curve["ranks"][-1] == 3_000 == found["raw"]["items"]
    assert curve["interactions"][0] == 3_001 and curve["interactions"][-1] == 2
    ratios = np.diff(np.log(curve["ranks"]))[-50:]
    assert ratios.max() < 1.2 * ratios.min(), "even on a logarithmic axis"


def test_each_step_says_what_it_dropped() -> None:
    rows = frame(
        [(user, item, 0.0 if item == "9" else 4.0, 10) for user in "abc" for item in ("1", "2", "3", "9")]
        + [("d", "1", 5.0, 20), ("a", "4", 5.0, 30)]
    )
    rejected = pl.concat([refusals("bad", "worse", "worse"), refusals("of another table", table="items")])
    spec = make_spec(
        protocol={"drop_ratings": [0], "require": ["title"], "user_core": 2, "item_core": 2, "min_history": 1},
        label={"scale": [0, 1, 2, 3, 4, 5], "like_above": 3},
    )
    found, core, _ = profile_of(rows, spec, rejected, catalogue(rows, ("2",)))
    assert [(step["step"], step["dropped"], step["rows_out"]) for step in found["funnel"]] == [
        ("ratings in the raw file", 0, 17),
        ("refused: worse", 2, 15),
        ("refused: bad", 1, 14),
        ("left out: ratings of 0", 3, 11),
        ("left out: items without title", 3, 8),
        ("k-core: users with 2 or more ratings, items with 2 or more", 2, 6),
        ("history only: fewer than 1 earlier ratings of the user", 3, 3),
    ]
    assert found["core"] == {
        "interactions": core.height,
        "users": 3,
        "items": 2,
        "density": 1.0,
        "items_without_title": 0,
    }
    assert found["samples"]["splits"]["train"] == {"rows": 2, "liked": 1.0}
    assert found["ratings"] == {
        "values": [0, 1, 2, 3, 4, 5],
        "raw": [3, 0, 0, 0, 9, 2],
        "core": [0, 0, 0, 0, 6, 0],
        "like_above": 3,
    }


def test_rare_reasons_share_a_step() -> None:
    reasons = [f"{n} fields instead of 4" for n in range(40) for _ in range(1 + (n == 7))]
    found, _, _ = profile_of(frame([("a", "1", 5, 1)]), protocol(), refusals(*reasons))
    steps = [step for step in found["funnel"] if step["step"].startswith("refused")]
    assert len(steps) == MAX_REASONS + 1 and steps[0]["step"] == "refused: 7 fields instead of 4"
    assert steps[-1]["step"] == "refused for 28 other reasons" and steps[-1]["dropped"] == 28


def test_items_without_title_are_counted() -> None:
    rows = frame([(user, item, 4, 1) for user in "ab" for item in "12"])
    found, _, _ = profile_of(rows, protocol(), items=catalogue(rows, ("1",)))
    assert found["core"]["items_without_title"] == 1


def test_the_share_of_neighbours_of_one_time_is_that_of_all_accepted_ratings() -> None:
    rows = frame([("a", "1", 4, 1), ("a", "2", 4, 1), ("a", "3", 4, 2), ("b", "1", 4, 1), ("b", "4", 4, 1)])
    found, _, _ = profile_of(rows, protocol())
    assert found["raw"]["equal_times"] == pytest.approx(2 / 3)


def test_months_have_no_gaps_and_borders_are_days() -> None:
    moments = [second(2020, 11, 30, 23), second(2021, 2, 1), second(2021, 2, 3), second(2021, 2, 28, 23, 59, 59)]
    rows = frame([("a", str(n), 4, moment) for n, moment in enumerate(moments)])
    spec = protocol(user_core=1, item_core=1, min_history=0, fractions=[0.5, 0.25, 0.25])
    found, _, _ = profile_of(rows, spec)
    assert found["time"] == {
        "unit": "month",
        "periods": ["2020-11", "2020-12", "2021-01", "2021-02"],
        "raw": [1, 0, 0, 3],
        "core": [1, 0, 0, 3],
        "without_time": 0,
        "first": "2020-11-30",
        "last": "2021-02-28",
        "borders": {"valid": "2021-02-03", "test": "2021-02-28"},
    }


@pytest.mark.parametrize(("last", "unit", "periods"), [((2009, 12, 31), "month", 120), ((2010, 1, 1), "year", 11)])
def test_more_than_ten_years_are_shown_by_year(last: tuple[int, int, int], unit: str, periods: int) -> None:
    rows = frame([("a", "1", 4, second(2000, 1, 1)), ("b", "1", 4, second(*last))])
    time = profile_of(rows, protocol())[0]["time"]
    assert time["unit"] == unit and len(time["periods"]) == len(time["raw"]) == periods and sum(time["raw"]) == 2


@settings(max_examples=30)
@given(ratings())
def test_without_times_there_is_no_time(rows: pl.DataFrame) -> None:
    rows = rows.with_columns(pl.lit(None, pl.Int64).alias("timestamp"))
    found, _, samples = profile_of(rows, protocol(split="user"))
    assert found["time"] is None and found["samples"]["rows"] == samples.height


def test_times_that_the_protocol_does_not_look_at() -> None:
    """A split by user leaves no times in the core and has no borders; ratings without a time are counted."""
    rows = frame([(user, item, 4, second(2020, 5, 1)) for user in "abc" for item in "123"])
    rows = rows.with_columns(pl.when(pl.col("user_id") != "c").then("timestamp").alias("timestamp"))
    time = profile_of(rows, protocol(split="user"))[0]["time"]
    assert time["raw"] == [6] and time["without_time"] == 3 and time["core"] is None and time["borders"] == {}


@settings(max_examples=30)
@given(ratings(users=5, items=9), st.integers(1, 3))
def test_implicit_feedback_with_sampled_negatives(rows: pl.DataFrame, negatives: int) -> None:
    rows = rows.with_columns(pl.lit(1.0, pl.Float32).alias("rating"))
    rules = {"user_core": 2, "item_core": 1, "min_history": 1}
    found, core, samples = profile_of(
        rows, make_spec(interactions=IMPLICIT, label={"negatives": negatives}, protocol=rules)
    )
    never = samples.join(core, on=["user_id", "item_id"], how="anti").height
    last = found["funnel"][-1]
    assert (last["step"], last["added"], last["rows_out"]) == ("sampled negatives", never, samples.height)
    assert found["samples"]["negatives"] == never and found["implicit"]
    assert all(step["dropped"] >= 0 for step in found["funnel"])
    assert found["ratings"]["values"] == ([1.0] if rows.height else [])


def test_ratings_in_single_precision_keep_their_names() -> None:
    rows = frame([("a", "1", 0.1, 1), ("b", "1", 0.7, 2)])
    spec = make_spec(label={"scale": [0.1, 0.4, 0.7], "like_above": 0.4})
    assert profile_of(rows, spec)[0]["ratings"] == {
        "values": [0.1, 0.4, 0.7],
        "raw": [1, 0, 1],
        "core": [0, 0, 0],
        "like_above": 0.4,
    }


def test_empty_tables_have_a_profile() -> None:
    found, _, _ = profile_of(pl.DataFrame(schema=SCHEMA), protocol())
    assert found["core"]["density"] is None and found["time"] is None and found["history_length"]["samples"] == []
    assert found["popularity"]["core"] == {"ranks": [], "interactions": []}
    assert found["samples"]["splits"]["test"] == {"rows": 0, "liked": None}
