"""Plots and page of a dataset's profile, the stage that writes them, and the check of the papers' figures."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from rallrec_pipeline.evaluation.pages.dataset_page import render_dataset_page, summary
from rallrec_pipeline.evaluation.plots.dataset_plots import dataset_plots, funnel_plot
from rallrec_pipeline.lake import tables
from rallrec_pipeline.language_models.protocols import Progress
from rallrec_pipeline.pipeline.checks.tables import paper_statistics
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.pipeline.stage import run_stage
from rallrec_pipeline.settings import Settings
from rallrec_pipeline_tests.datasets.worlds import SCHEMA, frame, make_spec
from rallrec_pipeline_tests.evaluation.examples import ATTACK, DAY, PNG, RULES, Tags, profile_of, some_ratings
from rallrec_pipeline_tests.pipeline.given import in_force_now, seeing
from rallrec_pipeline_tests.pipeline.tiny import DATASET


def implicit() -> dict[str, Any]:
    spec = make_spec(
        interactions={"file": "s.inter", "columns": {"timestamp": "timestamp"}}, label={"negatives": 2}, protocol=RULES
    )
    return profile_of(some_ratings().with_columns(pl.lit(1.0, pl.Float32).alias("rating")), spec)


def without_times() -> dict[str, Any]:
    rows = some_ratings().with_columns(pl.lit(None, pl.Int64).alias("timestamp"))
    return profile_of(rows, make_spec(protocol=RULES | {"split": "user"}))


PROFILES = {
    "plain": lambda: profile_of(some_ratings(), reasons={"bad": 3}),
    "many reasons": lambda: profile_of(
        some_ratings(), reasons={f"{n} fields instead of $4 _{n}": n for n in range(60)}
    ),
    "years": lambda: profile_of(some_ratings(days=12_000)),
    "no times": without_times,
    "implicit": implicit,
    "one rating": lambda: profile_of(frame([("a", "1", 4, DAY)]), make_spec(protocol={"user_core": 1, "item_core": 1})),
    "one sample": lambda: profile_of(
        frame([("a", "1", 4, DAY)]), make_spec(protocol={"user_core": 1, "item_core": 1, "min_history": 0})
    ),
    "nothing": lambda: profile_of(pl.DataFrame(schema=SCHEMA)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", PROFILES)
def test_every_profile_has_small_plots_and_a_sound_page(kind: str) -> None:
    from matplotlib.image import imread

    profile = PROFILES[kind]()
    plots = dataset_plots(profile)
    assert len(plots) == 2
    for png in plots.values():
        assert png.startswith(PNG) and len(png) < 100_000
        levels = (imread(BytesIO(png), format="png") * 255).astype(np.uint8)
        assert len(np.unique(levels @ (1 << 8 * np.arange(levels.shape[2])))) > 20, "not blank"
    page = render_dataset_page(profile, plots, {"run_id": "r"})
    tags = Tags()
    tags.feed(page)
    assert tags.open == [] and "script" not in tags.seen and tags.seen.count("img") == 2
    assert not re.search(r"(https?:)?//\w|@import|url\(", re.sub(r"base64,[^\"]*", "", page))
    assert f"<p>{summary(profile)}</p>" in page and "prefers-color-scheme" in page


def test_the_page_names_every_step_and_split() -> None:
    profile = profile_of(some_ratings(), reasons={"rating is off the scale": 3})
    page = render_dataset_page(profile, {}, {})
    for step in profile["funnel"]:
        assert f"<td>{step['step']}</td><td>{step['rows_in']:,}</td><td>{step['dropped']:,}</td>" in page
    for name, split in (("training", "train"), ("test", "test")):
        assert f"<td>{name}</td><td>{profile['samples']['splits'][split]['rows']:,}</td>" in page
    assert profile["time"]["borders"]["test"] in page and "<img" not in page


@pytest.mark.parametrize("field", ["title", "dataset", "protocol", "step", "caption", "origin"])
def test_text_from_data_is_escaped(field: str) -> None:
    profile = profile_of(some_ratings(), reasons={ATTACK: 2} if field == "step" else {})
    if field in profile:
        profile[field] = ATTACK
    plots = {ATTACK if field == "caption" else "a plot": PNG}
    page = render_dataset_page(profile, plots, {ATTACK: ATTACK} if field == "origin" else {})
    assert "<script" not in page and "&lt;script&gt;alert" in page


@pytest.mark.parametrize("step", ["costs $1 and $2", "$\\frac{", "a\nb\tc", "x" * 500, "word " * 100])
def test_any_reason_can_be_plotted(step: str) -> None:
    """The steps from the raw file to the samples are the only picture that names one."""
    profile = profile_of(some_ratings(), reasons={step: 2})
    assert funnel_plot(profile).startswith(PNG) and any(step in one["step"] for one in profile["funnel"])


def _no_progress(what: str) -> Progress:
    return lambda done, total: None


@pytest.fixture
def run(tmp_path: Path) -> StageRun:
    """A real dataset of one TOML file and two CSV files, run up to its samples."""
    source, lake = tmp_path / "source", tmp_path / "lake"
    source.mkdir()
    (lake / "catalog").mkdir(parents=True)
    rows = some_ratings().select("user_id", "item_id", pl.col("rating").cast(pl.Int64), "timestamp")
    body = "".join(f"{','.join(map(str, row))}\n" for row in rows.iter_rows())
    text = f"user_id,item_id,rating,timestamp\n{body}u0,i0,9,1\nu0,i0\n"
    (source / "ratings.csv").write_text(text, encoding="utf-8")
    (source / "items.csv").write_text(
        "item_id,title\n" + "".join(f"i{n},Item {n}\n" for n in range(40)), encoding="utf-8"
    )
    expect(lake, source)
    made = StageRun(lake, "tiny", Settings(profile="demo"), "run-1", print, _no_progress)
    for name, stage in STAGES.items():
        if stage.group in ("raw", "data"):
            assert run_stage(made, STAGES, name).worked
    return made


def expect(lake: Path, source: Path, expected: Mapping[str, int] | None = None, tolerance: float = 0) -> None:
    figures = f"expected = {{ {', '.join(f'{k} = {v}' for k, v in expected.items())} }}" if expected else ""
    bounds = f"user_core = 2\nitem_core = 8\nmin_history = 1\n{figures}\ntolerance = {tolerance}"
    toml = DATASET.format(name="tiny")
    for old, new in (
        ('"Small"', '"Tiny | <b>bold</b>"'),
        ("../files/tiny", source.as_posix()),
        ("user_core = 3\nitem_core = 3\nmin_history = 3", bounds),
    ):
        assert old in toml
        toml = toml.replace(old, new)
    (lake / "catalog" / "tiny.toml").write_text(toml, encoding="utf-8")


def again(run: StageRun, expected: Mapping[str, int], tolerance: float = 0) -> StageRun:
    """The same run under other expectations."""
    expect(run.lake, run.lake.parent / "source", expected, tolerance)
    return StageRun(run.lake, run.dataset, run.settings, run.run_id, run.log, run.progress)


def test_the_stage_writes_the_page_and_shows_the_funnel(run: StageRun) -> None:
    outcome = run_stage(run, STAGES, "dataset_report")
    assert outcome.worked and not run_stage(run, STAGES, "dataset_report").worked
    inside = [path.relative_to(outcome.record.folder(run.lake)).as_posix() for path in outcome.record.paths(run.lake)]
    assert inside == ["reports/tiny/dataset.json", "reports/tiny/dataset.html"]
    profile = json.loads((run.lake / "reports" / "tiny" / "dataset.json").read_text(encoding="utf-8"))
    samples = in_force_now(run.lake, "tiny", "samples")
    assert profile["samples"]["rows"] == samples.metadata["rows"]
    assert profile["provenance"]["stages"]["samples"]["data_version"] == samples.data_version
    assert profile["raw"]["refused"] == 2 and profile["core"]["items_without_title"] == 0
    page = (run.lake / "reports" / "tiny" / "dataset.html").read_text(encoding="utf-8")
    assert "<b>bold</b>" not in page and "&lt;b&gt;bold&lt;/b&gt;" in page and page.count("base64,") == 2
    shown = outcome.record.metadata
    assert shown["raw_ratings"] == profile["raw"]["read"] and 0 < shown["density"] < 1
    funnel = shown["funnel"]["markdown"].splitlines()
    assert len(funnel) == 2 + len(profile["funnel"]) and "refused: rating is off the scale" in funnel[4]
    assert all(line.count("|") == 6 for line in funnel)
    assert shown["picture"]["markdown"].count("data:image/png;base64,") == 1


def test_the_report_follows_the_title_and_the_protocol(run: StageRun) -> None:
    run_stage(run, STAGES, "dataset_report")
    toml = run.lake / "catalog" / "tiny.toml"
    toml.write_text(toml.read_text(encoding="utf-8").replace("Tiny", "Small"), encoding="utf-8")
    fresh = StageRun(run.lake, run.dataset, run.settings, "run-2", run.log, run.progress)
    assert run_stage(fresh, STAGES, "dataset_report").worked
    assert not run_stage(fresh, STAGES, "samples").worked


def test_paper_statistics(run: StageRun) -> None:
    nothing = paper_statistics(seeing(run))
    assert nothing.passed and "expects no figures" in nothing.figures["note"]
    profile = profile_of(some_ratings())
    raw = some_ratings().height + 2
    true = {key: profile["core"][key] for key in ("interactions", "users", "items")}
    made = seeing(run).read(tables.SAMPLES)
    true |= {"samples": made.height, "sample_users": made["user_id"].n_unique()}
    true |= {"sample_items": made["item_id"].n_unique()}
    true |= {split: profile["samples"]["splits"][split]["rows"] for split in ("train", "valid", "test")}

    same = paper_statistics(seeing(again(run, {"raw_interactions": raw} | true)))
    assert same.passed and same.figures["different"] == []
    assert same.figures["compared"] == {name: {"found": value, "expected": value} for name, value in true.items()}
    few = paper_statistics(seeing(again(run, {"raw_interactions": raw, "users": true["users"]})))
    assert few.passed and list(few.figures["compared"]) == ["users"]
    for name, value in true.items():
        wrong = paper_statistics(seeing(again(run, {"raw_interactions": raw} | true | {name: value + 1})))
        assert not wrong.passed
        assert wrong.figures["different"] == [name]
        assert wrong.figures["compared"][name] == {"found": value, "expected": value + 1}

    subset = paper_statistics(seeing(again(run, {"raw_interactions": raw + 1_000, "users": 7})))
    assert subset.passed and f"a subset ({raw:,} of {raw + 1_000:,} ratings)" in subset.figures["note"]
    unknown = paper_statistics(seeing(again(run, {"users": 7})))
    assert unknown.passed and "raw_interactions" in unknown.figures["note"]


def test_a_tolerance_bounds_the_difference_and_hides_none(run: StageRun) -> None:
    raw, samples = some_ratings().height + 2, seeing(run).read(tables.SAMPLES).height
    expected = {"raw_interactions": raw, "samples": samples + samples // 10}
    for tolerance, holds in ((0, False), (0.05, False), (0.1, True)):
        told = paper_statistics(seeing(again(run, expected, tolerance)))
        assert told.passed is holds and told.figures["tolerance"] == tolerance
        assert told.figures["compared"] == {"samples": {"found": samples, "expected": expected["samples"]}}
    other = paper_statistics(seeing(again(run, expected | {"raw_interactions": raw + 1}, 0.1)))
    assert "a subset" in other.figures["note"], "the number of raw ratings tells whether the files are whole"
