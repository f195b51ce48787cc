"""Warm starts of the two stages that fit whole tables: what they start from, what they must not know, and crashes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from rallrec_pipeline.datasets.histories import make_samples
from rallrec_pipeline.datasets.order import in_global_order
from rallrec_pipeline.embeddings.text import embeddings_frame
from rallrec_pipeline.embeddings.weights import Weights, read_ids, read_weights, write_weights
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.files import read_json
from rallrec_pipeline.lake.parquet import read_table, write_table
from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline.pipeline.checks.items import fitted_on_training_only
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.stages import collaborative_fit
from rallrec_pipeline.pipeline.stages.embeddings import aligned_embeddings, collaborative_embeddings
from rallrec_pipeline.settings import SeedSettings, load_settings
from rallrec_pipeline_tests.pipeline.tiny import DATASET, make_world, ratings_file

NAME = "small"
N_USERS, N_ITEMS = 30, 16
ITEM_IDS = [f"i{item}" for item in range(N_ITEMS)]
WEIGHTS = f"embeddings/collaborative/{NAME}.weights.safetensors"
FILES = (
    WEIGHTS,
    f"embeddings/collaborative/{NAME}.weights.json",
    f"embeddings/collaborative/{NAME}.fitted.parquet",
)
PROJECTOR = f"embeddings/aligned/{NAME}.projector.safetensors"
Change = dict[str, dict[str, Any]]
NONE_SPARED = {"prompts": {"train_samples": 10_000}}  # so many tuning targets that none is left out of the graph


@pytest.fixture(autouse=True)
def built_in_settings_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RALLREC_SETTINGS", "RALLREC_PROFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Users of two tastes, with 12 ratings each; random text vectors."""
    folder = tmp_path / "lake"
    (folder / "catalog").mkdir(parents=True)
    (folder / "catalog" / f"{NAME}.toml").write_text(DATASET.format(name=NAME), encoding="utf-8")
    write_table(pl.DataFrame({"item_id": ITEM_IDS, "title": ITEM_IDS}), tables.CORE_ITEMS, folder, NAME)
    text = np.random.default_rng(1).normal(size=(N_ITEMS, 6)).astype(np.float32)
    table = embeddings_frame(ITEM_IDS, text, ITEM_IDS, "1", "", "run")
    write_table(table, tables.embeddings_table("text"), folder, NAME)
    write_ratings(folder)
    return folder


def ratings() -> pl.DataFrame:
    """All ratings, in global order."""
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"i{item}", float(rng.integers(3, 6) if user % 2 == item % 2 else rng.integers(1, 4)))
        for user in range(N_USERS)
        for item in rng.choice(N_ITEMS, 12, replace=False)
    ]
    frame = pl.DataFrame(rows, schema={"user_id": pl.String, "item_id": pl.String, "rating": pl.Float32}, orient="row")
    return in_global_order(frame.with_columns(pl.Series("timestamp", rng.permutation(len(rows)), dtype=pl.Int64)))


def write_ratings(lake: Path, first: int | None = None) -> None:
    """The `first` ratings as the core, and their samples."""
    run = stage_run(lake)
    core = ratings().head(first) if first else ratings()
    write_table(core, tables.CORE_INTERACTIONS, lake, NAME)
    write_table(make_samples(core, run.spec.protocol, run.spec.label), tables.SAMPLES, lake, NAME)


def stage_run(lake: Path, mode: str = "off", lines: list[str] | None = None, **changes: dict[str, Any]) -> StageRun:
    """A run of one stage; `changes` are settings by section."""
    settings = load_settings("demo")
    sections: Change = {
        "collaborative": {"dimensions": 4, "epochs": 30, "learning_rate": 0.03, "warm_start": mode},
        "alignment": {"hidden": 8, "epochs": 20, "learning_rate": 0.01, "warm_start": mode},
        "prompts": {"train_samples": 1, "validation_samples": 8, "test_samples": 8},
    }
    update = {
        name: getattr(settings, name).model_copy(update=values | changes.get(name, {}))
        for name, values in sections.items()
    }
    update |= {"seeds": SeedSettings(**changes["seeds"])} if "seeds" in changes else {}
    log = (lines if lines is not None else []).append
    return StageRun(lake, NAME, settings.model_copy(update=update), "run", log, lambda what: lambda done, total: None)


def fit(lake: Path, mode: str = "off", **changes: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Metadata of `collaborative_embeddings`, and what it logged."""
    lines: list[str] = []
    made = collaborative_embeddings(stage_run(lake, mode, lines, **changes))
    assert {file.relative_to(lake).as_posix() for file in made.files} >= set(FILES)
    return dict(made.metadata), "\n".join(lines)


def align(lake: Path, mode: str = "off", **changes: dict[str, Any]) -> tuple[dict[str, Any], str]:
    lines: list[str] = []
    made = aligned_embeddings(stage_run(lake, mode, lines, **changes))
    assert lake / PROJECTOR in made.files
    return dict(made.metadata), "\n".join(lines)


def contents(lake: Path, *names: str) -> list[bytes]:
    return [(lake / name).read_bytes() for name in names]


def record(lake: Path, name: str = WEIGHTS) -> dict[str, Any]:
    weights = read_weights(lake / name)
    assert weights is not None
    return dict(weights.record)


def vectors(lake: Path, kind: str = "collaborative") -> list[list[float]]:
    return [list(row) for row in read_table(tables.embeddings_table(kind), lake, NAME)["vector"]]


def test_a_cold_fit_leaves_the_same_weights_each_time_and_looks_at_none(lake: Path) -> None:
    fit(lake), align(lake)
    first = contents(lake, *FILES, PROJECTOR)
    (lake / WEIGHTS).write_bytes(b"broken")
    shown, logged = fit(lake)
    align(lake)
    assert contents(lake, *FILES, PROJECTOR) == first and not logged
    assert shown["warm_started_from"] is None and "warm_start" not in shown


def test_nothing_changed_costs_no_epoch(lake: Path) -> None:
    fit(lake), align(lake)
    before = contents(lake, *FILES, PROJECTOR), vectors(lake), vectors(lake, "aligned")
    shown, logged = fit(lake, "on")
    aligned, _ = align(lake, "on")
    assert shown["taken_as_found"] and aligned["taken_as_found"] and "taken as it is" in logged
    assert (contents(lake, *FILES, PROJECTOR), vectors(lake), vectors(lake, "aligned")) == before


def test_more_data_is_a_shorter_fit_from_the_earlier_weights(lake: Path) -> None:
    write_ratings(lake, 340)
    cold = fit(lake, **NONE_SPARED)[0], align(lake)[0]
    earlier = record(lake)
    write_ratings(lake)
    shown, logged = fit(lake, "on", **NONE_SPARED)
    aligned, aligned_log = align(lake, "on")
    assert shown["warm_started_from"] == earlier["fit"] != record(lake)["fit"]
    assert record(lake)["space"] == earlier["space"] == record(lake, PROJECTOR)["space"]
    assert shown["epochs"] < cold[0]["epochs"] and aligned["epochs"] < cold[1]["epochs"]
    assert "known from before: 30 of 30 users" in logged and "warm start from fit" in aligned_log
    assert fitted_on_training_only(stage_run(lake)).passed


def test_a_warm_start_remembers_all_that_it_ever_learned(lake: Path) -> None:
    """What was learned and is no longer in the data stays in the table that the leak check reads."""
    fit(lake)
    learned = read_table(tables.FITTED_INTERACTIONS, lake, NAME)
    core = read_table(tables.CORE_INTERACTIONS, lake, NAME)
    write_table(core[5:], tables.CORE_INTERACTIONS, lake, NAME)
    assert fit(lake, "on")[0]["warm_started_from"]
    known = read_table(tables.FITTED_INTERACTIONS, lake, NAME)
    assert known.height == learned.height and known.join(learned, on=["user_id", "item_id"], how="anti").is_empty()
    fit(lake)
    assert read_table(tables.FITTED_INTERACTIONS, lake, NAME).height == learned.height - 5


def test_what_is_held_out_now_must_not_have_been_learned(lake: Path) -> None:
    fit(lake)
    cold = stage_run(lake)
    samples = read_table(tables.SAMPLES, lake, NAME)
    earlier_split = make_samples(
        ratings(), cold.spec.protocol.model_copy(update={"fractions": (0.5, 0.25, 0.25)}), cold.spec.label
    )
    assert (earlier_split["split"] == "train").sum() < (samples["split"] == "train").sum()
    write_table(earlier_split, tables.SAMPLES, lake, NAME)
    shown, logged = fit(lake, "on")
    assert shown["warm_started_from"] is None and "are held out now" in logged
    assert fitted_on_training_only(stage_run(lake)).passed
    assert record(lake)["space"] == record(lake)["fit"]


def test_a_learned_rating_that_a_tuning_prompt_asks_for_now_is_forgotten(lake: Path) -> None:
    """Another seed draws another target: its item starts anew, and the projector with it."""
    fit(lake), align(lake)
    before = record(lake)
    still = {"collaborative": {"epochs": 1, "learning_rate": 1e-30}}
    shown, logged = fit(lake, "on", seeds={"sampling": 7}, **still)
    assert shown["warm_started_from"] == before["fit"] and "1 items start anew" in logged
    assert record(lake)["space"] == record(lake)["fit"] != before["space"]
    aligned, aligned_log = align(lake, "on")
    assert aligned["warm_started_from"] is None and "had to forget" in aligned_log


def test_weights_go_with_ids_when_users_and_items_come_and_go(lake: Path) -> None:
    core = ratings()
    write_table(core.filter(pl.col("user_id") != "u3"), tables.CORE_INTERACTIONS, lake, NAME)
    still = {"collaborative": {"epochs": 1, "learning_rate": 1e-30}}
    fit(lake, **still)
    before = weights_by_user(lake)
    write_table(core.filter(pl.col("user_id") != "u5").reverse(), tables.CORE_INTERACTIONS, lake, NAME)
    _, logged = fit(lake, "on", **still)
    after = weights_by_user(lake)
    assert list(after) != [name for name in before if name in after]
    assert set(after) - set(before) == {"u3"} and "u5" not in after and "28 of 29 users" in logged
    assert all(np.allclose(after[name], before[name]) for name in set(after) & set(before))


def weights_by_user(lake: Path) -> dict[str, Any]:
    weights = read_weights(lake / WEIGHTS)
    assert weights is not None
    users, items = read_ids(lake / FILES[1], weights.record["fit"])
    assert len(weights.tensors["weights"]) == len(users) + len(items)
    return dict(zip(users, weights.tensors["weights"][: len(users)], strict=True))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"collaborative": {"dimensions": 5}}, "4 dimensions"),
        ({"collaborative": {"layers": 1}}, "layers"),
        ({"collaborative": {"graph": "binary"}}, "signed"),
    ],
)
def test_other_shapes_are_a_cold_start_with_its_reason(lake: Path, changes: Change, words: str) -> None:
    fit(lake)
    shown, logged = fit(lake, "on", **changes)
    assert shown["warm_started_from"] is None and "cold start" in logged and words in logged


def test_other_dimensions_of_the_projector_are_a_cold_start(lake: Path) -> None:
    fit(lake), align(lake)
    shown, logged = align(lake, "on", alignment={"hidden": 9})
    assert shown["warm_started_from"] is None and "dimensions (6, 8, 4)" in logged


def test_a_projector_to_vectors_of_a_new_fit_is_cold(lake: Path) -> None:
    write_ratings(lake, 340)
    fit(lake), align(lake)
    write_ratings(lake)
    fit(lake)
    shown, logged = align(lake, "on")
    assert shown["warm_started_from"] is None and "of a new fit" in logged


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize(
    ("name", "harm"),
    [(WEIGHTS, cut), (WEIGHTS, Path.unlink), (FILES[1], cut), (FILES[1], Path.unlink), (FILES[2], cut)],
)
def test_damaged_or_lost_files_are_a_cold_start(lake: Path, name: str, harm: Callable[[Path], None]) -> None:
    write_ratings(lake, 340)
    fit(lake)
    write_ratings(lake)
    fit(cold := shutil.copytree(lake, lake.with_name("cold")))
    harm(lake / name)
    shown, logged = fit(lake, "on")
    assert shown["warm_started_from"] is None and "cold start" in logged
    assert contents(lake, *FILES) == contents(cold, *FILES)


def test_a_damaged_projector_is_a_cold_start(lake: Path) -> None:
    fit(lake), align(lake)
    good = contents(lake, PROJECTOR)
    cut(lake / PROJECTOR)
    shown, logged = align(lake, "on")
    assert shown["warm_started_from"] is None and "damaged" in logged and contents(lake, PROJECTOR) == good


def test_weights_of_an_unknown_kind_are_a_cold_start(lake: Path) -> None:
    fit(lake)
    for weights in (Weights({}, {}), Weights({}, {"fit": "x", "space": "x", "warm_started_from": None})):
        write_weights(lake / WEIGHTS, weights)
        assert "cold start" in fit(lake, "on")[1]


@pytest.mark.parametrize("mode", ["off", "on"])
@pytest.mark.parametrize("step", ["write_table", "write_weights", "write_ids"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_that_is_broken_off_ends_with_the_same_bytes(
    lake: Path, mode: str, step: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ratings(lake, 340)
    fit(lake)
    write_ratings(lake)
    whole = shutil.copytree(lake, lake.with_name("whole"))
    fit(whole, mode)
    real = getattr(collaborative_fit, step)

    def broken(*arguments: Any) -> None:
        if when == "after":
            real(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(collaborative_fit, step, broken)
        with pytest.raises(KeyboardInterrupt):
            fit(lake, mode)
    shown, _ = fit(lake, mode)
    assert (shown["warm_started_from"] is not None) == (mode == "on")
    assert contents(lake, *FILES) == contents(whole, *FILES) and vectors(lake) == vectors(whole)


def test_a_projector_that_was_stored_before_a_run_broke_off_is_not_its_own_start(lake: Path) -> None:
    write_ratings(lake, 340)
    fit(lake, **NONE_SPARED), align(lake)
    write_ratings(lake)
    fit(lake, "on", **NONE_SPARED)
    first = align(lake, "on")[0]
    stored = contents(lake, PROJECTOR), vectors(lake, "aligned")
    again = align(lake, "on")[0]
    assert (contents(lake, PROJECTOR), vectors(lake, "aligned")) == stored
    assert first["warm_started_from"] and again == first | {"taken_as_found": True}


def test_a_comparison_says_what_each_fit_cost_and_found(lake: Path) -> None:
    write_ratings(lake, 340)
    assert "warm_start" not in fit(lake, "compare", **NONE_SPARED)[0]
    align(lake, "compare")
    write_ratings(lake)
    warm_only = shutil.copytree(lake, lake.with_name("warm"))
    fit(warm_only, "on", **NONE_SPARED)
    shown, aligned = fit(lake, "compare", **NONE_SPARED)[0], align(lake, "compare")[0]
    for figures, score in ((shown["warm_start"], "held-out correlation"), (aligned["warm_start"], "loss")):
        assert figures["score"] == score
        for start in ("cold", "warm"):
            assert set(figures[start]) == {"score", "epochs", "seconds", "neighbour_auc"}
            assert 0 < figures[start]["neighbour_auc"] <= 1 and figures[start]["seconds"] >= 0
        assert figures["warm"]["epochs"] < figures["cold"]["epochs"]
    assert vectors(lake) == vectors(warm_only)
    again = fit(lake, "compare", **NONE_SPARED)[0]["warm_start"]
    assert again["cold"] | {"seconds": 0} == shown["warm_start"]["cold"] | {"seconds": 0}
    assert again["warm"] == shown["warm_start"]["warm"] | {"seconds": None}


def test_the_evaluation_report_tells_of_a_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole job, before and after ten ratings came in."""
    world = make_world(tmp_path, monkeypatch, (NAME,))
    settings = tmp_path / "settings.toml"
    text = settings.read_text(encoding="utf-8").replace("train_samples = 6", "train_samples = 1000")
    for section in ("[collaborative]", "[alignment]"):
        text = text.replace(section, f'{section}\nwarm_start = "compare"')
    settings.write_text(text, encoding="utf-8")
    raw = ratings_file(world, NAME)
    whole = raw.read_text(encoding="utf-8").splitlines(keepends=True)
    raw.write_text("".join(line for line in whole if not line.rsplit(",", 1)[1].strip().startswith("15")))
    report = world / "reports" / NAME / "evaluation.json"
    assert materialize_dataset(NAME).error is None
    assert "warm_start" not in read_json(report)
    raw.write_text("".join(whole), encoding="utf-8")
    assert materialize_dataset(NAME).error is None
    found = read_json(report)
    assert set(found["warm_start"]) == {"collaborative", "aligned"}
    assert found["provenance"]["stages"]["aligned_embeddings"]["reported"]["warm_started_from"]
    assert "Warm start</h2>" in report.with_suffix(".html").read_text(encoding="utf-8")
