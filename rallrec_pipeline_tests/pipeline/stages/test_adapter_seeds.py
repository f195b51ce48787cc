"""Adapters with seeds of their own: replicas of one adapter within a variant, whose spread is var_G of eq. 10."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rallrec_pipeline.lake.sealed import read_sealed
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.pipeline.stage import decisive_settings
from rallrec_pipeline.pipeline.stages.model import checkpoint_folder, tuning_key, tuning_rows
from rallrec_pipeline.settings import AdapterSettings, MethodSettings, load_settings
from rallrec_pipeline.tuning.lora import PROVENANCE
from rallrec_pipeline_tests.pipeline.given import looking_run, work
from rallrec_pipeline_tests.pipeline.tiny import SMALL


def seeded(run: StageRun, seed: int | None) -> StageRun:
    """`run` with an adapter `other`, tuned as `rallrec` is but for its seed, and a method that uses it."""
    settings = run.settings
    adapters = settings.adapters | {"other": AdapterSettings(seed=seed)}
    methods = settings.methods | {"other": MethodSettings(adapter="other")}
    return replace(run, settings=settings.model_copy(update={"adapters": adapters, "methods": methods}))


def test_an_adapter_of_another_seed_is_another_one(finished_run: StageRun) -> None:
    run = finished_run
    rows = tuning_rows(run, "rallrec")
    keys = [tuning_key(seeded(run, seed), "other", rows) for seed in (None, run.seeds.tuning, 7, 8)]
    assert keys[0] == keys[1] and len(set(keys)) == 3
    made, record = work(seeded(run, 7), "lora_adapter")
    folders = [checkpoint_folder(record.folder(run.lake), SMALL, name) for name in ("rallrec", "other")]
    weights = [(folder / "adapter_model.safetensors").read_bytes() for folder in folders]
    assert weights[0] != weights[1] and read_sealed(folders[1] / PROVENANCE)["seed"] == 7
    assert made.metadata["other"]["key"] == keys[2]


def test_adapters_without_a_seed_of_their_own_are_where_they_were(finished_lake: Path) -> None:
    run = looking_run(finished_lake, SMALL, load_settings("demo", lake=finished_lake))
    told = decisive_settings(STAGES["lora_adapter"], run)["adapters"]
    assert all("seed" not in adapter for adapter in told.values())
