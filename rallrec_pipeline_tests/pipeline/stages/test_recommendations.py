"""Recommendations in a lake whose LLM is tiny: who gets what, what is made again, and what the command says."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pydantic import ValidationError
from typer.testing import CliRunner

from rallrec_pipeline.baselines import expectation
from rallrec_pipeline.cli import app
from rallrec_pipeline.errors import ConfigError, ModelError, StaleArtefactError
from rallrec_pipeline.inference.methods import methods
from rallrec_pipeline.lake import memo_file, tables
from rallrec_pipeline.lake.marks import row_keys
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import SCORES
from rallrec_pipeline.lake.parquet import read_table
from rallrec_pipeline.lake.store import Record
from rallrec_pipeline.language_models.tokens import TokenizedModel
from rallrec_pipeline.pipeline.checks.recommendations import (
    every_user_is_covered,
    nothing_seen_is_recommended,
    recommendations_are_whole,
    rescored_candidates_are_whole,
)
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.lineage.chain import trace
from rallrec_pipeline.pipeline.recommended import recommended_to
from rallrec_pipeline.pipeline.stages.engine import OneEngine
from rallrec_pipeline.pipeline.stages.prompts import prompts_of, stated_weights
from rallrec_pipeline.pipeline.stages.recommendations import read_recommender
from rallrec_pipeline.pipeline.stages.rescoring import LlmRescoring
from rallrec_pipeline.pipeline.status.pending import asked_users, pending_rows
from rallrec_pipeline.pipeline.status.planned import planned_rows
from rallrec_pipeline.pipeline.status.speeds import Speeds
from rallrec_pipeline.pipeline.status.status import dataset_status, status_as_json
from rallrec_pipeline.pipeline.status.table import steps_told
from rallrec_pipeline.recommendation.asked import samples_of_today
from rallrec_pipeline.recommendation.table import BEFORE_ITEM, WITH_ITEM, for_user
from rallrec_pipeline.serving.known_facts import KnownFacts
from rallrec_pipeline.settings import MergeSettings, Settings, load_settings
from rallrec_pipeline_tests.pipeline.given import in_force_now, looking_run, make_stages, seeing
from rallrec_pipeline_tests.pipeline.tiny import SMALL, ratings_file, replace_once

LATEST = ("raw_files", "interactions", "items", "users")
NEW_ITEMS = ("new_item_descriptions", "new_item_embeddings")
FACTS = ("item_mean", "user_mean", "expected_rating")


def made_in(lake: Path) -> pl.DataFrame:
    return read_table(tables.RECOMMENDATIONS, lake, SMALL)


def record_in(lake: Path, stage: str = "recommendations") -> Record:
    return in_force_now(lake, SMALL, stage)


def rate(lake: Path, *lines: str) -> None:
    with ratings_file(lake, SMALL).open("a", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))


def with_method(settings: Settings, **changes: Any) -> Settings:
    chosen = settings.recommendations.model_copy(update={"method": "zero_shot", "shortlist": 10, **changes})
    return settings.model_copy(update={"recommendations": chosen})


def predicting(lake: Path, settings: Settings) -> StageRun:
    """A run that sees all that was made, with the predictor as its model."""
    return seeing(looking_run(lake, SMALL, settings)).in_role("predictor")


def command(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["recommend", *arguments])
    return result.exit_code, result.output if result.exception is None else str(result.exception)


def test_every_user_gets_what_is_unseen_with_the_lines_behind_it(finished_lake: Path) -> None:
    found, told = made_in(finished_lake), record_in(finished_lake).metadata
    ratings = read_table(tables.INTERACTIONS, finished_lake, SMALL)
    assert found["user_id"].n_unique() == told["users"] == 20 and told["users_new"] == 20
    assert not found.join(ratings, on=["user_id", "item_id"], how="semi").height
    own = dict(ratings.group_by("user_id").agg(pl.col("item_id")).iter_rows())
    for user, because, p in found.select("user_id", "because", "p_yes").iter_rows():
        assert 0 < p < 1 and len(because) == 2 and set(because) <= set(own[user])
    lines = (finished_lake / "tables" / "recommendations" / f"{SMALL}.jsonl").read_text(encoding="utf-8").splitlines()
    assert sorted(json.loads(line)["user_id"] for line in lines) == sorted(own)
    assert set(told["steps"]) == {"catalogue", "candidates", "shortlist"} and told["steps"]["candidates"]["seconds"] > 0


def test_items_outside_the_core_are_described_and_recommended_and_lineage_says_so(finished_lake: Path) -> None:
    fits = dict(made_in(finished_lake).select("item_id", "fit").unique().iter_rows())
    assert fits["i77"] == fits["i88"] == BEFORE_ITEM
    assert {fits[item] for item in fits if item not in ("i77", "i88")} == {WITH_ITEM}
    settings = load_settings()
    unrated, rated = (trace(finished_lake, SMALL, item, settings).uses.recommended for item in ("i88", "i3"))
    assert unrated and unrated.fit == BEFORE_ITEM and unrated.users == 20 and unrated.description
    assert rated and rated.fit == WITH_ITEM and rated.description is None
    page = CliRunner().invoke(app, ["lineage", SMALL, "i88"]).output
    assert "the chain ends here" in page and BEFORE_ITEM in page


def test_the_command_shows_a_user_and_says_what_is_to_be_known(finished_lake: Path) -> None:
    status, output = command(SMALL, "u3", "-n", "1")
    assert status == 0 and "rated items beside it" in output and "only" not in output
    assert "P(yes) by `factorisation`, ranked by P(yes) times the score of `item_knn`" in output
    status, output = command(SMALL, "u3", "-n", "10", "--json")
    found = json.loads(output)
    rows = for_user(made_in(finished_lake), "u3", 10)
    assert status == 0 and [item["item_id"] for item in found["items"]] == rows["item_id"].to_list()
    assert f"only {rows.height} of 10" in found["notes"][0] and found["fingerprint"]
    for arguments in ((SMALL, "u99"), (SMALL, "-u3"), ("nowhere", "u3")):
        status, output = command(*arguments)
        assert status == 1 and "\n" not in output and ("no user" in output or "nowhere" in output)
    with pytest.raises(ConfigError, match="did you mean u3"):
        recommended_to(finished_lake, SMALL, "-u3", load_settings(), 10)


def test_without_a_table_and_with_a_stale_one_the_command_says_what_to_run(copy: Path) -> None:
    settings = load_settings()
    other = settings.model_copy(update={"recommendations": settings.recommendations.model_copy(update={"n": 1})})
    assert "setting recommendations.n changed" in recommended_to(copy, SMALL, "u3", other, 1).notes[0]
    shutil.rmtree(copy / "results" / SMALL / "recommendations")
    with pytest.raises(StaleArtefactError, match="run `rallrec run small"):
        recommended_to(copy, SMALL, "u3", settings, 1)


def test_a_new_rating_redoes_its_user_and_nothing_is_fitted(copy: Path) -> None:
    settings, before = load_settings(), made_in(copy)
    unseen = for_user(before, "u3", 1)["item_id"][0]
    rate(copy, f"u3,{unseen},5,900")
    assert make_stages(copy, SMALL, settings, *LATEST, "recommendations")["recommendations"]
    after, record = made_in(copy), record_in(copy)
    assert record.metadata["users_computed"] == 1 and record.metadata["users_reused"] == 19
    others = pl.col("user_id") != "u3"
    assert after.filter(others).equals(before.filter(others)) and unseen not in for_user(after, "u3", 9)["item_id"]
    origins = record.rows(copy)
    assert origins is not None and origins.filter(pl.col("run_id") == record.run_id)["user_id"].to_list() == ["u3"]
    assert record.inputs["recommender_fit"].fingerprint == record_in(copy, "recommender_fit").fingerprint


def test_a_user_with_three_ratings_and_an_item_of_today_need_no_fit(copy: Path) -> None:
    settings = load_settings()
    fits = ("core_items", "samples", "recommender_fit", "item_index", "aligned_embeddings", "lora_adapter")
    before = {stage: record_in(copy, stage).fingerprint for stage in fits}
    rate(copy, "late,i1,5,901", "late,i2,4,902", "late,i3,1,903")
    with ratings_file(copy, SMALL).with_name("items.csv").open("a", encoding="utf-8") as file:
        file.write("i99,Of today\n")
    make_stages(copy, SMALL, settings, *LATEST, *NEW_ITEMS, "recommendations")
    found = made_in(copy)
    late = for_user(found, "late", 10)
    assert late.height == 10 and set(late["because"].explode()) <= {"i1", "i2", "i3"}
    assert "i99" in late["item_id"] and found.filter(pl.col("item_id") == "i99").height == 21
    assert {stage: record_in(copy, stage).fingerprint for stage in fits} == before
    lineage = trace(copy, SMALL, "i99", settings).uses.recommended
    assert lineage and lineage.fit == BEFORE_ITEM and lineage.description


@pytest.mark.parametrize(("facts", "by"), [((), "factorisation"), (FACTS, "factorisation"), (FACTS, "experts")])
def test_a_method_of_the_llm_is_asked_what_it_is_asked_of_test_rows(
    copy: Path, monkeypatch: pytest.MonkeyPatch, facts: Any, by: str
) -> None:
    """The prompts are those of the stage `evaluation_prompts`, byte for byte, for the history of the test row."""
    monkeypatch.setattr(expectation, "FEWEST", 8)  # the world is smaller than what weights are fitted on
    settings = load_settings()
    chosen = settings.prompts.model_copy(update={"facts": facts, "expected_by": by, "title_characters": 8})
    stated = settings.model_copy(update={"prompts": chosen})
    make_stages(copy, SMALL, stated, "expected_ratings")
    run = predicting(copy, with_method(stated))
    method = next(one for one in methods(run.settings) if one.name == "zero_shot")
    histories = run.read(tables.RETRIEVED_HISTORIES).filter(pl.col("split") == "test")
    wanted = prompts_of(run, histories, [method.asked]).sort("sample_id")
    samples = run.read(tables.SAMPLES).join(wanted.select("sample_id"), on="sample_id", how="semi")
    hidden = samples.with_columns(pl.lit(None, pl.Float32).alias("rating"), pl.lit(None, pl.Int8).alias("label"))
    with OneEngine(run, "score") as engines:
        made = LlmRescoring.of(run, read_recommender(run, of_core=True), engines).prompts(hidden).sort("sample_id")
    assert not any("Third" in prompt and "title" in prompt for prompt in made["prompt"])  # it is longer than 8
    assert method.facts == facts and made["prompt"].to_list() == wanted["prompt"].to_list()
    assert len(stated_weights(run).by_feature) == (1 if by == "factorisation" else 16)
    expected = KnownFacts.read(run, method.facts).fit
    assert not facts or (expected and expected.weights == stated_weights(run))  # so do requests


def test_a_method_of_the_llm_scores_the_shortlist_once(copy: Path) -> None:
    settings = with_method(load_settings())
    make_stages(copy, SMALL, settings, "recommendations")
    record, found = record_in(copy), made_in(copy)
    steps = record.metadata["steps"]
    assert set(found["method"]) == {"zero_shot"} and steps["shortlist"]["predictions"] == found.height
    assert 0 < record.metadata["llm"]["rows"] <= found.height + record.metadata["held_out"]["prompts"]
    run = predicting(copy, settings)
    pending = pending_rows("recommendations", run, [])
    assert pending and pending.rows == (20 + asked_users(run.read(tables.SAMPLES), 0)) * 10 and pending.tokens > 0
    keys = row_keys(copy, [record])
    assert Memo(copy, SCORES).find(keys).height >= record.metadata["llm"]["rows"]
    shutil.rmtree(copy / "results" / SMALL / "recommendations")
    make_stages(copy, SMALL, settings, "recommendations")
    assert record_in(copy).metadata["llm"]["rows"] == 0 and made_in(copy).equals(found)
    rate(copy, f"u3,{for_user(found, 'u3', 1)['item_id'][0]},5,900")
    make_stages(copy, SMALL, settings, *LATEST, "recommendations")
    assert record_in(copy).metadata["users_computed"] == 1
    others = keys.filter(~keys.is_in(row_keys(copy, [record_in(copy)]).implode()))
    assert len(others) <= 10 + 1  # prompts of one user, and the hash of his items
    shorter = settings.model_copy(update={"prompts": settings.prompts.model_copy(update={"title_characters": 8})})
    make_stages(copy, SMALL, shorter, "recommendations")
    assert record_in(copy).metadata["users_computed"] == 20


def test_a_cache_of_answers_that_was_emptied_is_filled_again(copy: Path) -> None:
    settings = with_method(load_settings())
    make_stages(copy, SMALL, settings, "recommendations")
    found = made_in(copy)
    memo_file._mended.clear()
    Memo(copy, SCORES).path.write_bytes(b"")
    shutil.rmtree(copy / "results" / SMALL / "recommendations")
    make_stages(copy, SMALL, settings, "recommendations")
    assert record_in(copy).metadata["llm"]["rows"] > 0 and Memo(copy, SCORES).damage()[1] == []
    assert_frame_equal(made_in(copy), found, abs_tol=1e-5)


def test_the_border_is_asked_and_each_row_says_who_answered_it(copy: Path) -> None:
    settings = with_method(load_settings(), asked="border", shortlist=2, n=3)
    make_stages(copy, SMALL, settings, "recommendations")
    found, record = made_in(copy), record_in(copy)
    assert set(found["method"]) == {"zero_shot", "factorisation"}
    assert record.metadata["answered_by"] == dict(found["method"].value_counts().iter_rows())
    makers = found.select("method", "model_fingerprint").unique()
    assert makers.height == 2
    assert record_in(copy, "recommender_fit").data_version in makers["model_fingerprint"]
    ranks = found.filter(pl.col("method") == "zero_shot")["rank"]
    assert set(ranks) == {3}  # of the places 3 and 4
    user = found.filter(pl.col("method") == "zero_shot")["user_id"][0]
    rows = recommended_to(copy, SMALL, user, settings, 3).rows
    assert rows["method"].to_list()[:3] == ["factorisation", "factorisation", "zero_shot"]
    lines = (copy / "tables" / "recommendations" / f"{SMALL}.jsonl").read_text(encoding="utf-8").splitlines()
    assert {item["method"] for item in json.loads(lines[0])["items"]} == {"zero_shot", "factorisation"}


def test_a_budget_of_tokens_is_kept_and_told_before_the_run(copy: Path) -> None:
    make_stages(copy, SMALL, with_method(load_settings()), "recommendations")
    whole, all_of_them = record_in(copy).metadata["steps"]["shortlist"], made_in(copy)
    free = pending_rows("recommendations", predicting(copy, with_method(load_settings())), [])
    assert free and free.length
    most = round(free.length * 1.3)  # a whole prompt, and the end of one that begins alike
    bound = with_method(load_settings(), tokens_per_user=most)
    pending = pending_rows("recommendations", predicting(copy, bound), [])
    assert pending and 0 < pending.tokens <= most / 10 < free.tokens
    make_stages(copy, SMALL, bound, "recommendations")
    some, found = record_in(copy).metadata["steps"]["shortlist"], made_in(copy)
    assert 0 < some["predictions"] < whole["predictions"]
    assert record_in(copy).metadata["llm"]["rows"] == 0  # all of these were answered before
    assert some["seconds"] > 0 and found.filter(pl.col("method") == "factorisation").height
    assert sorted(found["user_id"]) == sorted(all_of_them["user_id"])  # everyone has as many items as before


def test_a_budget_counts_what_the_llm_reads_and_only_a_budget_needs_a_tokenizer(copy: Path) -> None:
    lines = list[str]()
    with OneEngine(predicting(copy, with_method(load_settings())), "score") as engines:
        one = read_recommender(engines.run)
        visits = one.ratings.visits[:1]
        items = one.best(visits, 3).items

        def asking(most: int, **model: Any) -> LlmRescoring:
            settings = with_method(engines.run.settings, tokens_per_user=most)
            settings = settings.model_copy(update={"model": settings.model.model_copy(update=model)})
            found = LlmRescoring.of(replace(engines.run, settings=settings, log=lines.append), one, engines)
            return replace(found, method=replace(found.method, answer_form="yes_no"))

        def asked(most: int, **model: Any) -> np.ndarray:
            return np.isfinite(asking(most, **model)(visits, items, np.zeros(items.shape)))

        assert asked(0).all() and asked(0, name="gone").all()
        with pytest.raises(ModelError, match="no model in") as caught:
            asked(1, name="gone")
        assert "\n" not in str(caught.value)
        first = asking(0).prompts(samples_of_today(one, visits, items)).sort("sample_id")["prompt"][0]
        engine = engines.base()
        assert isinstance(engine, TokenizedModel)
        tokens = len(engine.prompt_tokens(first, chat=True))
        assert tokens > len(engine.tokenize(first))
        assert asked(tokens)[0].tolist()[:2] == [True, False] and not [line for line in lines if "warning" in line]
        assert not asked(tokens - 1).any()
        assert [line for line in lines if "warning" in line] == [
            f"warning: recommendations.tokens_per_user = {tokens - 1} is less than the first prompt of every user, of "
            f"up to {tokens} tokens: zero_shot is asked nothing"
        ]


def test_a_run_that_was_broken_off_goes_on_with_what_is_not_finished(copy: Path) -> None:
    settings = with_method(load_settings())
    settings = settings.model_copy(update={"scoring": settings.scoring.model_copy(update={"flush_every": 8})})
    run = predicting(copy, settings)
    one = read_recommender(run)
    visits = one.ratings.visits
    items = one.best(visits, 4).items

    def stop(done: int, total: int) -> None:
        if done >= 20:
            raise KeyboardInterrupt

    memo, half = Memo(copy, SCORES), 0
    before = memo.damage()[0]
    for progress, again in ((stop, False), (lambda done, total: None, True)):
        with OneEngine(replace(run, progress=lambda _, call=progress: call), "score") as engines:
            asked = LlmRescoring.of(engines.run, one, engines)
            if again:
                assert np.isfinite(asked(visits, items, np.zeros(items.shape))[items >= 0]).all()
                assert memo.damage()[0] - before == half + engines.usage.rows
            else:
                with pytest.raises(KeyboardInterrupt):
                    asked(visits, items, np.zeros(items.shape))
                half = memo.damage()[0] - before
                assert half >= 16


@pytest.mark.parametrize("kind", ["mean", "logistic"])
def test_the_llm_and_the_expert_are_merged_in_the_shortlist(copy: Path, kind: str) -> None:
    merge = MergeSettings(kind=kind, members=("factorisation", "zero_shot"))  # type: ignore[arg-type]
    settings = with_method(load_settings(), order="p_yes")
    make_stages(copy, SMALL, settings, "recommendations")
    alone, asked = made_in(copy), Memo(copy, SCORES)
    rows = asked.damage()[0]
    settings = settings.model_copy(update={"merges": {**settings.merges, "both": merge}})
    make_stages(copy, SMALL, with_method(settings, method="both", order="p_yes"), "recommendations")
    found = made_in(copy)
    assert set(found["method"]) == {"both"} and asked.damage()[0] == rows  # the same prompts
    assert set(found["model_fingerprint"]).isdisjoint(alone["model_fingerprint"])
    both = found.join(alone, on=["user_id", "item_id"], suffix="_alone")
    assert both.height == found.height and not np.allclose(both["p_yes"], both["p_yes_alone"])


def test_the_report_holds_the_cascade_against_the_expert_on_the_same_users(copy: Path) -> None:
    settings = with_method(load_settings())
    make_stages(copy, SMALL, settings, "recommendations", "recommendation_report")
    folder = copy / "reports" / SMALL
    report = json.loads((folder / "recommendation_report.json").read_text(encoding="utf-8"))
    assert set(report["pairs"]) == {"cascade_by_p_yes", "cascade_by_both"} <= set(report["methods"])
    for told in report["pairs"].values():
        assert told["other"] == "candidates_by_both"
        assert {f"{m}_at_{k}" for m in ("ndcg", "recall") for k in (5, 10, 20)} <= set(told)
    users = {name: one["test"]["ndcg_at_10"]["users"] for name, one in report["methods"].items()}
    assert len(set(users.values())) == 1
    assert [line["asked"] for line in report["by_shortlist"]] == [0, 5, 10]
    base, full = report["by_shortlist"][0], report["by_shortlist"][-1]
    assert base["test_ndcg_at_10"] == pytest.approx(
        report["methods"]["candidates_by_both"]["test"]["ndcg_at_10"]["value"]
    )
    assert full["test_ndcg_at_10"] == pytest.approx(report["methods"]["cascade_by_both"]["test"]["ndcg_at_10"]["value"])
    assert {"shortlist", "cascade"} <= set(report["cost"])
    page = (folder / "recommendation_report.html").read_text(encoding="utf-8")
    assert "What asking the LLM changes" in page
    answers = read_table(tables.RESCORED_CANDIDATES, copy, SMALL)
    assert answers.height == record_in(copy).metadata["held_out"]["prompts"] > 0
    kept = Memo(copy, SCORES).known(row_keys(copy, [record_in(copy)]))
    assert len(kept) >= answers["p_yes"].n_unique()  # a prune keeps what the report stands on
    verdict = rescored_candidates_are_whole(predicting(copy, settings))
    assert verdict.passed and verdict.figures["rows"] == answers.height


def test_answers_about_users_of_the_report_who_are_not_drawn_are_kept(copy: Path) -> None:
    settings = with_method(load_settings(), users=2)
    make_stages(copy, SMALL, settings, "recommendations")
    record, answers = record_in(copy), read_table(tables.RESCORED_CANDIDATES, copy, SMALL)
    others = set(answers["user_id"]) - set(made_in(copy)["user_id"])
    assert others and record.metadata["users"] == record.metadata["users_computed"] == 2
    with pytest.raises(ConfigError, match="was not drawn"):
        recommended_to(copy, SMALL, min(others), settings, 10)
    Memo(copy, SCORES).keep_only(row_keys(copy, [record]).to_list())  # as a prune does
    shutil.rmtree(copy / "results" / SMALL / "recommendations")
    make_stages(copy, SMALL, settings, "recommendations")
    assert record_in(copy).metadata["llm"]["rows"] == 0
    make_stages(copy, SMALL, with_method(load_settings(), users=3), "recommendations")
    told = record_in(copy).metadata
    assert (told["users_new"], told["users_reused"], told["users_stale"], told["users_orphaned"]) == (1, 2, 0, 0)


def test_a_merge_that_needs_the_reasoner_or_is_a_cascade_cannot_rank() -> None:
    settings = load_settings()
    chosen = settings.recommendations.model_dump() | {"method": "merged_mean"}
    with pytest.raises(ValidationError, match="cannot rank candidates"):
        Settings.model_validate(settings.model_dump() | {"recommendations": chosen})


@pytest.mark.parametrize(
    "rule",
    [
        "drop_ratings = [1, 5]",
        'split = "date"\ndates = { train = 1970-01-02, valid = 1970-01-03, test = 1970-01-04 }',
    ],
)
def test_what_the_protocol_leaves_out_is_no_history_but_seen(copy: Path, rule: str) -> None:
    replace_once(copy / "catalog" / f"{SMALL}.toml", "min_history = 3\n", f"min_history = 3\n{rule}\n")
    run = predicting(copy, load_settings())
    one, rated = read_recommender(run), run.read(tables.INTERACTIONS).select("user_id", "item_id")
    visits, ids = one.ratings.visits, np.array(one.catalogue.item_ids)
    assert int(visits.lengths.sum()) < rated.height
    items = one.best(visits, 4).items
    found = pl.DataFrame({"user_id": np.repeat(one.ratings.sequences.user_ids, 4), "item_id": ids[items.ravel()]})
    found = found.filter(pl.Series(items.ravel() >= 0))
    assert found.height and not found.join(rated, on=["user_id", "item_id"], how="semi").height


def test_recommendations_are_calibrated_as_predictions_are(finished_lake: Path) -> None:
    run = predicting(finished_lake, with_method(load_settings()))
    with OneEngine(run, "score") as engines:
        scaling = LlmRescoring.of(run, read_recommender(run), engines).scaling
    told = run.given("predictions").metadata["prompts"]["zero_shot"]["calibration"]
    assert [scaling.slope, scaling.intercept] == told


def test_status_counts_users_of_either_table(finished_lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, read = predicting(finished_lake, with_method(load_settings())), StageRun.read
    some = pl.DataFrame({"user_id": ["u3", "silent"]})
    monkeypatch.setattr(StageRun, "read", lambda self, asked: some if asked is tables.USERS else read(self, asked))
    asked = asked_users(run.read(tables.SAMPLES), 0)
    pending, planned = pending_rows("recommendations", run, []), planned_rows("recommendations", run)
    assert 0 < asked <= 40 and pending and pending.rows == pending.at_most == (21 + asked) * 10
    assert planned and planned.rows == planned.at_most == (21 + 2 * 21) * 10


@pytest.mark.parametrize(("users", "report_users", "rows"), [(5, 3, 110), (5, 0, None), (0, 3, None)])
def test_where_users_are_unknown_only_bounds_of_both_kinds_give_a_figure(
    finished_lake: Path, users: int, report_users: int, rows: int | None
) -> None:
    settings = with_method(load_settings(), users=users, report_users=report_users)
    planned = planned_rows("recommendations", looking_run(finished_lake, SMALL, settings))
    assert (planned and planned.at_most) == rows


def test_each_prompt_of_the_reasoner_is_planned_to_be_read_once_for_what_follows_it(finished_lake: Path) -> None:
    settings = load_settings()
    run = looking_run(finished_lake, SMALL, settings)
    written, read = (planned_rows(stage, run) for stage in ("reasoning_traces", "reasoned_predictions"))
    assert written is not None and read is not None and read.rows > written.rows > 0
    thoughts = read.rows * settings.reasoning.max_new_tokens
    assert read.rows * read.tokens == pytest.approx(written.rows * written.tokens + thoughts)


def test_users_are_drawn_where_there_is_a_bound(copy: Path) -> None:
    settings = load_settings()
    few = settings.recommendations.model_copy(update={"users": 5})
    settings = settings.model_copy(update={"recommendations": few})
    make_stages(copy, SMALL, settings, "recommendations")
    drawn = made_in(copy)["user_id"].unique()
    assert len(drawn) == 5
    other = next(f"u{number}" for number in range(20) if f"u{number}" not in drawn)
    with pytest.raises(ConfigError, match="was not drawn"):
        recommended_to(copy, SMALL, other, settings, 10)


def test_status_tells_what_a_million_predictions_take(finished_lake: Path) -> None:
    found = dataset_status(finished_lake, SMALL, load_settings())
    assert {"catalogue", "candidates", "llm_rallrec"} <= set(found.steps)
    assert "candidates, by the expert" in steps_told(found)
    document = json.loads(status_as_json([found], Speeds(finished_lake, load_settings())))
    assert document["datasets"][SMALL]["steps"]["candidates"]["seconds_per_million"] > 0
    assert all(asset.state == "fresh" for asset in found.assets)


def test_status_tells_before_a_run_what_a_million_predictions_of_the_cascade_will_take(finished_lake: Path) -> None:
    settings = with_method(load_settings()).model_copy(update={"profile": "another"})
    found = dataset_status(finished_lake, SMALL, settings)
    assert {"catalogue", "candidates", "shortlist_to_come"} <= set(found.steps) and "shortlist" not in found.steps
    to_come = found.steps["shortlist_to_come"]
    assert to_come["seconds_per_million"] > 0 and to_come["tokens_per_million"] > 0
    assert "the shortlist to come, by the LLM (an estimate)" in steps_told(found)


def test_status_shows_no_steps_of_another_expert(finished_lake: Path) -> None:
    settings = with_method(load_settings(), expert="item_knn").model_copy(update={"profile": "another"})
    assert not {"catalogue", "candidates"} & set(dataset_status(finished_lake, SMALL, settings).steps)


def broken(frame: pl.DataFrame, how: str) -> pl.DataFrame:
    first = pl.int_range(pl.len()) == 0
    changes = {
        "rank": pl.when(first).then(7).otherwise(pl.col("rank")).cast(pl.Int32).alias("rank"),
        "nan": pl.when(first).then(float("nan")).otherwise(pl.col("p_yes")).alias("p_yes"),
        "line": pl.when(first).then(pl.lit(["i88"])).otherwise(pl.col("because")).alias("because"),
        "seen": pl.when(first).then(pl.col("because").list.first()).otherwise(pl.col("item_id")).alias("item_id"),
    }
    return frame.filter(pl.col("user_id") != "u3") if how == "user" else frame.with_columns(changes[how])


@pytest.mark.parametrize(
    ("how", "check"),
    [
        *(("rank", recommendations_are_whole), ("nan", recommendations_are_whole), ("line", recommendations_are_whole)),
        *(("seen", nothing_seen_is_recommended), ("user", every_user_is_covered)),
    ],
)
def test_checks_find_what_is_wrong(finished_lake: Path, monkeypatch: pytest.MonkeyPatch, how: str, check: Any) -> None:
    run = predicting(finished_lake, load_settings())
    assert check(run).passed
    table, read = broken(made_in(finished_lake), how), StageRun.read
    monkeypatch.setattr(
        StageRun, "read", lambda self, asked: table if asked is tables.RECOMMENDATIONS else read(self, asked)
    )
    assert not check(run).passed


def test_the_check_finds_what_is_wrong_with_the_candidates_of_the_report(
    finished_lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rescored_candidates_are_whole(predicting(finished_lake, load_settings())).figures == {"rows": 0}
    run, read = predicting(finished_lake, with_method(load_settings(), shortlist=2)), StageRun.read
    moments = run.read(tables.SAMPLES).filter(pl.col("split") == "test").head(2)
    whole = (
        moments.select("user_id", pl.col("history_length").cast(pl.Int32))
        .unique()
        .join(pl.DataFrame({"item_id": ["i1", "i2"], "p_yes": [0.0, 1.0]}), how="cross")
    )
    first = pl.int_range(pl.len()) == 0
    faults = {
        "outside_0_1": whole.with_columns(pl.when(first).then(float("nan")).otherwise("p_yes").alias("p_yes")),
        "twice": whole.filter(pl.col("item_id") == "i1").select(pl.all().repeat_by(2).explode()),
        "too_long": pl.concat([whole, whole.head(1).with_columns(pl.lit("i3").alias("item_id"))]),
        "no_moment": whole.with_columns(pl.lit(99, pl.Int32).alias("history_length")).head(1),
    }
    shown = [whole]
    monkeypatch.setattr(
        StageRun, "read", lambda self, asked: shown[-1] if asked is tables.RESCORED_CANDIDATES else read(self, asked)
    )
    assert rescored_candidates_are_whole(run).passed
    for fault, table in faults.items():
        shown.append(table)
        verdict = rescored_candidates_are_whole(run)
        assert not verdict.passed and [name for name in faults if verdict.figures[name]] == [fault]


def test_the_report_ranks_the_whole_catalogue_and_tells_the_cost(finished_lake: Path) -> None:
    folder = finished_lake / "reports" / SMALL
    report = json.loads((folder / "recommendation_report.json").read_text(encoding="utf-8"))
    assert set(report["methods"]) >= {"popularity", "item_knn", "lightgcn", "factorisation", "text_trees"}
    assert report["chosen"] in report["methods"] and "no negatives are sampled" in report["candidates"]
    assert report["items"] == 12 and report["cost"]["candidates"]["seconds_per_million"] > 0
    page = (folder / "recommendation_report.html").read_text(encoding="utf-8")
    assert "Cold users" in page and "<script" not in page
    assert np.isfinite(record_in(finished_lake, "recommendation_report").metadata["ndcg_at_10_item_knn"])


def test_a_disturbed_index_is_told(copy: Path) -> None:
    run = predicting(copy, load_settings())
    shuffled = run.read(tables.CORE_ITEMS).reverse()
    own = replace(run)
    object.__setattr__(own, "read", lambda table: shuffled if table is tables.CORE_ITEMS else run.read(table))
    with pytest.raises(StaleArtefactError, match="item_index"):
        read_recommender(own)
