"""What a merge costs: that of the methods that it is made of, each once and for the rows that it is asked about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rallrec_pipeline.evaluation.measures.costs import Cost, merged_cost
from rallrec_pipeline.inference.methods import needs_of
from rallrec_pipeline.settings import Settings


def cost_of_merge(
    name: str, settings: Settings, told: Mapping[str, Mapping[str, Any]], rows: int, cost_of: Callable[[str], Cost]
) -> Cost:
    """The cost of a merge on `rows`; `told` is what the stage says of each merge, `cost_of` that of a method."""
    shares = shares_asked(name, settings, told)
    return merged_cost({method: cost_of(method) for method in shares}, shares, rows)


def shares_asked(name: str, settings: Settings, told: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """By method: the share of rows that it is asked about for an answer of `name`.

    The dear member of a cascade is asked about the share of the test rows that the cascade asks. Of `best` only the
    chosen member is asked. What the reasoner is told must have been answered, too.
    """
    merge = settings.merges.get(name)
    found: dict[str, float] = {} if merge else {name: 1.0}
    needed = (str(told[name]["member"]),) if merge and merge.kind == "best" else needs_of(name, settings)
    for part in needed:
        is_dear = merge is not None and merge.kind == "cascade" and part == merge.members[1]
        share = float(told[name]["share_asked"] or 0) if is_dear else 1.0
        for method, own in shares_asked(part, settings, told).items():
            found[method] = max(found.get(method, 0.0), own * share)
    return found
