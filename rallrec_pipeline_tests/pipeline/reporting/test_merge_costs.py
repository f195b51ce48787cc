"""Which methods a merge asks, and about which share of the rows."""

from __future__ import annotations

import pytest

from rallrec_pipeline.evaluation.measures.costs import Cost
from rallrec_pipeline.pipeline.reporting.merge_costs import cost_of_merge, shares_asked
from rallrec_pipeline.settings import MergeSettings, Settings

MERGES = {
    "stacked": MergeSettings(kind="logistic", members=("text_trees", "rallrec", "reasoned_told")),
    "asked": MergeSettings(kind="cascade", members=("text_trees", "stacked")),
    "within": MergeSettings(kind="cascade", members=("item_mean", "asked")),
    "better": MergeSettings(kind="best", members=("text_trees", "stacked")),
    "steady": MergeSettings(members=("rallrec", "reasoned_told"), runs=("recent",)),
}
TOLD = {"asked": {"share_asked": 0.25}, "within": {"share_asked": 0.5}, "better": {"member": "text_trees"}}


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("stacked", {"text_trees": 1, "rallrec": 1, "reasoned_told": 1}),
        ("asked", {"text_trees": 1, "rallrec": 0.25, "reasoned_told": 0.25}),
        ("within", {"item_mean": 1, "text_trees": 0.5, "rallrec": 0.125, "reasoned_told": 0.125}),
        ("better", {"text_trees": 1}),
        ("steady", {"rallrec": 1, "reasoned_told": 1, "recent": 1}),
        ("reasoned_told", {"reasoned_told": 1, "rallrec": 1}),
    ],
)
def test_each_method_is_asked_once_and_only_where_a_cascade_asks(name: str, shares: dict[str, float]) -> None:
    assert shares_asked(name, Settings(profile="small", merges=MERGES), TOLD) == shares


def test_a_cascade_costs_the_expert_and_its_share_of_the_llm() -> None:
    costs = {"text_trees": Cost(1.0, 1000, 0, 1000), "rallrec": Cost(60.0, 100, 20_000, 100)}
    costs["reasoned_told"] = Cost(200.0, 100, 50_000, 100)
    found = cost_of_merge("asked", Settings(profile="small", merges=MERGES), TOLD, 400, costs.__getitem__)
    assert found.seconds == pytest.approx(400 * (0.001 + 0.25 * 2.6))
    assert (found.predictions, found.prompt_tokens) == (400, 400 * 0.25 * 700)
