"""A study of two variants of a tiny dataset, by the real stages: what they share is computed once."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from rallrec_pipeline.errors import ConfigError, DataError
from rallrec_pipeline.lake.files import read_json
from rallrec_pipeline.lake.prune import PruneOptions, prune_lake
from rallrec_pipeline.lake.store import all_records, in_force, read_record, read_ref, whole
from rallrec_pipeline.pipeline.context import SHARED, StageRun
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.pipeline.stage import Outcome, run_stage, upstream
from rallrec_pipeline.pipeline.status.study_cost import study_cost
from rallrec_pipeline.pipeline.studies.run import run_study, stage_name
from rallrec_pipeline.settings import load_settings
from rallrec_pipeline_tests.pipeline.tiny import DATASET as TOML
from rallrec_pipeline_tests.pipeline.tiny import SMALL, copied_world, ratings_file, write_ratings

DATASET, STUDY = SMALL, "fits"
TEXT = """
title = "Do fits matter?"
methods = ["rallrec", "zero_shot"]
reference = "zero_shot"

[variants.first]
[variants.second.seeds]
fits = {seed}
"""
OTHER_RETRIEVER = """
title = "Which vectors?"
methods = ["rallrec", "by_text"]
reference = "rallrec"

[settings.retrievers.text]
parts = { text = 1 }

[settings.methods.by_text]
retriever = "text"
adapter = "rallrec"
"""
SHARED_BY_BOTH = {"raw_files", "interactions", "core_items", "samples", "item_descriptions", "title_embeddings"}
APART = {"text_embeddings", "collaborative_embeddings", "aligned_embeddings", "retrieved_histories", "predictions"}


@dataclass
class World:
    """A lake in which the variant `mine`, which is the first of the study, was run up to its predictions."""

    lake: Path
    said: list[str] = field(default_factory=list)

    def run(self, variant: str) -> StageRun:
        settings = load_settings(variant, lake=self.lake)
        return StageRun(self.lake, DATASET, settings, uuid4().hex, self.said.append, lambda _: lambda done, total: None)

    def study(self, name: str = STUDY, variant: str = "demo") -> Outcome:
        self.said.clear()
        return run_study(self.run(variant), STAGES, name, variant)

    def write(self, text: str, name: str = STUDY) -> None:
        (self.lake / "studies").mkdir(exist_ok=True)
        (self.lake / "studies" / f"{name}.toml").write_text(text, encoding="utf-8")

    def report(self, name: str = STUDY) -> Any:
        return read_json(self.lake / "reports" / DATASET / f"{stage_name(name)}.json")

    def variant(self, name: str) -> dict[str, str]:
        """Fingerprints of a variant by stage."""
        return {
            stage: fingerprint
            for dataset in (DATASET, SHARED)
            if (ref := read_ref(self.lake, dataset, name)) is not None
            for stage, fingerprint in ref.results.items()
        }

    def links(self) -> dict[Path, str]:
        """Where the paths of the contract lead."""
        found = (path for path in self.lake.rglob("*") if path.is_symlink() and "models" not in path.parts)
        return {path.relative_to(self.lake): os.readlink(path) for path in found}

    def stored(self) -> int:
        """How many results there are."""
        return sum(len(all_records(self.lake, dataset, stage)) for dataset in (DATASET, SHARED) for stage in STAGES)


@pytest.fixture(scope="module")
def made(finished_world: Path, finished_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(copied_world(finished_world, tmp_path_factory.mktemp("world")))
    (world.lake / "catalog" / "lopsided.toml").write_text(TOML.format(name="lopsided"), encoding="utf-8")
    write_ratings(world.lake, "lopsided")
    (world.lake / "variants").mkdir()
    mine = 'only_methods = ["rallrec", "zero_shot"]\n'
    (world.lake / "variants" / "mine.toml").write_text(mine, encoding="utf-8")
    wanted = upstream(STAGES, ["predictions"])
    for stage in STAGES:
        if stage in wanted:
            run_stage(world.run("mine"), STAGES, stage)
        elif STAGES[stage].partitioned:  # of the whole job, which `mine` did not do
            shutil.rmtree(world.lake / "results" / DATASET / stage)
    return world


@dataclass
class Studied:
    """A world after the first run of the study, and what it had before."""

    world: World
    stored: int
    links: dict[Path, str]
    mine: dict[str, str]
    outcome: Outcome
    said: list[str]


@pytest.fixture(scope="module")
def studied(made: World, tmp_path_factory: pytest.TempPathFactory) -> Studied:
    """Tests that run nothing new share it."""
    world = copy_of(made, tmp_path_factory.mktemp("studied"))
    world.write(TEXT.format(seed=7))
    before = world.stored(), world.links(), world.variant("mine")
    return Studied(world, *before, world.study(), list(world.said))


@pytest.fixture
def world(studied: Studied, tmp_path: Path) -> World:
    """A copy for one test, after the first run of the study."""
    return copy_of(studied.world, tmp_path)


def copy_of(world: World, folder: Path) -> World:
    """The same lake elsewhere."""
    return World(shutil.copytree(world.lake, folder / "lake", symlinks=True))


def test_what_variants_share_is_computed_once(studied: Studied) -> None:
    world, outcome = studied.world, studied.outcome
    first, second = world.variant(f"study-demo-{STUDY}-first"), world.variant(f"study-demo-{STUDY}-second")
    same = {stage for stage in first if first[stage] == second[stage]}
    assert same >= SHARED_BY_BOTH and not same & APART
    # The variant `mine` has all that the first one needs but what only checks read.
    told = outcome.record.metadata
    assert told["computed_now"][0] == "first: rejected_rows"
    assert [line for line in told["computed_now"][1:] if not line.startswith("second: ")] == []
    assert world.stored() - studied.stored == len(told["computed_now"]) == 1 + len(first) - len(same)
    assert told["results"] == 2 * len(first) and told["distinct_results"] == 2 * len(first) - len(same)
    assert told["llm"]["rows"] > 0
    report = world.report()
    assert list(report["methods"]) == [f"{v}/{m}" for v in ("first", "second") for m in ("rallrec", "zero_shot")]
    assert report["reference"] == "first/zero_shot" and report["n_test"] == 10
    assert report["provenance"]["variants"] == {"first": first, "second": second}
    assert report["provenance"]["command"] == f"rallrec run {DATASET} --study {STUDY} --profile demo"


def test_the_second_run_does_no_work(studied: Studied) -> None:
    world, first = studied.world, studied.outcome
    stored = world.stored()
    second = world.study()
    assert first.worked and not second.worked and first.record == second.record
    assert world.stored() == stored
    assert world.said != [] and [line for line in world.said if ": done" in line or "loading" in line] == []


def test_what_the_llm_will_be_asked_is_told_first(studied: Studied) -> None:
    """Of two variants the second lacks its adapter and its predictions, whose prompts are still to be made."""
    before = studied.said[: studied.said.index(f"study {STUDY}, variant first")]
    tuned, scored = before
    assert tuned.startswith(f"study {STUDY}: at most 1 adapter to tune, on 18 examples, about ")
    assert scored.startswith(f"study {STUDY}: at most 36 prompts to score, about ")
    assert all(line.endswith(" s on this machine") for line in before), "this model has run here"
    studied.world.study()
    assert studied.world.said[0] == f"study {STUDY}: nothing is left to ask the LLM"


def test_what_variants_share_is_told_once(studied: Studied) -> None:
    """Two variants share their prompts, which are not made yet, and differ in the adapter alone."""

    def told(*changes: dict[str, Any]) -> list[str]:
        base = studied.world.run("mine")
        settings = [
            base.settings.model_copy(update={"seeds": base.settings.seeds.model_copy(update=c)}) for c in changes
        ]
        stages = sorted(upstream(STAGES, ["predictions"]))
        return study_cost(base, STAGES, [(one, stages) for one in settings])

    assert told({}) == []
    tuned, scored = told({"fits": 9, "tuning": 5})
    assert "at most 1 adapter to tune, on 18 examples" in tuned and "at most 36 prompts to score" in scored
    tuned, scored = told({"fits": 9, "tuning": 5}, {"fits": 9, "tuning": 6}, {"fits": 9, "tuning": 5})
    assert "at most 2 adapters to tune, on 36 examples" in tuned
    assert "at most 54 prompts to score" in scored, "the zero-shot method asks the same of both"
    (tuned, scored) = told({"tuning": 5})
    assert tuned.startswith("1 adapter to tune, on 18 examples"), "its prompts are there"
    assert "at most 18 prompts to score" in scored, "the zero-shot method's are kept"


def test_figures_table_page_and_picture_lie_together(studied: Studied) -> None:
    world, record = studied.world, studied.outcome.record
    ends = (".json", ".csv", "_slices.csv", ".html")
    files = [world.lake / "reports" / DATASET / f"{stage_name(STUDY)}{end}" for end in ends]
    assert all(file.is_file() for file in files)
    assert {(world.lake / name).resolve() for name in record.outputs} == {file.resolve() for file in files}
    page = files[3].read_text(encoding="utf-8")
    assert "Do fits matter?" in page and "seeds.fits = 7" in page and "--study fits --profile demo" in page
    laid = world.report()["provenance"]["laid_over"]
    assert laid["prompts.train_samples"] == 6 and "seeds.fits" not in laid, "of RALLREC_SETTINGS, not of the study"
    assert record.metadata["picture"]["markdown"].count("data:image/png;base64,") == 1
    assert record.metadata["methods"]["markdown"].count("\n") == 3 + 4


def test_the_paths_of_the_contract_stay_those_of_the_variant_in_force(studied: Studied) -> None:
    world, before, after = studied.world, studied.links, studied.world.links()
    assert before and {path: after[path] for path in before} == before
    assert {path.parts[0] for path in after.keys() - before.keys()} == {"reports"}
    assert world.variant("mine") == studied.mine
    ref = in_force(world.lake, DATASET)
    assert ref is not None and {**studied.mine, **ref.results} == {**ref.results, **studied.mine}


def test_a_report_is_made_anew_for_another_title_or_number_of_resamples_and_nothing_else_is(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world.study(variant="mine")
    stored, mine = world.stored(), world.lake / "variants" / "mine.toml"
    (settings := tmp_path / "settings.toml").write_text(
        Path(os.environ["RALLREC_SETTINGS"]).read_text(encoding="utf-8").replace("bootstrap = 20", "bootstrap = 30"),
        encoding="utf-8",
    )
    monkeypatch.setenv("RALLREC_SETTINGS", str(settings))
    assert world.study(variant="mine").worked and world.report()["resamples"] == 30
    titled = mine.read_text(encoding="utf-8") + '[methods.zero_shot]\ntitle = "plain"\n'
    mine.write_text(titled, encoding="utf-8")
    assert world.study(variant="mine").worked
    assert world.report()["methods"]["first/zero_shot"]["title"] == "first: plain"
    assert world.stored() == stored


def test_another_retriever_of_a_method_tunes_no_adapter_again(world: World) -> None:
    world.write(OTHER_RETRIEVER, "retrievers")
    outcome = world.study("retrievers")
    before, after = world.variant("mine"), world.variant("study-demo-retrievers-one")

    def record(stage: str, found: dict[str, str]) -> Any:
        return read_record(world.lake, DATASET, stage, found[stage])

    assert before["retrieved_histories"] != after["retrieved_histories"]
    for stage in ("tuning_prompts", "lora_adapter"):
        assert record(stage, before).data_version == record(stage, after).data_version, stage
    assert (
        record("lora_adapter", before).metadata["rallrec"]["key"]
        == record("lora_adapter", after).metadata["rallrec"]["key"]
    )
    assert record("lora_adapter", after).metadata["llm"]["rows"] == 0
    assert record("predictions", after).metadata["prompts"]["rallrec"]["scored"] == 0
    assert record("predictions", after).metadata["prompts"]["by_text"]["prompts"] > 0
    assert list(world.report("retrievers")["methods"]) == ["rallrec", "by_text"] and outcome.worked


def test_a_check_that_does_not_hold_stops_a_study_every_time(world: World) -> None:
    file = ratings_file(world.lake, "lopsided")
    lines = file.read_text(encoding="utf-8").splitlines()
    liked = [",".join([*line.split(",")[:2], "5", line.split(",")[3]]) for line in lines[1:]]
    file.write_text("\n".join([lines[0], *liked, ""]), encoding="utf-8")
    settings = load_settings("demo", lake=world.lake)
    run = StageRun(world.lake, "lopsided", settings, "run", lambda _: None, lambda _: lambda done, total: None)
    for _ in range(2):  # what was made is there the second time, and no better
        with pytest.raises(DataError, match="variant first: check labels_balanced of samples failed"):
            run_study(run, STAGES, STUDY, "demo")
    assert all_records(world.lake, "lopsided", "samples") and not all_records(
        world.lake, "lopsided", "item_descriptions"
    )
    assert not (world.lake / "reports" / "lopsided").exists()


def test_prune_keeps_what_the_variants_of_a_study_have(world: World) -> None:
    superseded = world.variant(f"study-demo-{STUDY}-second")
    world.write(TEXT.format(seed=8))
    world.study()
    now = world.variant(f"study-demo-{STUDY}-second")
    gone = prune_lake(world.lake, None, PruneOptions(keep=1), lambda _: None)
    assert gone.kinds["results"].files > 0
    assert read_record(world.lake, DATASET, "predictions", superseded["predictions"]) is None
    for variant in (f"study-demo-{STUDY}-first", f"study-demo-{STUDY}-second", f"study-demo-{STUDY}", "mine"):
        assert world.variant(variant) != {}
        for stage, fingerprint in world.variant(variant).items():
            dataset = DATASET if stage not in STAGES or STAGES[stage].partitioned else SHARED
            record = read_record(world.lake, dataset, stage, fingerprint)
            assert record is not None and whole(world.lake, record) is not None, (variant, stage)
    assert now["predictions"] != superseded["predictions"] and not world.study().worked


def test_a_study_that_cannot_be_says_so_before_any_work(world: World) -> None:
    world.write(TEXT.format(seed=7).replace('"rallrec", ', '"ralrec", '))
    stored = world.stored()
    with pytest.raises(ConfigError, match="did you mean 'rallrec'"):
        world.study()
    assert world.stored() == stored and world.said == []
