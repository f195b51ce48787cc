"""The reasoner's stages on a finished tiny lake: every response kept, read, merged and reported; nothing done twice."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.files import read_json
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import TRACES
from rallrec_pipeline.lake.parquet import read_table
from rallrec_pipeline.language_models.tokens import opens_thought
from rallrec_pipeline.orchestration.jobs import RunSummary, materialize_dataset
from rallrec_pipeline.pipeline.checks.reasoning import responses_answer
from rallrec_pipeline.pipeline.graph import EVERY_STAGE, ON_REQUEST
from rallrec_pipeline.pipeline.lineage.chain import trace
from rallrec_pipeline.pipeline.stage import everything, looking, plan_stages
from rallrec_pipeline.reasoning.merge import consistency
from rallrec_pipeline.reasoning.opinions import Opinion
from rallrec_pipeline.settings import load_settings
from rallrec_pipeline_tests.browser import assert_pages_fit, needs_chromium
from rallrec_pipeline_tests.language_models.small_llama import NARROW, TEMPLATE, write_llama
from rallrec_pipeline_tests.pipeline.tiny import SMALL, copied_world, rallrec, use_lake

SIZES = """
[reasoning]
traces = 3
max_new_tokens = 5
batch_size = 6
temperature = 1.5
most_unanswered = 1

[merges.rallrec_plus]
members = ["rallrec", "reasoned_told"]
runs = ["recent"]
"""
NAMES = [stage.name for stage in ON_REQUEST]


@pytest.fixture(scope="module")
def lake(finished_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the finished world whose settings have a reasoner of few words."""
    folder = tmp_path_factory.mktemp("reasoning")
    lake = copied_world(finished_world, folder)
    settings = folder / "settings.toml"
    settings.write_text((finished_world / "settings.toml").read_text(encoding="utf-8") + SIZES, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        use_lake(lake, settings, patch)
        patch.delenv("DAGSTER_HOME", raising=False)
        yield lake


@pytest.fixture(scope="module")
def first(lake: Path) -> RunSummary:
    return materialize_dataset(SMALL, tuple(EVERY_STAGE))


@pytest.fixture(scope="module", autouse=True)
def whole(lake: Path, first: RunSummary) -> pl.DataFrame:
    """All responses of the first run."""
    return read(lake, tables.TRACES)


def read(lake: Path, table: tables.Table) -> pl.DataFrame:
    return read_table(table, lake, SMALL)


def test_all_stages_of_the_reasoner_run_and_their_checks_hold(first: RunSummary) -> None:
    assert first.error is None
    assert {name for name, worked in first.worked.items() if worked} == set(NAMES)
    held = {"responses_are_whole", "reasoned_rows_are_whole", "merges_are_whole"}
    assert all(first.checks[name] for name in held)


def test_every_row_has_its_responses_and_one_reading_without_a_thought(lake: Path, first: RunSummary) -> None:
    traces, readings = read(lake, tables.TRACES), read(lake, tables.TRACE_PREDICTIONS)
    asked = read(lake, tables.REASONING_PROMPTS)
    assert asked["method"].unique().sort().to_list() == ["reasoned", "reasoned_told"]
    assert traces.height == 3 * asked.height and readings.height == 4 * asked.height
    assert traces["mark"].is_in(["", "empty", "repeats", "cut off", "no answer"]).all()
    assert set(traces["tokens"].unique().to_list()) <= set(range(6))


def test_the_reasoner_is_told_the_answer_in_words(lake: Path, first: RunSummary) -> None:
    asked = read(lake, tables.REASONING_PROMPTS).filter(pl.col("method") == "reasoned_told")
    told = read(lake, tables.predictions_table("rallrec"))
    rows = asked.join(told.select("sample_id", "p_yes"), on="sample_id")
    says = rows["prompt"].str.contains("that this user likes the")
    assert (says == (rows["p_yes"] > 0.5)).all() and rows["prompt"].str.contains("Another model").all()


def test_mean_and_variance_are_those_of_the_readings(lake: Path, first: RunSummary) -> None:
    readings = read(lake, tables.TRACE_PREDICTIONS).filter(pl.col("trace").is_not_null())
    expected = readings.group_by("method", "sample_id").agg(
        pl.col("p_yes").mean().alias("mean"), pl.col("p_raw").var().alias("var")
    )
    rows = read(lake, tables.REASONED_ROWS).join(expected, on=["method", "sample_id"])
    assert rows.height == read(lake, tables.REASONED_ROWS).height
    np.testing.assert_allclose(rows["p_yes"], rows["mean"], atol=1e-12)
    np.testing.assert_allclose(rows["variance"], rows["var"], atol=1e-12)
    assert rows["variance"].max() > 0  # type: ignore[operator]


def test_a_merge_by_consistency_is_equation_10(lake: Path, first: RunSummary) -> None:
    liked = pl.col("probabilities").list.slice(3).list.sum()  # ratings of 4 and 5
    said = liked.cast(pl.Float64)
    ours = read(lake, tables.predictions_table("rallrec")).with_columns(said.alias("raw"))
    other = read(lake, tables.predictions_table("recent")).select("sample_id", said.alias("other"))
    reasoned = read(lake, tables.REASONED_ROWS).filter(pl.col("method") == "reasoned_told")
    rows = ours.join(other, on="sample_id").join(
        reasoned.select("sample_id", pl.col("p_yes").alias("r"), "variance"), on="sample_id"
    )
    p, raw_p, r, other_p, var_r = (rows[name].to_numpy() for name in ("p_yes", "raw", "r", "other", "variance"))
    var_g = (raw_p - other_p) ** 2 / 2
    expected = (0.1 * r / (var_r + 1e-3) + p / (var_g + 1e-3)) / (0.1 / (var_r + 1e-3) + 1 / (var_g + 1e-3))
    merged = rows.select("sample_id").join(read(lake, tables.predictions_table("rallrec_plus")), on="sample_id")
    np.testing.assert_allclose(merged["p_yes"], expected, atol=1e-6)
    assert consistency(Opinion(p, var_g), Opinion(r, np.full_like(r, np.inf)), 0.1, 1e-3) == pytest.approx(p)


def test_the_report_tells_lengths_merges_and_the_cascade(lake: Path, first: RunSummary) -> None:
    report = read_json(lake / "reports" / SMALL / "reasoning.json")
    (told,) = report["responses"].values()
    assert {"reasoned", "reasoned_told"} == set(told["responses"])
    assert told["responses"]["reasoned"]["responses"] == 3 * told["responses"]["reasoned"]["rows"] == 3 * 10
    assert [point["share"] for point in told["cascades"]["cascade"]["curve"]][::20] == [0.0, 1.0]
    assert {"rallrec_plus", "merged_mean", "cascade", report["reference"]} <= set(report["methods"])
    cost = {name: one["cost"] for name, one in report["methods"].items()}
    assert set(cost["merged_mean"]["shares"]) == {"rallrec", "reasoned_told"}
    parts = [cost[name]["seconds_per_million"] for name in ("rallrec", "reasoned_told")]
    assert cost["merged_mean"]["seconds_per_million"] == pytest.approx(sum(parts))
    assert cost["cascade"]["shares"]["text_trees"] == 1
    page = (lake / "reports" / SMALL / "reasoning.html").read_text(encoding="utf-8")
    assert "What the reasoner writes" in page and "<script" not in page


@pytest.mark.process
@needs_chromium
def test_the_page_fits_a_phone_and_a_desktop(lake: Path, first: RunSummary, tmp_path: Path) -> None:
    page = (lake / "reports" / SMALL / "reasoning.html").read_text(encoding="utf-8")
    assert_pages_fit({"reasoning": page}, tmp_path)


def test_lineage_says_what_stands_behind_a_merged_answer(lake: Path, first: RunSummary) -> None:
    lineage = trace(lake, SMALL, "i3", load_settings())
    found = {one.method: one for one in lineage.uses.predictions}
    assert set(found["rallrec_plus"].made_of) == {"rallrec", "reasoned_told", "recent"}
    assert found["rallrec_plus"].made_of["rallrec"].endswith(", adapter rallrec")
    told = found["reasoned_told"].made_of
    assert set(told) == {"rallrec", "responses"} and told["responses"].startswith("reasoning_traces ")
    assert {"reasoner", "reasoning_traces", "merged_predictions"} <= set(lineage.stages)


def test_a_second_run_does_nothing(lake: Path, first: RunSummary) -> None:
    """Of all other stages the first has found that nothing is to be done."""
    again = materialize_dataset(SMALL, tuple(NAMES))
    assert again.error is None and again.worked == dict.fromkeys(NAMES, False)


def test_too_many_responses_without_an_answer_are_found(lake: Path, first: RunSummary) -> None:
    run, shares = looking(lake, SMALL, load_settings()), dict[str, float]()
    run = everything(run, plan_stages(run, EVERY_STAGE, ["reasoning_traces"]))
    for bound in (1.0, 0.0):
        reasoning = run.settings.reasoning.model_copy(update={"most_unanswered": bound})
        settings = run.settings.model_copy(update={"reasoning": reasoning})
        verdict = responses_answer(replace(run, settings=settings))
        shares = verdict.figures["unanswered_share"]
        assert verdict.passed is all(share <= bound for share in shares.values())
    assert set(shares) == {"reasoned", "reasoned_told"} and max(shares.values()) > 0


def test_more_traces_cost_only_the_new_ones(lake: Path, first: RunSummary, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = lake.parent / "more.toml"
    settings.write_text(
        (lake.parent / "settings.toml").read_text(encoding="utf-8").replace("traces = 3", "traces = 4"),
        encoding="utf-8",
    )
    monkeypatch.setenv("RALLREC_SETTINGS", str(settings))
    before = len(stored(lake))
    more = materialize_dataset(SMALL, ("reasoner", "reasoning_traces"))
    assert more.error is None and len(stored(lake)) == before + 36
    assert read(lake, tables.TRACES).height == 4 * 36


def test_a_bound_on_tokens_stops_cleanly_and_says_so(
    lake: Path, first: RunSummary, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = lake.parent / "bounded.toml"
    text = (lake.parent / "settings.toml").read_text(encoding="utf-8")
    bounded = text.replace("traces = 3", "traces = 3\nmax_tokens = 60\ntop_p = 0.5")
    settings.write_text(bounded, encoding="utf-8")
    monkeypatch.setenv("RALLREC_SETTINGS", str(settings))
    run = materialize_dataset(SMALL, tuple(NAMES))
    assert run.error is None
    traces, rows = read(lake, tables.TRACES), read(lake, tables.REASONED_ROWS)
    assert 0 < traces.height < 3 * 36 and rows.height == 36
    without = rows.filter(pl.col("traces") == 0)
    assert without.height and without["variance"].is_null().all() and without["p_yes"].is_between(0, 1).all()


def test_a_model_that_thinks_has_its_thought_closed_before_it_answers(
    lake: Path, first: RunSummary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its template opens the thought; asked for Yes or No, the answer is read behind the closing tag."""
    thinker = write_llama(tmp_path / "thinker", NARROW, template=TEMPLATE + "<think>", begins=False)
    assert opens_thought(thinker)
    own = f'[reasoner]\nsource = "{thinker.as_posix()}"\nname = "thinker"\ndtype = "float32"\n'
    own += '[reasoned.reasoned]\nanswer_form = "yes_no"\n'
    settings = tmp_path / "settings.toml"
    settings.write_text((lake.parent / "settings.toml").read_text(encoding="utf-8") + own, encoding="utf-8")
    monkeypatch.setenv("RALLREC_SETTINGS", str(settings))
    names = ("evaluation_prompts", "reasoner", "reasoning_traces", "reasoned_predictions")
    run = materialize_dataset(SMALL, names)
    assert run.error is None and run.worked["reasoner"]
    asked = read(lake, tables.REASONING_PROMPTS).filter(pl.col("method") == "reasoned")
    assert asked["prompt"].str.ends_with("End with Yes or No.").all()
    rows = read(lake, tables.REASONED_ROWS).filter(pl.col("method") == "reasoned")
    assert rows["p_yes"].is_between(0, 1).all() and rows["traces"].min() == 3


@pytest.mark.process
def test_killed_in_the_middle_it_goes_on_with_the_same_responses(
    finished_world: Path, lake: Path, whole: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = copied_world(finished_world, tmp_path)
    use_lake(again, lake.parent / "settings.toml", monkeypatch)
    with rallrec("run", SMALL, "--select", "reasoner,reasoning_traces") as process:
        while not stored(again):
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = stored(again)
    assert 0 < len(kept) < whole["input_hash"].n_unique()
    finished = materialize_dataset(SMALL, ("reasoner", "reasoning_traces"))
    assert finished.error is None
    columns = ["method", "sample_id", "trace", "thought", "answer", "mark", "tokens", "input_hash"]
    assert read(again, tables.TRACES).select(columns).equals(whole.select(columns))
    record = read_json(next(again.glob(f"results/{SMALL}/reasoning_traces/*/manifest.json")))
    assert record["metadata"]["rows_computed"] == whole["input_hash"].n_unique() - len(kept)


def stored(lake: Path) -> set[str]:
    """Keys of the responses that are kept."""
    path = Memo(lake, TRACES).path
    if not path.exists():
        return set()
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        try:
            return {key for (key,) in connection.execute("SELECT key FROM rows")}
        except sqlite3.OperationalError:  # it is being made
            return set()
