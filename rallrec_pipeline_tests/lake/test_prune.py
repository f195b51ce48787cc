"""Prune: nothing that a ref leads to is lost, and what no ref leads to goes."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rallrec_pipeline.errors import ConfigError, StaleArtefactError
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import DESCRIPTIONS, SCORES
from rallrec_pipeline.lake.prune import KEEP, Pruned, PruneOptions, prune_lake
from rallrec_pipeline.lake.sealed import read_sealed, write_sealed
from rallrec_pipeline.lake.store import ROWS, Ref, recorded_datasets, variant_refs
from rallrec_pipeline_tests.lake.pruned_world import SHARED, STAGES, World, content_of
from rallrec_pipeline_tests.lake.test_locks import hold

DATASETS, ITEMS, TITLES = ("a", "b"), ("1", "2", "3"), ("Heat", "Fargo", None)
STEP = st.one_of(
    st.tuples(st.just("edit"), st.sampled_from(DATASETS), st.sampled_from(ITEMS), st.sampled_from(TITLES)),
    st.tuples(st.just("template"), st.sampled_from(DATASETS), st.integers(0, 2)),
    st.tuples(st.just("run"), st.sampled_from(DATASETS), st.booleans()),
    st.tuples(st.just("variant"), st.sampled_from(["demo", "full"])),
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
    max_examples=10,
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
            elif what == "variant":
                world.variant = rest[0]
            elif what == "wait":
                world.wait(rest[0])
            else:
                checked_prune(world, *rest)
        checked_prune(world, None, 1, None)


def checked_prune(world: World, dataset: str | None, keep: int | None, older_than: float | None) -> None:
    owners = recorded_datasets(world.lake)
    before = {owner: (world.refs(owner), variant_refs(world.lake, owner)) for owner in owners}
    if dataset is not None and dataset not in before:
        with pytest.raises(ConfigError, match="nothing was ever made"):
            world.prune(dataset)
        return
    world.prune(dataset, keep=keep, older_than=older_than)
    for owner, (refs, variants) in before.items():
        runs = list(dict.fromkeys(ref.run_id for ref in refs))  # one may leave behind an entry for each variant
        staying = [ref for ref in refs if must_stay(world, runs.index(ref.run_id), ref, keep, older_than)]
        assert world.refs(owner) == (staying if dataset in (None, owner) else refs)
        assert variant_refs(world.lake, owner) == variants
    world.assert_whole()
    assert not world.prune(dataset, keep=keep, older_than=older_than).kinds


def must_stay(world: World, number: int, ref: Ref, keep: int | None, older_than: float | None) -> bool:
    if older_than is not None and ref.at >= (world.now - timedelta(days=older_than)).isoformat():
        return True
    return number < (keep or (KEEP if older_than is None else 1))


def test_by_default_what_five_runs_left_behind_stays(world: World) -> None:
    for template in range(1, 9):
        change(world, template)
    done = world.prune()
    assert len(world.refs("a")) == KEEP == len(world.records("a", "predictions"))
    assert len(world.records("a", "core_items")) == 1
    assert done.kinds["history"].files == 9 - KEEP
    assert done.kinds["results"].files == 3 * 3 * (9 - KEEP), "a table, its rows and a manifest"
    assert done.kinds["cache/descriptions"].rows == done.kinds["cache/scores"].rows == 2 * (9 - KEEP)
    assert done.kinds["cache/vectors"].rows == 2 * (9 - KEEP)
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


def test_what_a_variant_has_stays_however_long_ago_it_ran(world: World) -> None:
    world.variant = "full"
    change(world, 1)
    world.variant = "demo"
    for template in range(2, 9):
        change(world, template)
    world.wait(365)
    world.prune(keep=1)
    assert {ref.variant for ref in world.refs("a")} == {"demo"} and len(world.records("a", "predictions")) == 2
    world.assert_whole()
    computed, world.variant = world.computed, "full"
    change(world, 1)
    assert world.computed == computed and world.prune(keep=1).kinds.keys() == {"history"}


def test_what_a_variant_had_goes_when_it_has_something_else(world: World) -> None:
    """Its last entry of the history has gone long before, so no ref that goes names it."""
    world.variant = "full"
    change(world, 1)
    world.variant = "demo"
    change(world, 2)
    world.prune(keep=1)
    assert len(world.records("a", "predictions")) == 2
    world.wait(40)
    world.variant = "full"
    change(world, 3)
    world.prune(keep=1)
    assert len(world.records("a", "predictions")) == 2
    world.assert_whole()


def test_what_a_kept_result_was_made_from_stays_over_any_number_of_steps(world: World) -> None:
    """The dataset was edited often, but predictions were made of the first edition only."""
    first = world.current("a", "core_items")
    for title in ("x", "y", "z"):
        world.wait(1)
        world.begin()
        world.record("a", "core_items", title, {})
    done = world.prune(keep=1)
    assert done.kinds["results"].files == 2 * 2 and done.kinds.keys() == {"results", "history"}
    kept = [record.fingerprint for record in world.records("a", "core_items")]
    assert kept == [world.current("a", "core_items").fingerprint, first.fingerprint]
    assert world.current("a", "item_descriptions").inputs["core_items"].fingerprint == first.fingerprint
    world.assert_whole()


def test_a_result_that_no_ref_names_stays_for_a_month(world: World) -> None:
    """A run was killed between finishing it and saying so."""
    world.begin()
    named = {path: path.read_bytes() for path in (world.lake / "refs" / "a").rglob("*.json")}
    unnamed = world.record("a", "core_items", "unnamed", {})
    for path in (world.lake / "refs" / "a").rglob("*.json"):
        path.write_bytes(named[path]) if path in named else path.unlink()
    world.wait(29)
    assert "results" not in world.prune(keep=1).kinds
    world.wait(2)
    assert world.prune(keep=1).kinds["results"].files == 2
    assert unnamed not in world.records("a", "core_items")
    world.assert_whole()


def test_what_a_broken_off_run_has_finished_stays_for_a_month(world: World) -> None:
    world.templates["a"] = 1
    world.run("a", killed=True)
    assert len(world.records("a", "item_descriptions")) == 1
    world.wait(29)
    world.prune(keep=1)
    assert not world.missing("a")
    world.wait(2)
    assert world.prune(keep=1).kinds["cache/scores"].rows == 2
    world.templates["a"] = 0
    assert not world.missing("a"), "what the last finished run refers to stays"
    world.assert_whole()


def test_days_count_for_refs_and_rows(world: World) -> None:
    for template in (1, 2, 3):
        world.wait(10)
        change(world, template)
    merged = world.prune(older_than=31).kinds
    assert not {"results", "history"} & merged.keys() and not any(kind.rows for kind in merged.values())
    done = world.prune(older_than=15)
    assert len(world.records("a", "predictions")) == 2 and done.kinds["cache/descriptions"].rows == 4
    world.wait(100)
    assert not world.prune(keep=2, older_than=15).kinds
    assert world.prune(older_than=15).kinds["history"].files == 1
    assert len(world.records("a", "predictions")) == 1
    world.assert_whole()


@pytest.mark.parametrize(("file", "damage"), [(ROWS, "damaged"), ("manifest.json", "{"), ("manifest.json", '{"a": 1}')])
def test_where_a_result_cannot_be_read_the_caches_are_left_alone(world: World, file: str, damage: str) -> None:
    for template in (1, 2):
        change(world, template)
    folder = world.current("a", "item_descriptions").folder(world.lake)
    (folder / file).write_text(damage, encoding="utf-8")
    done = world.prune(keep=1)
    assert done.kinds.keys() == {"results", "history"} and folder.exists()
    (note,) = done.notes
    assert note.startswith(f"caches were left alone: cannot read {folder}")
    assert not world.missing("a") and len(world.records("a", "predictions")) == 1


@pytest.mark.parametrize("name", ["demo.json", "history/000001.json"])
def test_where_a_ref_is_damaged_nobody_knows_what_it_names_and_nothing_of_it_goes(world: World, name: str) -> None:
    for template in (1, 2):
        change(world, template)
    before = len(world.records("a", "predictions"))
    path = world.lake / "refs" / "a" / name
    path.write_bytes(path.read_bytes().replace(b"demo", b"dem0", 1))
    done = world.prune(keep=1)
    assert "results" not in done.kinds and len(world.records("a", "predictions")) == before
    assert str(path) in done.notes[0] and path.exists()


def test_a_result_of_a_newer_version_stops_it_in_one_line(world: World) -> None:
    change(world, 1)
    path = world.current("a", "item_descriptions").manifest(world.lake)
    write_sealed(path, read_sealed(path) | {"format": 99})
    before = content_of(world.lake)
    with pytest.raises(StaleArtefactError, match="newer version of this program") as told:
        prune_lake(world.lake, None, PruneOptions(keep=1), print, world.now)
    assert "\n" not in str(told.value) and content_of(world.lake) == before


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


def test_adapters_go_with_the_results_that_name_them(world: World) -> None:
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
        world.begin()
        world.record("a", "lora_adapter", key, {}, recent={"key": key})
    assert world.prune("a", keep=2).kinds["cache/adapters"].files == 1
    assert [key for key, folder in folders.items() if folder.exists()] == ["k2", "k3", "broken_off"]
    world.wait(31)
    done = world.prune(keep=2)
    assert done.kinds["cache/adapters"].files == 1 and not folders["broken_off"].exists()
    assert folders["k2"].exists() and folders["k3"].exists()


def test_raw_files_models_and_files_elsewhere_are_never_removed(world: World, tmp_path: Path) -> None:
    outside = tmp_path / "precious"
    outside.write_text("x")
    raw = world.file("raw/a/ratings.csv", "x")
    record = world.current("a", "core_items")
    named = ["../precious", str(outside), "tables/../../precious", "raw/a/ratings.csv", "tables"]
    document = read_sealed(record.manifest(world.lake)) | {"outputs": named}
    for title in ("x", "y"):
        world.wait(1)
        world.edit("a", "1", title)
        world.run("a")
    write_sealed(record.manifest(world.lake), document)
    world.prune(keep=1)
    assert not record.folder(world.lake).exists(), "the record with those names has gone"
    assert outside.exists() and raw.exists() and (world.lake / "tables/core_items/a.parquet").exists()
    assert (world.lake / "models/m/weights").exists() and len(world.records(SHARED, "predictor")) == 1


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
    unlink, rename, remove = Path.unlink, os.replace, os.unlink
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

        def crashing_remove(*arguments: Any, **options: Any) -> None:
            count()
            remove(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", crashing_unlink)
            patch.setattr(os, "unlink", crashing_remove)
            patch.setattr(os, "replace", crashing_replace)
            try:
                prune_lake(world.lake, None, PruneOptions(keep=2), print, world.now)
            except KeyboardInterrupt:
                broken += 1
        for ref in world.refs("a")[:2]:
            for stage in STAGES:
                world.assert_made_of_what_is_there("a", stage, ref.results[stage])
    assert broken >= 4
    world.prune(keep=2)
    world.assert_whole()
    assert not world.prune(keep=2).kinds and len(world.records("a", "predictions")) == 2


def test_what_is_left_of_a_result_without_its_manifest_goes(world: World) -> None:
    record = world.current("a", "core_items")
    change(world, 1)
    broken = world.current("a", "predictions")
    change(world, 2)
    broken.manifest(world.lake).unlink()
    record.manifest(world.lake).rename(record.folder(world.lake) / "moved.json")
    done = world.prune(keep=1)
    assert not broken.folder(world.lake).exists() and done.kinds["results"].files > 0
    assert record.folder(world.lake).exists() and "cannot read" in done.notes[0], "a ref that stays names it"


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
