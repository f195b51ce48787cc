"""The four seeds, which one may stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from rallrec_pipeline.settings.section import Section

MAX_SEED = 2**32 - 1  # the largest that all libraries take
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]


class SeedSettings(Section):
    """Where chance comes from. Replicates change all but `data`, so that they are compared on the same test rows."""

    data: Seed = Field(2025, description="Order of ratings, split, negatives, validation and test rows, intervals.")
    sampling: Seed = Field(2025, description="Few-shot training samples, and what the LLM writes as descriptions.")
    fits: Seed = Field(2025, description="LightGCN, projector, PCA, lists of the index, baselines, experts.")
    tuning: Seed = Field(2025, description="LoRA: first weights, order of the prompts, dropout.")


def with_four_seeds(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with `seed = N` spelled out as four; those that `[seeds]` names besides go first.

    Raises ValueError when it is no seed.
    """
    rest = dict(values)
    named = rest.get("seeds", {})
    if "seed" not in rest or not isinstance(named, Mapping):
        return rest
    seed = rest.pop("seed")
    if type(seed) is not int or not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed: it must be a whole number from 0 to {MAX_SEED}")
    return rest | {"seeds": {**dict.fromkeys(SeedSettings.model_fields, seed), **named}}
