"""What each protocol makes of the ratings: its core, its samples, its splits."""

from __future__ import annotations

from typing import Any

import polars as pl

from rallrec_pipeline.datasets.checking.examples import examples_of
from rallrec_pipeline.datasets.checking.findings import Findings, share_of
from rallrec_pipeline.datasets.checking.times import check_ties
from rallrec_pipeline.datasets.histories import LIKED_BOUNDS, evaluated, in_protocol_order, make_samples
from rallrec_pipeline.datasets.kcore import core_of
from rallrec_pipeline.datasets.protocol_spec import ProtocolSpec
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.datasets.tables import IDS

SPLITS = ("train", "valid", "test")
FEW_TESTS = 100


def check_protocol(
    spec: DatasetSpec, name: str, ratings: pl.DataFrame, items: pl.DataFrame | None, seed: int, found: Findings
) -> None:
    """`spec` has the protocol `name` in force; `ratings` (n > 0 rows) are those that are taken."""
    protocol = spec.protocol
    catalogue = pl.DataFrame(schema={"item_id": IDS}) if items is None else items
    if not set(protocol.require) <= set(catalogue.columns):
        return  # that a required field is missing has been told
    core = core_of(ratings, catalogue, protocol)
    figures: dict[str, Any] = {
        "interactions": core.height,
        "users": core["user_id"].n_unique(),
        "items": core["item_id"].n_unique(),
    }
    found.figures["protocols"][name] = figures
    if core.is_empty():
        found.problem(f"protocol {name}: nothing is left after the core: {_core_hint(ratings, protocol)}")
        return
    samples = make_samples(in_protocol_order(core, protocol, seed), protocol, spec.label, seed)
    sizes = {split: samples.filter(pl.col("split") == split).height for split in SPLITS}
    figures.update(samples=samples.height, **sizes, liked=round(_liked(samples["label"]), 4))
    if samples.is_empty():
        found.problem(
            f"protocol {name}: no samples, no user has more than {_most(core, 'user_id')} ratings in the core: "
            f"lower min_history, now {protocol.min_history}"
        )
        return
    if samples["label"].n_unique() == 1:
        above = f"the rule likes {'every' if figures['liked'] else 'no'} sample"
        found.problem(f"protocol {name}: {above}: {_rule_hint(spec, core)}")
    else:
        _check_splits(spec, name, samples, found)
    _tell_saturated(spec, name, samples, found)
    equal_times = check_ties(spec, name, core, samples, found)
    if equal_times is not None:
        figures["equal_times"] = round(equal_times, 4)


def _rule_hint(spec: DatasetSpec, core: pl.DataFrame) -> str:
    """What to do about a rule that tells nothing apart."""
    values = core["rating"].unique().sort()
    if values.len() == 1:
        return (
            f"every rating is {values[0]:g}, so this is implicit feedback: take `rating` out of interactions.columns "
            "and write [label] negatives = 1 in place of scale and like_above"
        )
    held = ", ".join(f"{value:g}" for value in values)
    return f"change like_above, now {spec.label.like_above:g}; the ratings are {held}"


def _tell_saturated(spec: DatasetSpec, name: str, samples: pl.DataFrame, found: Findings) -> None:
    """Users who have touched every item: there is none left to draw as disliked for their targets."""
    if not spec.label.negatives:
        return
    drawn = samples.group_by("user_id").agg(
        (pl.col("label") == 0).sum().alias("drawn"), (pl.col("label") == 1).sum().alias("liked")
    )
    short = drawn.filter(pl.col("drawn") < pl.col("liked") * spec.label.negatives).sort("user_id")
    if short.height:
        missing = int((short["liked"] * spec.label.negatives - short["drawn"]).sum())
        ids = examples_of(short["user_id"])
        found.warning(
            f"protocol {name}: {share_of(short.height, drawn.height, 'users')} have touched (nearly) every item, as "
            f"{ids}: {missing:,} negatives of their targets cannot be drawn, so their targets are liked only; "
            "give more items, or set user_cap to leave such users out"
        )


def _liked(labels: pl.Series) -> float:
    """Share of likes; 0 of nothing."""
    return float(labels.cast(pl.Float64).mean() or 0.0)  # type: ignore[arg-type]


def _core_hint(ratings: pl.DataFrame, protocol: ProtocolSpec) -> str:
    """What the ratings have and what is asked of them."""
    asked = f"user_core = {protocol.user_core}, item_core = {protocol.item_core}"
    rules = ("user_cap", "item_cap", "item_limit", "selection", "require", "drop_ratings", "dates")
    others = "".join(f" or change {rule}" for rule in rules if getattr(protocol, rule))
    users, items = _most(ratings, "user_id"), _most(ratings, "item_id")
    return (
        f"of {ratings.height:,} ratings no user has more than {users} and no item more than {items}: "
        f"lower {asked}{others}"
    )


def _most(ratings: pl.DataFrame, key: str) -> int:
    """Ratings of the user or item that has the most."""
    return int(ratings[key].value_counts()["count"].to_numpy().max())


def _check_splits(spec: DatasetSpec, name: str, samples: pl.DataFrame, found: Findings) -> None:
    low, high = LIKED_BOUNDS  # the pipeline's own check of the samples lets nothing else pass
    rule = "" if len(spec.label.scale) == 2 else f", or change like_above, now {spec.label.like_above:g}"
    mend = f"lower the core or min_history{rule}"
    if not spec.protocol.orders_users_alone:
        mend += ', or set split = "user", as ratings change with time'
    counted = evaluated(samples, spec.protocol)
    for split in SPLITS:
        labels = counted.filter(pl.col("split") == split)["label"]
        place, liked = f"protocol {name}: the {split} split", _liked(labels)
        if labels.is_empty():
            cut = "fractions" if spec.protocol.dates is None else "dates"
            found.problem(f"{place} has no samples of {samples.height:,}: lower the core or correct {cut}")
        elif labels.n_unique() == 1:
            found.problem(f"{place} has {labels.len():,} samples, {'all' if liked else 'none'} of them liked: {mend}")
        elif not low <= liked <= high:
            found.problem(f"{place} has {liked:.1%} likes, not between {low:.0%} and {high:.0%}: {mend}")
        if split == "test" and 0 < labels.len() < FEW_TESTS:
            found.warning(f"{place} has only {labels.len()} samples: figures will be coarse")
