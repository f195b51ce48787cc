"""What a million predictions take at each step of the cascade, from the records of what was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rallrec_pipeline.evaluation.costs import Cost, told_cost
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
    told = made.metadata.get("steps", {}) if made is not None else {}
    found = {
        name: {"title": title, **told_cost(Cost(told[name]["seconds"], told[name]["predictions"]))}
        for name, title in STEPS.items()
        if told.get(name, {}).get("predictions")
    }
    if SHORTLIST in found:
        seconds = sum(one["seconds"] for one in found.values())
        found["cascade"] = {"title": WHOLE, **told_cost(Cost(seconds, found[CANDIDATES]["predictions"]))}
    if scored is None:
        return found
    for method in methods(settings):
        if (counted := scored.metadata.get("prompts", {}).get(method.name)) is not None:
            cost = Cost(scored.metadata["seconds"][method.name], counted["prompts"])
            found[f"llm_{method.name}"] = {"title": f"the LLM on test rows: {method.title}", **told_cost(cost)}
    return found


def step_to_come(rows: int | None, tokens: int | None, seconds: float | None) -> dict[str, dict[str, Any]]:
    """The same of a shortlist that is still to be asked about, from its estimate; nothing where there is none."""
    if not rows or seconds is None:
        return {}
    return {"shortlist_to_come": {"title": TO_COME, **told_cost(Cost(seconds, rows, tokens, rows))}}
