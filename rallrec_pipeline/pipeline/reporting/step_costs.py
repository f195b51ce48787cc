"""What a million predictions take at each step of the cascade, from the records of what was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rallrec_pipeline.evaluation.measures.costs import Cost, told_cost
from rallrec_pipeline.inference.methods import methods
from rallrec_pipeline.lake.store import Record
from rallrec_pipeline.recommendation.batch import CANDIDATES, CATALOGUE, SHORTLIST
from rallrec_pipeline.settings import Settings

STEPS = {
    CATALOGUE: "the whole catalogue, by all sources",
    CANDIDATES: "candidates, by the expert",
    SHORTLIST: "the shortlist, by the LLM",
}
WHOLE = "all steps together, by candidates"
TO_COME = "the shortlist to come, by the LLM (an estimate)"


def step_costs(inputs: Mapping[str, Record], settings: Settings) -> dict[str, dict[str, Any]]:
    """By step: its title and what `told_cost` tells. A step that never ran is left out.

    `inputs` are the records by stage; of the methods of the LLM those that `predictions` has scored are told, as they
    cost on test rows.
    """
    made, scored = inputs.get("recommendations"), inputs.get("predictions")
    found = _of_recommendations(made.metadata) if made is not None else {}
    if scored is None:
        return found
    for method in methods(settings):
        if (counted := scored.metadata.get("prompts", {}).get(method.name)) is not None:
            cost = Cost(scored.metadata["seconds"][method.name], counted["prompts"])
            found[f"llm_{method.name}"] = {"title": f"the LLM on test rows: {method.title}", **told_cost(cost)}
    return found


def _of_recommendations(told: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The steps that users have gone through, and all of them together where the LLM was asked."""
    steps, usage = told.get("steps", {}), told.get("llm") or {}
    costs = {
        name: Cost(steps[name]["seconds"], steps[name]["predictions"])
        for name in STEPS
        if steps.get(name, {}).get("predictions")
    }
    if SHORTLIST in costs:
        if usage.get("rows"):  # what the LLM has read now, a beginning that prompts share counted once
            costs[SHORTLIST] = replace(costs[SHORTLIST], prompt_tokens=usage["prompt_tokens"], token_rows=usage["rows"])
        worked = told.get("users_computed", 0) / max(1, told.get("users", 1))  # all others kept what they had
        shares = {CATALOGUE: worked, CANDIDATES: 1.0, SHORTLIST: 1.0}
        seconds = sum(steps[name]["seconds"] * share for name, share in shares.items())
        costs["cascade"] = Cost(seconds, steps[CANDIDATES]["predictions"])
    titles = STEPS | {"cascade": WHOLE}
    return {name: {"title": titles[name], **told_cost(cost)} for name, cost in costs.items()}


def step_to_come(rows: int | None, tokens: int | None, seconds: float | None) -> dict[str, dict[str, Any]]:
    """The same of a shortlist that is still to be asked about, from its estimate; nothing where there is none."""
    if not rows or seconds is None:
        return {}
    return {"shortlist_to_come": {"title": TO_COME, **told_cost(Cost(seconds, rows, tokens, rows))}}
