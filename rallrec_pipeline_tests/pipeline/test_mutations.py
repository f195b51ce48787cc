"""A hundred random changes of settings, data and code: stale is exactly what depends on them, and nothing is for good.

The graph is the real one with its real dependencies; only the computing is replaced, by a file that holds the address.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from rallrec_pipeline.lake.store import result_folder
from rallrec_pipeline.pipeline.context import Made, StageRun
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.pipeline.stage import Graph, Plan, plan_stages, run_stage
from rallrec_pipeline.settings import ROLES, ModelSettings, ReasonedSettings, Settings, load_settings
from rallrec_pipeline_tests.pipeline.given import looking_run
from rallrec_pipeline_tests.pipeline.tiny import add_datasets, ratings_file, write_ratings

NAME, MUTATIONS = "small", 100
ASKED = {"lora_adapter", "predictions"}
ENCODED = {"title_embeddings", "description_embeddings", "new_item_embeddings"}
REPORT = {"evaluation_report"}  # which shows all settings but those that change no figure
PROMPTED = {"collaborative_embeddings", "retrieved_histories", "tuning_prompts", "evaluation_prompts", "lora_adapter"}
VECTORS = {"text_embeddings", "collaborative_embeddings", "aligned_embeddings", "item_index"}
RECOMMENDED = {"recommendations", "recommendation_report"}
BASELINES = {"baseline_predictions", "expert_predictions", "expected_ratings", "recommender_fit"}
FITTED = VECTORS | BASELINES | RECOMMENDED | {"new_item_embeddings", "alignment_report"}
DESCRIBED = {"item_descriptions", "new_item_descriptions"}
DRAWN = DESCRIBED | {"collaborative_embeddings", "retrieved_histories"}

PROMPTS = {"tuning_prompts", "evaluation_prompts"}
OTHER = ModelSettings(source="elsewhere/llm", name="other")

SETTINGS: dict[str, tuple[Any, set[str]]] = {
    "seeds.data": (1, {"core_interactions", "samples", "retrieved_histories"} | RECOMMENDED | REPORT),
    "seeds.sampling": (1, DRAWN | REPORT),
    "seeds.fits": (1, FITTED | REPORT),
    "seeds.tuning": (1, {"lora_adapter"} | REPORT),
    "model.dtype": ("float32", DESCRIBED | ASKED | REPORT),
    "encoder.dtype": ("float16", ENCODED | REPORT),
    "writer": (OTHER, {"writer"} | REPORT),
    "predictor": (OTHER, {"predictor"} | REPORT),
    "model.engine": ("transformers", set()),
    "model.tokens_per_batch": (99, set()),
    "descriptions.max_words": (9, DESCRIBED | REPORT),
    "descriptions.template": ("{fields}?", DESCRIBED | REPORT),
    "text.pca_dimensions": (3, {"text_embeddings", "new_item_embeddings"} | REPORT),
    "collaborative.epochs": (1, {"collaborative_embeddings"} | REPORT),
    "alignment.hidden": (3, {"aligned_embeddings", "alignment_report"} | REPORT),
    "mixture.aligned": (0.5, {"item_embeddings"} | REPORT),
    "retrieval.history_length": (4, {"item_embeddings", "retrieved_histories", "recommendations"} | REPORT),
    "retrieval.beta": (0.5, {"retrieved_histories", "recommendations"} | REPORT),
    "index.probes": (3, {"item_index"}),
    "prompts.train_samples": (5, PROMPTED | REPORT),
    "prompts.facts": (("user_mean",), PROMPTS | ASKED | REPORT),
    "prompts.expected_by": ("experts", {"expected_ratings"} | REPORT),
    "only_methods": (("rallrec",), PROMPTS | ASKED | REPORT),
    "tuning.rank": (2, {"lora_adapter"} | REPORT),
    "tuning.checkpoint_every": (3, set()),
    "scoring.calibration": ("none", {"predictions"} | REPORT),
    "reasoner": (ModelSettings(name="another"), set()),  # these are told of in a report of their own
    "reasoning.traces": (2, set()),
    "reasoned": ({"reasoned": ReasonedSettings(told="rallrec")}, set()),
    "merges": ({}, set()),
    "experts.trees": (2, {"expert_predictions", "recommender_fit"} | RECOMMENDED | REPORT),
    "recommendations.n": (5, RECOMMENDED),
    "recommendations.expert": ("text_trees", {"recommender_fit"} | RECOMMENDED),
    "serving.waiting": (9, set()),
    "ray.actors": (2, set()),
    "automation.sensor_interval_s": (5, set()),
}


@dataclass
class World:
    """What stages depend on, as it was and as it is changed."""

    lake: Path
    settings: Settings
    changed: set[str] = field(default_factory=set)

    def plans(self) -> dict[str, Plan]:
        return plan_stages(self.run(), self.graph())

    def work(self) -> list[str]:
        graph, run = self.graph(), self.run()
        return [name for name in graph if run_stage(run, graph, name).worked]

    def run(self) -> StageRun:
        settings = self.settings
        for name in self.changed & SETTINGS.keys():
            (section, _, key), value = name.partition("."), SETTINGS[name][0]
            own = getattr(settings, section).model_copy(update={key: value}) if key else value
            settings = settings.model_copy(update={section: own})
        return looking_run(self.lake, NAME, settings, lambda line: None)

    def graph(self) -> Graph:
        newer = {name.removeprefix("code of ") for name in self.changed if name.startswith("code of ")}
        return {
            name: replace(stage, compute=compute, code_version=stage.code_version + ("+" if name in newer else ""))
            for name, stage in STAGES.items()
        }

    def change(self, names: Iterable[str]) -> set[str]:
        """Turn to `names`, whatever was changed before; returns the stages that depend on them themselves."""
        wanted = set(names)
        if ("data" in wanted) != ("data" in self.changed):
            self._edit(1 if "data" in wanted else -1)
        self.changed = wanted
        of_settings = [SETTINGS[name][1] for name in wanted & SETTINGS.keys()]
        of_code = {name.removeprefix("code of ") for name in wanted if name.startswith("code of ")}
        return set().union(*of_settings, of_code, {"raw_files"} if "data" in wanted else set())

    def _edit(self, seconds: int) -> None:
        file = ratings_file(self.lake, NAME)
        before = file.stat().st_mtime_ns
        text = file.read_text(encoding="utf-8")
        file.write_text(f"{text}u0,i0,5,999\n" if seconds > 0 else text.replace("u0,i0,5,999\n", ""), encoding="utf-8")
        os.utime(file, ns=(before + seconds * 10**9,) * 2)


def compute(run: StageRun) -> Made:
    """A file that differs whenever its address does, so that nothing stops a cascade."""
    file = run.out / "tables" / f"{run.out.parent.name}.txt"
    file.parent.mkdir(parents=True)
    file.write_text(run.fingerprint, encoding="utf-8")
    return Made([file])


def after(stages: set[str]) -> set[str]:
    """`stages` and all that is made of them."""
    found = set(stages)
    for name, stage in STAGES.items():
        if found & set(stage.inputs):
            found.add(name)
    return found


@pytest.fixture
def world(tmp_path: Path, built_in_settings_only: None) -> World:
    add_datasets(tmp_path, NAME)
    write_ratings(tmp_path, NAME)
    made = World(tmp_path, load_settings("demo"))
    assert made.work() == list(STAGES)
    return made


def test_stale_is_exactly_what_depends_on_a_change_and_reverting_it_is_free(world: World) -> None:
    draw = random.Random(20)
    mutations = [*SETTINGS, "data", *(f"code of {name}" for name in STAGES)]
    together = [name for name in mutations if name not in ROLES]  # beside a model of its own `model` plays no role
    for number in range(MUTATIONS):
        names = [mutations[number]] if number < len(mutations) else draw.sample(together, draw.randint(2, 4))
        direct = world.change(names)
        plans = world.plans()
        assert {name for name, plan in plans.items() if plan.reasons} == direct, names
        assert {name for name, plan in plans.items() if not plan.is_fresh} == after(direct), names
        for name in direct:
            assert all("changed" in reason for reason in plans[name].reasons), plans[name].reasons
        if number % 20 == 19:  # what is made under the change leaves what was made before as it is
            assert set(world.work()) == after(direct), names
            made = world.plans()
            assert all(plan.is_fresh for plan in made.values())
            for name in after(direct):  # else a later change would find them
                shutil.rmtree(result_folder(world.lake, made[name].dataset, name, made[name].fingerprint))
        world.change([])
        assert all(plan.is_fresh for plan in world.plans().values()), names
        if number % 20 == 19:  # reasons are told against what is in force
            assert world.work() == []


def test_every_section_of_the_settings_is_changed_here() -> None:
    sections = {name.partition(".")[0] for name in SETTINGS}
    assert sections == set(Settings.model_fields) - {"profile", "protocol", "methods", "adapters", "retrievers"}
