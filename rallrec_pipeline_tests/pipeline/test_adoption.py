"""A lake of the old layout, slots with records beside them, is taken over without work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.files import write_json
from rallrec_pipeline.lake.provenance import content_version
from rallrec_pipeline.lake.store import all_records, past_refs
from rallrec_pipeline.pipeline.adoption import adopt_dataset
from rallrec_pipeline.pipeline.context import SHARED
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.pipeline.stage import Plan, plan_stages
from rallrec_pipeline.settings import ROLES, Settings, load_settings
from rallrec_pipeline_tests.pipeline.given import in_force_now, looking_run, make_stages
from rallrec_pipeline_tests.pipeline.tiny import SMALL, copied_world

NAME, REPORT = SMALL, "evaluation_report"
FETCHED = ("raw", "models")
NEW_SETTINGS = ("adapters", "methods", "retrievers")
OLD_CODE = {"retrieved_histories": "1", "tuning_prompts": "1", "evaluation_prompts": "2"}
CHANGED = {*OLD_CODE, "lora_adapter", "predictions", REPORT}  # stages that depend on something else since then
# They score the rows of stages that changed, or may ask the adapter.
OTHERS = {"baseline_predictions", "expert_predictions", "recommendations", "recommendation_report"}
UNKNOWN = {"collaborative": {"warm_start": True}, "alignment": {"warm_start": True}, "text": {"of_old": 1}}


@pytest.fixture(scope="module")
def old_lake(finished_world: Path, finished_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that the whole job makes, as the last version with slots would have left it."""
    lake = copied_world(finished_world, tmp_path_factory.mktemp("old"))
    into_slots(lake, load_settings())
    return lake


@pytest.fixture
def lake(old_lake: Path, tmp_path: Path) -> Path:
    """A copy for one test."""
    return shutil.copytree(old_lake, tmp_path / "lake", symlinks=True)


def into_slots(lake: Path, settings: Settings) -> None:
    spec = looking_run(lake, NAME, settings).spec
    made = {name: in_force_now(lake, NAME, name) for name in STAGES if name not in ROLES[1:]}
    for record in made.values():
        folder = record.folder(lake)
        slots = [lake / (p.relative_to(folder) if p.is_relative_to(folder) else p) for p in record.paths(lake)]
        for path, slot in zip(record.paths(lake), slots, strict=True):
            if path != slot:
                slot.unlink()
                (shutil.copytree if path.is_dir() else shutil.copy2)(path, slot)
        files = [slot for slot in slots if record.stage != "predictions" or slot.suffix != ".json"]
        known = json.loads(json.dumps(STAGES[record.stage].depends_on(settings, spec), default=full))
        version = content_version(files)
        document = {
            "artefact": of_old(record.stage),
            "dataset": record.dataset,
            "fingerprint": "0" * 32,
            "data_version": record.data_version,
            "inputs": {of_old(name): given.data_version for name, given in record.inputs.items()},
            "settings": {name: with_unknown(name, value) for name, value in known.items() if name not in NEW_SETTINGS},
            "code_version": OLD_CODE.get(record.stage, record.code_version),
            "run_id": record.run_id,
            "created_at": record.created_at,
            "seconds": record.seconds,
            "files": [file.relative_to(lake).as_posix() for file in files],
            "metadata": dict(record.metadata),
            "bytes_version": "" if version == record.data_version else version,
            "states": [],
            "rows_file": rows_file(lake, record.stage),
        }
        write_json(lake / "provenance" / record.dataset / f"{of_old(record.stage)}.json", document)
    write_json(lake / "provenance" / NAME / "history" / "samples" / "000001.json", {"artefact": "samples"})
    for name in ("results", "refs", "cache/adapters"):
        shutil.rmtree(lake / name)


def of_old(name: str) -> str:
    """The stage of that time: one model played all roles."""
    return "base_model" if name in ROLES else name


def rows_file(lake: Path, stage: str) -> str | None:
    rows = in_force_now(lake, NAME, stage).rows(lake)
    if rows is None:
        return None
    path = lake / "provenance" / NAME / "rows" / f"{stage}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(path)
    return path.relative_to(lake).as_posix()


def full(value: Any) -> Any:
    """Settings with their defaults written out, as they were stored then."""
    return value.model_dump(mode="json")


def with_unknown(name: str, value: Any) -> Any:
    """`value` with settings that the program does not have any more."""
    return value | UNKNOWN.get(name, {}) if isinstance(value, dict) else value


def adopted(lake: Path) -> tuple[dict[str, Plan], list[str]]:
    said: list[str] = []
    run = looking_run(lake, NAME, load_settings(), said.append)
    adopt_dataset(run, STAGES)
    return plan_stages(run, STAGES), said


def test_what_depends_on_the_same_is_up_to_date_and_nothing_goes_to_the_llm_again(lake: Path) -> None:
    plans, said = adopted(lake)
    assert {name for name, plan in plans.items() if plan.reasons} == CHANGED
    assert {name for name, plan in plans.items() if not plan.is_fresh} == CHANGED | OTHERS
    assert plans["retrieved_histories"].reasons == ["the code changed"]
    assert said == [f"{NAME}: {len(STAGES) - 1} of {len(STAGES)} results of an older version were taken over"]
    worked = {name for name, worked in make_stages(lake, NAME, load_settings()).items() if worked}
    assert CHANGED - {"tuning_prompts", "evaluation_prompts"} <= worked <= CHANGED | OTHERS
    for name in ("lora_adapter", "predictions"):
        assert in_force_now(lake, NAME, name).metadata["llm"]["rows"] == 0, name
    assert not (lake / "provenance" / NAME).exists()
    assert adopted(lake)[1] == [], "once is enough"


def test_results_have_the_records_the_rows_and_the_bytes_of_before(lake: Path, old_lake: Path) -> None:
    adopted(lake)
    for name, stage in STAGES.items():
        if name == REPORT:
            continue
        record = in_force_now(lake, NAME, name)
        path = old_lake / "provenance" / (NAME if stage.partitioned else SHARED) / f"{of_old(name)}.json"
        old = json.loads(path.read_text(encoding="utf-8"))
        for key in ("data_version", "run_id", "created_at", "seconds", "metadata", "code_version"):
            assert getattr(record, key) == old[key], (name, key)
        rows = record.rows(lake)
        assert (rows is not None) == (old["rows_file"] is not None), name
        for file in old["files"]:
            assert content_version([lake / file]) == content_version([old_lake / file]), file
            assert file.split("/")[0] in FETCHED or (lake / file).is_symlink(), file
    assert json.loads((lake / "predictions" / "rallrec" / f"{NAME}.json").read_text(encoding="utf-8"))["scored"] > 0
    (ref,) = [ref for ref in past_refs(lake, NAME) if len(ref.results) == len(STAGES) - 1]
    assert ref.variant == "demo"


def test_adapters_are_found_by_their_keys(lake: Path) -> None:
    adopted(lake)
    record = in_force_now(lake, NAME, "lora_adapter")
    keys = {record.metadata[adapter]["key"] for adapter in ("recent", "rallrec")}
    assert {path.name for path in (lake / "cache" / "adapters" / NAME).glob("*/*")} == keys
    shutil.rmtree(record.folder(lake))
    assert make_stages(lake, NAME, load_settings(), "lora_adapter") == {"lora_adapter": True}
    assert in_force_now(lake, NAME, "lora_adapter").metadata["llm"]["rows"] == 0


def test_an_edited_file_is_not_taken_over_and_nothing_that_was_made_of_it(lake: Path) -> None:
    file = tables.CORE_ITEMS.file(lake, NAME)
    good = file.read_bytes()
    file.write_bytes(good + b"edited")
    plans, _ = adopted(lake)
    assert plans["core_items"].reasons == ["never made"]
    after = {name for name, plan in plans.items() if not plan.is_fresh}
    assert {"item_descriptions", "item_index", "predictions"} < after
    assert {"raw_files", "core_interactions", "samples", *ROLES}.isdisjoint(after)
    make_stages(lake, NAME, load_settings(), "core_items", "item_descriptions", "title_embeddings")
    assert file.read_bytes() == good
    for name in ("item_descriptions", "title_embeddings"):  # their rows are finished all the same
        assert in_force_now(lake, NAME, name).metadata["llm"]["rows"] == 0


@pytest.mark.parametrize("damage", ["{", "[]", "null", "{}", '{"files": []}'])
def test_an_unreadable_record_is_as_good_as_none(lake: Path, damage: str) -> None:
    (lake / "provenance" / NAME / "users.json").write_text(damage, encoding="utf-8")
    plans, _ = adopted(lake)
    assert plans["users"].reasons == ["never made"] and plans["samples"].is_fresh


def test_of_other_settings_the_results_are_there_and_their_stages_are_stale(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = load_settings().model_copy(update={"text": load_settings().text.model_copy(update={"pca_dimensions": 3})})
    run = looking_run(lake, NAME, other)
    adopt_dataset(run, STAGES)
    assert plan_stages(run, STAGES)["text_embeddings"].reasons == ["setting text.pca_dimensions changed"]
    assert len(all_records(lake, NAME, "text_embeddings")) == 1
    plans = plan_stages(looking_run(lake, NAME, load_settings()), STAGES)
    assert {name for name, plan in plans.items() if plan.reasons} == CHANGED
