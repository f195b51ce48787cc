"""What is up to date and why not; that a stage sees what it declares and nothing else; variants side by side."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rallrec_pipeline.errors import StaleArtefactError
from rallrec_pipeline.lake.sealed import read_sealed, write_sealed
from rallrec_pipeline.lake.store import Given, Record, all_records, in_force, read_ref
from rallrec_pipeline.lake.tables import ITEMS
from rallrec_pipeline.pipeline.context import SHARED, Made, StageRun
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.pipeline.stage import Graph, Outcome, Plan, Stage, changes, plan_stages, run_stage
from rallrec_pipeline.pipeline.stages.engine import model_version
from rallrec_pipeline.settings import PROFILES, ModelSettings, Settings, load_settings
from rallrec_pipeline_tests.pipeline.given import give_model, looking_run
from rallrec_pipeline_tests.pipeline.tiny import add_datasets

pytestmark = pytest.mark.usefixtures("built_in_settings_only")
X = Given("small", "f", "1")
RECORD = Record("a", "small", "f", "v", {"x": X, "y": X}, {"k": {"n": 3, "m": None}}, "1", "run", "now", 1.0)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    add_datasets(tmp_path, "small")
    return tmp_path


def writes(text: Callable[[StageRun], str]) -> Callable[[StageRun], Made]:
    """A stage's computing: one file with a text, by the name of the stage."""

    def compute(run: StageRun) -> Made:
        file = run.out / "tables" / f"{run.out.parent.name}.txt"
        file.parent.mkdir(parents=True)
        file.write_text(text(run), encoding="utf-8")
        return Made([file])

    return compute


def stage(
    name: str, inputs: tuple[str, ...] = (), compute: Callable[[StageRun], Made] | None = None, **more: Any
) -> Stage:
    return Stage(name, "data", inputs, "", compute or writes(lambda run: name), **more)


def graph(*stages: Stage) -> Graph:
    return {one.name: one for one in stages}


CHAIN = graph(
    stage(
        "drawn",
        compute=writes(lambda run: f"drawn with {run.seeds.sampling}"),
        depends_on=lambda s, d: {"seed": s.seeds.sampling},
        sections=("seeds",),
    ),
    stage("even", ("drawn",), writes(lambda run: str(run.given("drawn").metadata.get("rows")))),
    stage(
        "tuned",
        ("drawn", "even"),
        writes(lambda run: f"rank {run.settings.tuning.rank}"),
        depends_on=lambda s, d: {"tuning": s.tuning},
        sections=("tuning",),
    ),
)


def settings_of(profile: str = "demo", **changed: Any) -> Settings:
    return Settings.model_validate({"profile": profile, **changed})


def run_all(lake: Path, found: Graph, settings: Settings | None = None) -> dict[str, Outcome]:
    run = looking_run(lake, "small", settings or settings_of())
    return {name: run_stage(run, found, name) for name in found}


def plans(lake: Path, found: Graph, settings: Settings | None = None) -> dict[str, Plan]:
    return plan_stages(looking_run(lake, "small", settings or settings_of()), found)


def worked(outcomes: dict[str, Outcome]) -> list[str]:
    return [name for name, outcome in outcomes.items() if outcome.worked]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (replace(RECORD, inputs={"x": replace(X, data_version="2"), "y": X}), "x changed"),
        (replace(RECORD, inputs={"x": X, "y": X, "z": X}), "z is no input any more"),
        (replace(RECORD, settings={"k": {"n": 4, "m": None}}), "setting k.n changed"),
        (replace(RECORD, code_version="0"), "the code changed"),
        (replace(RECORD, settings={"k": {"n": 3}}), "what it depends on changed"),  # a setting of no value came
    ],
)
def test_a_stale_stage_always_says_why(record: Record, reason: str) -> None:
    inputs = {name: given.data_version for name, given in RECORD.inputs.items()}
    assert changes(record, inputs, RECORD.settings, RECORD.code_version) == [reason]


def test_what_a_user_has_set_is_told_before_what_is_made_of_it() -> None:
    record = replace(RECORD, settings={"asked": {"adapter": "one"}, "recommendations": {"method": "recent"}})
    inputs = {name: given.data_version for name, given in RECORD.inputs.items()}
    told = changes(record, inputs, {}, RECORD.code_version)
    assert told == ["setting recommendations.method changed", "setting asked.adapter changed"]


def test_what_exists_is_up_to_date(lake: Path) -> None:
    assert {plan.reasons[0] for plan in plans(lake, CHAIN).values()} == {"never made"}
    assert worked(run_all(lake, CHAIN)) == list(CHAIN)
    assert all(plan.is_fresh and not plan.reasons for plan in plans(lake, CHAIN).values())
    assert worked(run_all(lake, CHAIN)) == []
    shutil.rmtree(lake / "refs")
    assert worked(run_all(lake, CHAIN)) == [], "no ref names them, and still they are there"
    assert in_force(lake, "small") is not None


def test_a_stage_waits_for_its_inputs_and_an_equal_output_stops_the_cascade(lake: Path) -> None:
    run_all(lake, CHAIN)
    other = settings_of(seeds={"sampling": 7})
    found = plans(lake, CHAIN, other)
    assert found["drawn"].reasons == ["setting seed changed"] and found["even"].reasons == []
    assert (found["even"].waits_for, found["tuned"].waits_for) == (["drawn"], ["drawn", "even"])
    assert not found["even"].is_fresh and found["even"].record is not None
    run_stage(looking_run(lake, "small", other), CHAIN, "drawn")
    assert plans(lake, CHAIN, other)["even"].reasons == ["drawn changed"]
    outcomes = run_all(lake, CHAIN, other)
    assert worked(outcomes) == ["even", "tuned"]
    even = [record.data_version for record in all_records(lake, "small", "even")]
    assert len(even) == 2 and len(set(even)) == 1
    below = graph(*CHAIN.values(), stage("last", ("even",)))
    assert worked(run_all(lake, below)) == ["last"] and worked(run_all(lake, below, other)) == []


@pytest.mark.parametrize(
    ("compute", "complaint"),
    [
        (lambda run: run.settings.tuning.rank, "tuning"),
        (lambda run: run.settings.model.name, "model"),
        (lambda run: run.settings.model_dump(), None),
    ],
)
def test_a_section_that_is_not_declared_cannot_be_read(
    lake: Path, compute: Callable[[StageRun], object], complaint: str | None
) -> None:
    reading = graph(stage("reading", compute=writes(lambda run: str(compute(run))), sections=("seeds",)))
    if complaint is None:
        run_all(lake, reading)
        told = (lake / "tables" / "reading.txt").read_text(encoding="utf-8")
        assert "'seeds'" in told and "rank" not in told
        return
    with pytest.raises(AttributeError, match=complaint):
        run_all(lake, reading)
    assert not all_records(lake, "small", "reading") and not list((lake / "results").rglob("reading.txt"))


def test_an_input_that_is_not_declared_cannot_be_read(lake: Path) -> None:
    def peek(run: StageRun) -> Made:
        return Made([], {"fingerprint": run.given("drawn").fingerprint})

    honest, peeking = stage("peeking", ("drawn",), peek), stage("peeking", ("even",), peek)
    run_all(lake, graph(*CHAIN.values(), honest))
    with pytest.raises(StaleArtefactError, match="drawn was never made"):
        run_all(lake, graph(*CHAIN.values(), peeking))

    def read(run: StageRun) -> Made:
        return Made([], {"rows": run.read(ITEMS).height})

    with pytest.raises(StaleArtefactError, match="items of 'small' is missing: run `rallrec run small --select items`"):
        run_all(lake, graph(*CHAIN.values(), stage("reading", ("even",), read)))


def test_every_stage_of_the_graph_declares_what_its_settings_are_read_from(lake: Path) -> None:
    """What decides a stage's output is among what it may read, so it cannot depend on less than it sees by accident."""
    from rallrec_pipeline.pipeline.stage import declared

    settings = settings_of()
    spec = looking_run(lake, "small", settings).spec
    for one in STAGES.values():
        one.depends_on(declared(settings, one.sections), spec)


def test_an_input_that_was_never_made_is_named_with_the_command(lake: Path) -> None:
    command = "`rallrec run small --select drawn --profile demo`"
    with pytest.raises(StaleArtefactError, match=f"drawn of 'small' was never made: run {command}"):
        run_stage(looking_run(lake, "small", settings_of()), CHAIN, "even")
    later = graph(*CHAIN.values(), stage("later", ("even",), lambda run: Made([], {})))
    command = "`rallrec run small --select drawn,even --profile demo`"
    lacks = f"drawn of 'small' and 1 other after it were never made: run {command} first"
    with pytest.raises(StaleArtefactError, match=lacks):
        run_stage(looking_run(lake, "small", settings_of()), later, "later")


def test_a_default_that_is_written_out_and_a_new_one_change_no_address(lake: Path) -> None:
    """A field that a later version adds has its default in every older file of settings."""
    run_all(lake, CHAIN)
    plain = settings_of()
    assert worked(run_all(lake, CHAIN, settings_of(tuning=plain.tuning.model_dump()))) == []
    (record,) = all_records(lake, "small", "tuned")
    assert record.settings == {"tuning": {}}
    (other,) = [o.record for n, o in run_all(lake, CHAIN, settings_of(tuning={"rank": 4})).items() if n == "tuned"]
    assert other.settings == {"tuning": {"rank": 4}}


def test_variants_lie_side_by_side_and_switching_back_costs_nothing(lake: Path) -> None:
    demo, mine = settings_of(), settings_of("mine", tuning={"rank": 4})
    run_all(lake, CHAIN, demo)
    assert worked(run_all(lake, CHAIN, mine)) == ["tuned"], "what is equal is shared"
    link = lake / "tables" / "tuned.txt"
    assert link.read_text(encoding="utf-8") == "rank 4"
    assert worked(run_all(lake, CHAIN, demo)) == [] and link.read_text(encoding="utf-8") == "rank 8"
    assert worked(run_all(lake, CHAIN, mine)) == [] and link.read_text(encoding="utf-8") == "rank 4"
    refs = [read_ref(lake, "small", name) for name in ("demo", "mine")]
    assert refs[0] is not None and refs[1] is not None
    assert {name for name in CHAIN if refs[0].results[name] != refs[1].results[name]} == {"tuned"}
    assert plans(lake, CHAIN, settings_of(tuning={"rank": 2}))["tuned"].reasons == ["setting tuning.rank changed"]


def test_of_unpartitioned_stages_all_datasets_share_the_result(lake: Path) -> None:
    text = (lake / "catalog" / "small.toml").read_text(encoding="utf-8")
    (lake / "catalog" / "other.toml").write_text(text, encoding="utf-8")
    found = graph(stage("model", partitioned=False), stage("using", ("model",)))
    assert worked(run_all(lake, found)) == ["model", "using"]
    other = looking_run(lake, "other", settings_of())
    assert not run_stage(other, found, "model").worked and run_stage(other, found, "using").worked
    (model,) = all_records(lake, SHARED, "model")
    for dataset in ("small", "other"):
        ref = in_force(lake, dataset)
        assert ref is not None and ref.results["model"] == model.fingerprint


def test_a_touched_file_is_hashed_once_and_an_edited_one_is_noticed(lake: Path) -> None:
    made = run_all(lake, CHAIN)["tuned"].record
    (file,) = made.paths(lake)
    os.utime(file, (1, 1))
    assert worked(run_all(lake, CHAIN)) == []
    (record,) = all_records(lake, "small", "tuned")
    assert [state[1] for state in record.files.values()] == [1_000_000_000]
    file.write_text("rank 9", encoding="utf-8")
    assert plans(lake, CHAIN)["tuned"].reasons == ["its files were edited"]
    assert worked(run_all(lake, CHAIN)) == ["tuned"] and file.read_text(encoding="utf-8") == "rank 8"


def test_a_result_that_has_gone_is_told_from_one_that_never_was(lake: Path) -> None:
    made = run_all(lake, CHAIN)["even"].record
    shutil.rmtree(made.folder(lake))
    found = plans(lake, CHAIN)
    assert found["even"].reasons == ["its result was removed"] and not found["even"].is_fresh
    assert found["drawn"].is_fresh and found["tuned"].waits_for == ["even"]
    assert worked(run_all(lake, CHAIN)) == ["even"], "it is made again as it was, so what follows holds"


def test_new_code_makes_its_stage_stale_alone(lake: Path) -> None:
    run_all(lake, CHAIN)
    newer = graph(*(replace(one, code_version="2") if one.name == "even" else one for one in CHAIN.values()))
    assert plans(lake, newer)["even"].reasons == ["the code changed"]
    assert worked(run_all(lake, newer)) == ["even"]
    assert worked(run_all(lake, CHAIN)) == [], "the older code's result is still there"


def test_a_stage_that_fails_leaves_what_was_in_force(lake: Path) -> None:
    run_all(lake, CHAIN)

    def fail(run: StageRun) -> Made:
        (run.out / "half").write_text("half", encoding="utf-8")
        raise RuntimeError("halfway")

    failing = graph(
        *(replace(one, compute=fail, code_version="2") if one.name == "tuned" else one for one in CHAIN.values())
    )
    with pytest.raises(RuntimeError, match="halfway"):
        run_all(lake, failing)
    assert (lake / "tables" / "tuned.txt").read_text(encoding="utf-8") == "rank 8"
    assert not list((lake / "results").rglob("half")) and worked(run_all(lake, CHAIN)) == []


@pytest.mark.parametrize("file", ["manifest", "ref"])
def test_a_lake_of_a_newer_version_is_refused_in_one_line(lake: Path, file: str) -> None:
    made = run_all(lake, CHAIN)["even"].record
    path = made.manifest(lake) if file == "manifest" else lake / "refs" / "small" / "demo.json"
    write_sealed(path, read_sealed(path) | {"format": 99, "unknown": [1]})
    before = path.read_bytes()
    with pytest.raises(StaleArtefactError, match="newer version of this program") as told:
        run_all(lake, CHAIN)
    assert "\n" not in str(told.value) and path.read_bytes() == before


def test_the_record_says_what_it_was_made_from_and_why(lake: Path) -> None:
    run_all(lake, CHAIN)
    record = run_all(lake, CHAIN, settings_of(seeds={"sampling": 7}, tuning={"rank": 4}))["tuned"].record
    assert set(record.inputs) == {"drawn", "even"} and record.metadata["why"] == [
        "drawn changed",
        "setting tuning.rank changed",
    ]
    document = json.loads(record.manifest(lake).read_text(encoding="utf-8"))
    assert document["fingerprint"] == record.folder(lake).name == record.fingerprint
    for name, given in record.inputs.items():
        assert given.fingerprint == in_force(lake, "small").results[name]  # type: ignore[union-attr]


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_have_names_that_refs_can_bear(profile: str) -> None:
    assert load_settings(profile).profile == profile


def test_a_model_is_known_by_its_files_and_the_numbers_it_computes_with(lake: Path) -> None:
    run = looking_run(lake, "small", load_settings("demo"))
    with pytest.raises(StaleArtefactError, match="predictor was never made"):
        model_version(run)
    give_model(run, ModelSettings())
    plain = model_version(run)
    give_model(run, ModelSettings(), metadata={"auto_dtype": "float32"})
    with_dtype = model_version(run)
    give_model(run, ModelSettings(), data_version="other weights")
    assert len({plain, with_dtype, model_version(run)}) == 3
