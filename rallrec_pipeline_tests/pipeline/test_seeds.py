"""Which stages each of the four seeds makes stale."""

from __future__ import annotations

import pytest

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.lake.provenance import stable_hash
from rallrec_pipeline.pipeline.graph import GRAPH
from rallrec_pipeline.settings import SeedSettings, Settings

RECOMMENDED = {"recommendations", "recommendation_report"}
AFFECTED = {
    "data": {"core_interactions", "samples", "retrieved_histories", *RECOMMENDED},
    "sampling": {"item_descriptions", "new_item_descriptions", "collaborative_embeddings", "retrieved_histories"},
    "fits": {
        "text_embeddings",
        "collaborative_embeddings",
        "aligned_embeddings",
        "item_index",
        "baseline_predictions",
        "expert_predictions",
        "expected_ratings",
        "alignment_report",
        "new_item_embeddings",
        "recommender_fit",
        *RECOMMENDED,
    },
    "tuning": {"lora_adapter"},
}
REPORT = {"evaluation_report"}  # tells all settings


def needs(spec: DatasetSpec, seeds: SeedSettings) -> dict[str, str]:
    """Hash of the settings of each stage."""
    settings = Settings(profile="demo", seeds=seeds)
    return {stage.name: stable_hash(dict(stage.depends_on(settings, spec))) for stage in GRAPH}


@pytest.mark.parametrize("name", SeedSettings.model_fields)
def test_a_seed_makes_the_stages_stale_that_draw_with_it(name: str, spec: DatasetSpec) -> None:
    before, after = needs(spec, SeedSettings()), needs(spec, SeedSettings(**{name: 7}))
    assert {stage for stage in before if before[stage] != after[stage]} == AFFECTED[name] | REPORT


def test_the_few_shot_seed_is_told_apart_only_where_it_differs(spec: DatasetSpec) -> None:
    """So a lake from before there were four seeds holds what it held."""
    (stage,) = [stage for stage in GRAPH if stage.name == "retrieved_histories"]

    def told(data: int, sampling: int) -> dict[str, int]:
        settings = Settings(profile="demo", seeds=SeedSettings(data=data, sampling=sampling))
        return {key: value for key, value in stage.depends_on(settings, spec).items() if "seed" in key}

    assert told(7, 7) == {"seed": 7}
    assert told(7, 8) == {"seed": 7, "sampling_seed": 8}
