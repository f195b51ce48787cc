"""What decides an address: nothing that changes an output may be left out of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rallrec_pipeline.baselines.common_sense import COMMON_SENSE
from rallrec_pipeline.baselines.experts import EXPERTS
from rallrec_pipeline.errors import StaleArtefactError
from rallrec_pipeline.lake.prune import PruneOptions, prune_lake
from rallrec_pipeline.pipeline.context import Made, StageRun
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.pipeline.reporting.scored import ON_IDS
from rallrec_pipeline.pipeline.stage import Stage, decisive_settings, looking, run_stage
from rallrec_pipeline.settings import TAKEN, Settings


def settings(**sections: Any) -> Settings:
    return Settings.model_validate({"profile": "demo", **sections})


def write(name: str) -> Any:
    def compute(run: StageRun) -> Made:
        (file := run.out / f"{name}.txt").write_text(f"{name} {run.settings.index.probes}")
        return Made([file])

    return compute


GRAPH = {
    "a": Stage("a", "raw", (), "", write("a"), sections=("index",)),
    "b": Stage("b", "raw", ("a",), "", write("b"), lambda s, d: {"index": s.index}, sections=("index",)),
}


def test_prompts_of_evaluation_know_how_adapters_are_validated(tmp_path: Path) -> None:
    stage, seen = STAGES["evaluation_prompts"], []
    for form in ("reranked", "sequential"):
        adapters = {"rallrec": {"validation_form": form}}
        seen.append(decisive_settings(stage, looking(tmp_path, "movielens-100k", settings(adapters=adapters))))
    assert seen[0] != seen[1]
    # What a method is called decides nothing.
    renamed = {"other": {"adapter": "rallrec"}, "rallrec": {"answer_form": "yes_no"}}
    one, two = (
        decisive_settings(stage, looking(tmp_path, "movielens-100k", settings(methods=renamed, only_methods=[name])))
        for name in ("other", "rallrec")
    )
    assert one["asked"] == two["asked"]


def test_an_input_whose_file_was_edited_is_not_used(tmp_path: Path) -> None:
    run = replace(looking(tmp_path, "movielens-100k", settings()), run_id="one")
    made = run_stage(run, GRAPH, "a").record
    assert run_stage(run, GRAPH, "b").worked
    (tmp_path / made.outputs[0]).write_text("edited")
    other = replace(run, settings=settings(index={"probes": 7}))
    with pytest.raises(StaleArtefactError, match=r"files of a of 'movielens-100k' were edited or replaced"):
        run_stage(other, GRAPH, "b")
    assert run_stage(other, GRAPH, "a").worked and run_stage(other, GRAPH, "b").worked


def test_names_of_baselines_are_taken() -> None:
    assert set(TAKEN["methods"]) == {*COMMON_SENSE, *EXPERTS, *ON_IDS}


def test_prune_waits_for_a_lake_of_an_older_version_to_be_taken_over(tmp_path: Path) -> None:
    run = replace(looking(tmp_path, "movielens-100k", settings()), run_id="one")
    run_stage(run, GRAPH, "a")
    (tmp_path / "provenance" / "shop").mkdir(parents=True)
    done = prune_lake(tmp_path, None, PruneOptions(keep=1), print)
    assert done.notes == ["caches were left alone until `rallrec status` has taken over shop"]
