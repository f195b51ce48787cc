from __future__ import annotations

from rallrec_pipeline.evaluation.costs import Cost, told_cost


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


def test_methods_without_an_llm_read_no_tokens() -> None:
    assert told_cost(Cost(1.0, 10, 0, 10))["tokens_per_million"] == 0
