"""Prune: nothing that a record which stays refers to is lost, and what nothing refers to goes."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rallrec_pipeline.lake.history import history_folder, record_at, record_run

from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.lake.memo import DESCRIPTIONS, SCORES, Memo
from rallrec_pipeline.lake.provenance import Sidecar, read_sidecar, write_sidecar
from rallrec_pipeline.lake.prune import KEEP, Pruned, PruneOptions, prune_lake
from rallrec_pipeline_tests.lake.pruned_world import World, content_of
from rallrec_pipeline_tests.lake.test_locks import hold

DATASETS, ITEMS, TITLES = ("a", "b"), ("1", "2", "3"), ("Heat", "Fargo", None)
STEP = st.one_of(
    st.tuples(st.just("edit"), st.sampled_from(DATASETS), st.sampled_from(ITEMS), st.sampled_from(TITLES)),
    st.tuples(st.just("template"), st.sampled_from(DATASETS), st.integers(0, 2)),
    st.tuples(st.just("run"), st.sampled_from(DATASETS), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 10, 40])),
    st.tuples(
        st.just("prune"),
        st.sampled_from([None, *DATASETS]),
        st.sampled_from([None, 1, 2]),
        st.sampled_from([None, 0, 5, 20]),
    ),
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A dataset with two items, made once."""
    made = World(tmp_path / "lake")
    made.edit("a", "1", "Heat")
    made.edit("a", "2", "Fargo")
    made.run("a")
    return made


def change(world: World, template: int, dataset: str = "a") -> None:
    world.templates[dataset] = template
    world.run(dataset)


# A smaller example would take minutes to find: the steps of the one that failed are short enough to read.
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(st.lists(STEP, min_size=6, max_size=24))
def test_nothing_that_is_referred_to_is_lost(steps: list[tuple[Any, ...]]) -> None:
    with TemporaryDirectory() as folder:
        world = World(Path(folder) / "lake")
        world.edit("a", "1", "Heat")
        world.run("a")
        for what, *rest in steps:
            if what == "edit":
                world.edit(*rest)
            elif what == "template":
                world.templates[rest[0]] = rest[1]
            elif what == "run":
                world.run(rest[0], killed=rest[1])
            elif what == "wait":
                world.wait(rest[0])
            else:
                checked_prune(world, *rest)
        checked_prune(world, None, 1, None)


def checked_prune(world: World, dataset: str | None, keep: int | None, older_than: float | None) -> None:
    before = world.all_records()
    if dataset is not None and (dataset, "core_items") not in before:
        with pytest.raises(ConfigError, match="nothing was ever made"):
            world.prune(dataset)
        return
    world.prune(dataset, keep=keep, older_than=older_than)
    after = world.all_records()
    assert after.keys() == before.keys()
    for (owner, artefact), records in before.items():
        for number, record in enumerate(records):
            if must_stay(world, number, record, keep, older_than) or dataset not in (None, owner):
                assert record in after[owner, artefact], (owner, artefact, number)
    world.assert_whole()
    assert not world.prune(dataset, keep=keep, older_than=older_than).kinds


def must_stay(world: World, number: int, record: Sidecar, keep: int | None, older_than: float | None) -> bool:
    if older_than is not None and record.created_at >= (world.now - timedelta(days=older_than)).isoformat():
        return True
    return number < (keep or (KEEP if older_than is None else 1))


def test_by_default_five_records_of_each_artefact_stay(world: World) -> None:
    for template in range(1, 9):
        change(world, template)
    done = world.prune()
    assert len(world.records("a", "item_descriptions")) == KEEP == len(world.records("a", "predictions"))
    assert len(world.records("a", "core_items")) == 1
    assert done.kinds["records"].files == 3 * (9 - KEEP)
    assert done.kinds["cache/descriptions"].rows == done.kinds["cache/scores"].rows == 2 * (9 - KEEP)
    assert done.kinds["cache/vectors"].rows == 2 * (9 - KEEP)
    assert done.kinds["per-row provenance"].rows == 3 * 2 * (9 - KEEP)
    assert done.summary().startswith(f"{sum(k.files for k in done.kinds.values())} files, {6 * (9 - KEEP)} rows of the")
    world.assert_whole()
    computed = world.computed
    change(world, 8 - KEEP + 1)
    assert world.computed == computed, "a template among the last five costs nothing"
    change(world, 0)
    assert world.computed == computed + 6


def test_a_row_that_another_dataset_uses_stays(world: World) -> None:
    world.edit("b", "7", "Heat")
    world.run("b")
    for template in (1, 2):
        change(world, template)
    done = world.prune("a", keep=1)
    assert done.kinds["cache/descriptions"].rows == 4 - 1
    assert not world.missing("b")
    world.assert_whole()
    assert len(world.records("b", "predictions")) == 1


def test_records_that_a_kept_one_was_made_from_stay(world: World) -> None:
    """The dataset was edited often, but predictions were made of the first edition only."""
    for title in ("x", "y", "z"):
        world.edit("a", "1", title)
        world.wait(1)
        table = world.file("tables/core_items/a.parquet", title)
        world.record("a", "core_items", table, {})
    world.prune(keep=1)
    kept = [record.data_version for record in world.records("a", "core_items")]
    assert len(kept) == 2
    described = world.records("a", "item_descriptions")[0]
    assert kept[1] == described.inputs["core_items"]
    assert record_at(world.lake, "core_items", "a", described.run_id, described.created_at)


def test_a_removed_record_is_not_taken_for_an_older_one(world: World) -> None:
    first = world.records("a", "core_items")[0]
    moments = []
    for title in ("x", "y", "z"):
        world.wait(1)
        moments.append(world.time())
        world.record("a", "core_items", world.file("tables/core_items/a.parquet", title), {})
    world.prune(keep=1)  # the first one stays, because descriptions were made from it

    def at(moment: str) -> str | None:
        found = record_at(world.lake, "core_items", "a", "another run", moment)
        return found and found.data_version

    assert at(first.created_at) == first.data_version
    assert at(moments[0]) is None is at(moments[1])
    assert at(moments[2]) == world.records("a", "core_items")[0].data_version


def test_what_a_broken_off_run_has_finished_stays_for_a_month(world: World) -> None:
    world.templates["a"] = 1
    world.run("a", killed=True)
    assert read_sidecar(world.lake, "item_descriptions", "a") is None
    world.wait(29)
    world.prune(keep=1)
    assert not world.missing("a")
    world.wait(2)
    assert world.prune(keep=1).kinds["cache/scores"].rows == 2
    world.templates["a"] = 0
    assert not world.missing("a"), "what the last finished run refers to stays"
    world.assert_whole()


def test_days_count_for_records_and_rows(world: World) -> None:
    for template in (1, 2, 3):
        world.wait(10)
        change(world, template)
    merged = world.prune(older_than=31).kinds
    assert "records" not in merged and not any(kind.rows for kind in merged.values())
    done = world.prune(older_than=15)
    assert len(world.records("a", "predictions")) == 2 and done.kinds["cache/descriptions"].rows == 4
    world.wait(100)
    assert not world.prune(keep=2, older_than=15).kinds
    assert world.prune(older_than=15).kinds["records"].files == 3
    world.assert_whole()


def test_unknown_provenance_keeps_the_caches(world: World) -> None:
    for template in (1, 2):
        change(world, template)
    rows_file = world.records("a", "item_descriptions")[0].rows_file
    assert rows_file is not None
    (world.lake / rows_file).write_bytes(b"damaged")
    done = world.prune(keep=1)
    assert not any(kind.startswith("cache/") for kind in done.kinds) and done.kinds["records"].files == 6
    assert f"caches were left alone: {world.lake / rows_file} is missing or damaged" in done.notes[0]
    assert len(done.notes[0].splitlines()) == 1


@pytest.mark.parametrize("damage", ['{"artefact": "predictions"', '{"a_field_of_a_newer_version": 1}'])
def test_a_record_that_cannot_be_read_keeps_everything(world: World, damage: str) -> None:
    for template in (1, 2):
        change(world, template)
    world.wait(100)
    path = world.lake / "provenance" / "a" / "history" / "item_descriptions" / "000003.json"
    assert path.exists()
    path.write_text(damage, encoding="utf-8")
    before = content_of(world.lake)
    done = world.prune(keep=1)
    assert not done.kinds and content_of(world.lake) == before
    assert done.notes == [f"only temporary files go: cannot read {path}"]


@pytest.mark.parametrize("days", [float("nan"), float("inf")])
def test_days_must_be_a_number(world: World, days: float) -> None:
    with pytest.raises(ConfigError, match="--older-than is"):
        world.prune(older_than=days)


def test_a_damaged_file_keeps_its_cache_and_no_other(world: World) -> None:
    for template in (1, 2):
        change(world, template)
    file = Memo(world.lake, DESCRIPTIONS).path
    file.write_bytes(b"damaged")
    done = world.prune(keep=1)
    assert str(file) in done.notes[0] and "cache/descriptions" not in done.kinds
    assert done.kinds["cache/scores"].rows == 4 and file.exists()


def test_keys_of_a_lake_without_history_are_read_from_its_tables(world: World, tmp_path: Path) -> None:
    record = world.records("a", "item_descriptions")[0]
    rows = pl.read_parquet(world.lake / str(record.rows_file))
    rows.write_parquet(world.lake / record.files[0])
    write_sidecar(world.lake, replace(record, rows_file=None, states=[], bytes_version=""))
    for path in history_folder(world.lake, "item_descriptions", "a").iterdir():
        path.unlink()
    world.wait(365)
    done = world.prune(older_than=1)
    assert "cache/descriptions" not in done.kinds and not done.notes and not world.missing("a")


def test_outputs_of_methods_that_no_record_names_go(world: World) -> None:
    lake = world.lake
    world.now = world.now.replace(year=2200)  # files are younger than the clock of this world otherwise
    for name in ("lora_adapter", "baseline_predictions"):
        world.record("a", name, world.file(f"checkpoints/a/{name}/w", name).parent, {})
    old = [world.file(f"predictions/dropped/a.{kind}", "x") for kind in ("parquet", "json")]
    old.append(world.file("checkpoints/a/dropped/adapter.safetensors", "x"))
    other = world.file("predictions/dropped/b.parquet", "x")
    user = [world.file(name, "x") for name in ("raw/a/ratings.csv", "models/old/weights", "predictions/dropped/a.txt")]
    change(world, 1)
    broken_off = world.file("checkpoints/a/new/adapter.safetensors", "x")
    later = (world.now + timedelta(days=1)).timestamp()
    os.utime(broken_off, (later, later))
    done = world.prune("a")
    assert done.kinds["outputs that no record names"].files == 3
    assert not any(path.exists() for path in old) and not (lake / "checkpoints/a/dropped").exists()
    assert all(path.exists() for path in [other, broken_off, *user])
    assert (lake / "predictions/rallrec/a.parquet").exists() and (lake / "checkpoints/a/lora_adapter").exists()


def test_outputs_stay_until_their_stage_was_finished(world: World) -> None:
    world.now = world.now.replace(year=2200)
    adapter = world.file("checkpoints/a/rallrec/adapter.safetensors", "x")
    change(world, 1)
    assert "outputs that no record names" not in world.prune("a").kinds and adapter.exists()


def test_adapters_that_were_set_aside_go_with_the_records_that_name_them(world: World) -> None:
    old = (world.now - timedelta(days=40)).timestamp()
    folders: dict[str, Path] = {}
    for key in ("k1", "k2", "k3", "broken_off"):
        file = world.file(f"cache/adapters/a/recent/{key}/w", key)
        folders[key] = file.parent
        stamp = old if key != "broken_off" else world.now.timestamp()
        for path in (file, file.parent):
            os.utime(path, (stamp, stamp))
    for key in ("k1", "k2", "k3"):
        world.wait(0.1)
        world.record("a", "lora_adapter", world.file("checkpoints/a/recent/w", key), {}, recent={"key": key})
    assert world.prune("a", keep=2).kinds["cache/adapters"].files == 1
    assert [key for key, folder in folders.items() if folder.exists()] == ["k2", "k3", "broken_off"]
    world.wait(31)
    done = world.prune(keep=2)
    assert done.kinds["cache/adapters"].files == 1 and not folders["broken_off"].exists()
    assert folders["k2"].exists() and folders["k3"].exists()
    newest = world.records("a", "lora_adapter")[0]
    record_run(world.lake, replace(newest, metadata={"recent": {"epochs": []}}))  # as an earlier version wrote it
    assert "cache/adapters" not in world.prune(older_than=0).kinds and folders["k2"].exists()


def test_a_record_cannot_name_files_elsewhere(world: World, tmp_path: Path) -> None:
    outside = tmp_path / "precious"
    outside.write_text("x")
    raw = world.file("raw/a/ratings.csv", "x")
    world.now = world.now.replace(year=2200)
    record = world.records("a", "core_items")[0]
    named = ["../precious", str(outside), "tables/../../precious", "raw/a/ratings.csv", "tables"]
    record_run(world.lake, replace(record, files=named, created_at=world.time()))
    for title in ("x", "y"):
        world.wait(1)
        world.record("a", "core_items", world.file("tables/core_items/a.parquet", title), {})
    world.prune(keep=1)
    assert outside.exists() and raw.exists() and (world.lake / "tables/core_items/a.parquet").exists()


def test_temporary_files_of_killed_runs_go_after_a_day(world: World) -> None:
    names = (
        "tables/.x.parquet.0a1b2c3d.tmp",
        "models/.m.0a1b2c3d.old/w",
        ".model-abcd_123/w",
        "raw/a/.wheel-abcd1234/w",
    )
    kept = ("tables/.hidden", "raw/a/x.tmp", ".x.0a1b2c3d.tmp.csv")
    for name in (*names, *kept):
        world.file(name, "x")
    world.now = world.now.fromtimestamp(time.time(), world.now.tzinfo)
    assert not world.prune().kinds
    world.wait(1.1)
    young = world.file("models/.n.0a1b2c3d.tmp/deep/w", "x").parents[1]
    stamp = world.now.timestamp()
    os.utime(young / "deep/w", (stamp, stamp))
    assert world.prune().kinds["temporary files"].files == len(names)
    assert young.exists() and all((world.lake / name).exists() for name in kept)
    assert not [
        name for name in names if (world.lake / name).parent.name.startswith(".") and (world.lake / name).exists()
    ]


def test_a_crash_anywhere_is_mended_by_the_next_prune(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    unlink, rename = Path.unlink, os.replace
    for template in range(1, 8):
        change(world, template)
    broken = 0
    for survived in (0, 1, 3, 6, 9, 12, 40):
        calls = [0]

        def count(calls: list[int] = calls, survived: int = survived) -> None:
            calls[0] += 1
            if calls[0] > survived:
                raise KeyboardInterrupt

        def crashing_unlink(path: Path, missing_ok: bool = False) -> None:
            if not missing_ok:
                count()
            unlink(path, missing_ok)

        def crashing_replace(*paths: Any) -> None:
            count()
            rename(*paths)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", crashing_unlink)
            patch.setattr(os, "replace", crashing_replace)
            try:
                prune_lake(world.lake, None, PruneOptions(keep=2), print, world.now)
            except KeyboardInterrupt:
                broken += 1
        for artefact in ("item_descriptions", "description_embeddings", "predictions"):
            for record in world.records("a", artefact)[:2]:
                world.assert_rows("a", artefact, record)
    assert broken >= 4
    world.prune(keep=2)
    world.assert_whole()
    assert not world.prune(keep=2).kinds and len(world.records("a", "predictions")) == 2


def test_it_waits_for_a_run_and_a_dry_run_does_not(world: World) -> None:
    change(world, 1)
    other = hold(world.lake)  # a dataset whose first run is under way
    said: list[str] = []

    def release(message: str) -> None:
        said.append(message)
        other.kill()

    try:
        dry = prune_lake(world.lake, None, PruneOptions(keep=1, dry_run=True), said.append, world.now)
        assert not said
        assert prune_lake(world.lake, None, PruneOptions(keep=1), release, world.now) == dry
        assert f"process {other.pid} on" in said[0] and "slice" in said[0]
    finally:
        other.kill()
        other.wait()


def test_an_empty_lake_has_nothing_to_remove(tmp_path: Path) -> None:
    assert prune_lake(tmp_path / "none", None, PruneOptions(), print) == Pruned() and not (tmp_path / "none").exists()
    with pytest.raises(ConfigError, match="datasets with artefacts are none"):
        prune_lake(tmp_path, "a", PruneOptions(), print)
    for name in ("..", "a/b", "", "."):
        with pytest.raises(ConfigError):
            prune_lake(tmp_path, name, PruneOptions(), print)


def test_unused_scores_go_by_age_alone(world: World) -> None:
    memo = Memo(world.lake, SCORES)
    memo.add(pl.DataFrame({"key": ["k"], "created_at": [world.time()]}))
    world.wait(20)
    assert world.prune(older_than=30).kinds.keys() <= {"cache/scores"}
    assert memo.known(["k"])
    world.prune(older_than=19)
    assert not memo.known(["k"]) and not world.missing("a")
    assert content_of(world.lake)
