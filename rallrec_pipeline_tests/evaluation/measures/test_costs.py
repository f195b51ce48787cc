from __future__ import annotations

import pytest

from rallrec_pipeline.evaluation.measures.costs import Cost, merged_cost, told_cost


def test_a_million_predictions_cost_in_proportion_to_the_rows_that_were_paid_for() -> None:
    told = told_cost(Cost(seconds=30.0, predictions=1200, prompt_tokens=90_000, token_rows=300))
    assert told["seconds_per_million"] == 25_000 and told["tokens_per_million"] == 300_000_000
    assert told["not_defined"] == {}


def test_what_is_not_known_is_null_with_a_reason() -> None:
    told = told_cost(Cost(seconds=30.0, predictions=1200, prompt_tokens=None, token_rows=0))
    assert told["seconds_per_million"] == 25_000
    assert told["prompt_tokens"] is told["tokens_per_million"] is None
    assert set(told["not_defined"]) == {"prompt_tokens", "tokens_per_million"}
    assert all(told_cost(Cost())["not_defined"].values())
    uncounted = told_cost(Cost(seconds=12.0))["not_defined"]
    assert "seconds" not in uncounted and "number of predictions" in uncounted["seconds_per_million"]


def test_a_fit_is_paid_once_whatever_follows() -> None:
    told = told_cost(Cost(3.0, 1000, 0, 1000, fit_seconds=2.5))
    assert told["seconds"] == 3.0 and told["seconds_per_million"] == pytest.approx(500)


def test_methods_without_an_llm_read_no_tokens() -> None:
    assert told_cost(Cost(1.0, 10, 0, 10))["tokens_per_million"] == 0


def test_a_merge_costs_what_its_members_do_for_the_rows_that_they_are_asked_about() -> None:
    expert, dear = Cost(2.0, 1000, 0, 1000), Cost(50.0, 100, 30_000, 100)
    told = told_cost(merged_cost({"trees": expert, "rallrec": dear}, {"trees": 1.0, "rallrec": 0.2}, 500))
    assert told["seconds_per_million"] == pytest.approx(2_000 + 0.2 * 500_000)
    assert told["tokens_per_million"] == pytest.approx(0.2 * 300_000_000)
    assert told["shares"] == {"trees": 1.0, "rallrec": 0.2} and "shares" not in told_cost(expert)


def test_a_merge_of_a_member_without_a_known_cost_has_none() -> None:
    told = told_cost(merged_cost({"a": Cost(1.0, 10, 0, 10), "b": Cost(1.0, 10, None, 0)}, {"a": 1.0, "b": 0.5}, 10))
    assert told["seconds_per_million"] == pytest.approx(150_000) and told["tokens_per_million"] is None
    assert set(told["not_defined"]) == {"prompt_tokens", "tokens_per_million"}
