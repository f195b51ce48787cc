"""A request gives what the batch gives: the same prompt, byte for byte, and the same P(yes)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.parquet import read_table
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.pipeline.stage import decisive_settings, looking
from rallrec_pipeline.prompts.render import shown_title
from rallrec_pipeline.serving.methods import LlmMethod
from rallrec_pipeline.serving.questions import question_of
from rallrec_pipeline.serving.requests import ScoreRequest
from rallrec_pipeline.serving.snapshot import ServedMethod
from rallrec_pipeline.settings import load_settings
from rallrec_pipeline_tests.pipeline.given import make_stages
from rallrec_pipeline_tests.pipeline.tiny import SMALL, TITLE, copied_world, use_lake
from rallrec_pipeline_tests.serving.served import Served, serving

METHODS = ("rallrec", "recent", "zero_shot")
CLOSE = 1e-6
PROMPTED = ("tuning_prompts", "lora_adapter", "evaluation_prompts", "predictions")


@pytest.fixture(scope="module")
def served(finished_world: Path, finished_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with all methods."""
    settings = tmp_path_factory.mktemp("settings") / "settings.toml"
    served = f"\n[serving]\nmethods = {['factorisation', *METHODS]}\n"
    settings.write_text((finished_world / "settings.toml").read_text() + served)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RALLREC_SETTINGS", str(settings))
        with serving() as found:
            yield found


def asked_rows(lake: Path, dataset: str = SMALL) -> pl.DataFrame:
    """The samples that the LLM was asked about, with what each user had rated before."""
    core = read_table(tables.CORE_INTERACTIONS, lake, dataset)
    histories = core.group_by("user_id", maintain_order=True).agg("item_id", "rating")
    samples = read_table(tables.SAMPLES, lake, dataset).filter(pl.col("split") != "train")
    return samples.join(histories.rename({"item_id": "items", "rating": "ratings"}), on="user_id")


def request_of(row: dict[str, Any], method: str) -> dict[str, Any]:
    """The request that asks what a sample asks."""
    known = list(zip(row["items"], row["ratings"], strict=True))[: row["history_length"]]
    history = [{"item_id": item, "rating": rating} for item, rating in known]
    targets = [{"item_id": row["item_id"]}]
    return {"method": method, "user_id": row["user_id"], "history": history, "targets": targets}


def prompt_of(method: ServedMethod, body: dict[str, Any]) -> str:
    """The prompt that the server makes of a request with one target."""
    question = question_of(ScoreRequest.model_validate(body), method.catalogue)
    assert isinstance(method.answerer, LlmMethod)
    prompter = method.answerer.prompter
    (prompt,) = prompter.prompts(prompter.histories(question), prompter.context(question))
    return prompt


@pytest.mark.parametrize("method", METHODS)
def test_every_request_has_the_prompt_and_the_answer_of_the_batch(
    served: Served, finished_lake: Path, method: str
) -> None:
    name, loaded = served.current.snapshot.method(method, None)
    assert isinstance(loaded.answerer, LlmMethod) and loaded.answerer.calibration is not None
    close = CLOSE * max(1, loaded.answerer.calibration.slope)  # what the LLM says differs by no more than CLOSE
    asked = loaded.answerer.prompter.method.asked
    written = read_table(tables.prompts_table("evaluation"), finished_lake, SMALL).filter(asked.rows)
    prompts = dict(written.select("sample_id", "prompt").iter_rows())
    scored = dict(
        read_table(tables.predictions_table(name), finished_lake, SMALL).select("sample_id", "p_yes").iter_rows()
    )
    rows = asked_rows(finished_lake).filter(pl.col("sample_id").is_in(list(prompts))).rows(named=True)
    assert len(rows) == len(prompts) == len(scored) > 15
    for row in rows:
        body = request_of(row, method)
        assert prompt_of(loaded, body) == prompts[row["sample_id"]]
        (found,) = served.score(body)["targets"]
        assert found["p_yes"] == pytest.approx(scored[row["sample_id"]], abs=close)


def test_the_expert_gives_the_answers_of_the_report(served: Served, finished_lake: Path) -> None:
    batch = read_table(tables.predictions_table("factorisation"), finished_lake, SMALL)
    scored = dict(batch.select("sample_id", "p_yes").iter_rows())
    for row in asked_rows(finished_lake).filter(pl.col("sample_id").is_in(list(scored))).rows(named=True):
        (found,) = served.score(request_of(row, "factorisation"))["targets"]
        assert found["p_yes"] == pytest.approx(scored[row["sample_id"]], abs=CLOSE)


def test_a_known_user_needs_no_history_and_an_unnamed_one_is_folded_in(served: Served, finished_lake: Path) -> None:
    row = asked_rows(finished_lake).sort("history_length").row(-1, named=True)
    body = request_of(row, "rallrec")
    whole = {**row, "history_length": len(row["items"])}
    unseen = next(f"i{n}" for n in range(10) if f"i{n}" not in row["items"])
    named = request_of(whole, "rallrec") | {"targets": [{"item_id": unseen}]}
    short = {key: value for key, value in named.items() if key != "history"}
    assert served.score(named) == served.score(short)
    _, loaded = served.current.snapshot.method("rallrec", None)
    alone = {key: value for key, value in body.items() if key != "user_id"}
    assert prompt_of(loaded, alone).count("\n") == prompt_of(loaded, body).count("\n")


def test_in_the_deterministic_mode_and_with_titles_cut_a_request_is_the_batch_bit_for_bit(
    finished_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, settings = copied_world(finished_world, tmp_path), tmp_path / "settings.toml"
    text = (finished_world / "settings.toml").read_text()
    text = text.replace("[prompts]\n", f"[prompts]\ntitle_characters = {len(TITLE) - 5}\n")
    settings.write_text(text.replace("[model]\n", "[model]\ndeterministic = true\n"))
    use_lake(lake, settings, monkeypatch)
    assert make_stages(lake, SMALL, load_settings(), *PROMPTED) == dict.fromkeys(PROMPTED, True)
    written = read_table(tables.prompts_table("evaluation"), lake, SMALL)["prompt"]
    cut = shown_title(TITLE, len(TITLE) - 5)
    assert written.str.contains(cut, literal=True).any() and not written.str.contains(TITLE, literal=True).any()
    batch = read_table(tables.predictions_table("rallrec"), lake, SMALL)
    scored = dict(batch.select("sample_id", "p_yes").iter_rows())
    rows = asked_rows(lake).filter(pl.col("sample_id").is_in(list(scored))).rows(named=True)
    with serving() as served:
        for row in rows:
            (found,) = served.score(request_of(row, "rallrec"))["targets"]
            assert found["p_yes"] == scored[row["sample_id"]]
        user = max(rows, key=lambda row: row["history_length"])
        body = request_of(user, "rallrec")
        others = [{"title": "Another"}, {"title": "One more"}]
        among = served.score(body | {"targets": [*others, *body["targets"]]})["targets"]
        assert among[-1]["p_yes"] == scored[user["sample_id"]]


def test_the_mode_changes_the_address_of_predictions_only_where_it_is_on(finished_lake: Path) -> None:
    off = load_settings()
    on = off.model_copy(update={"model": off.model.model_copy(update={"deterministic": True})})
    for name, stage in STAGES.items():
        before, after = (decisive_settings(stage, looking(finished_lake, SMALL, one)) for one in (off, on))
        assert (before != after) == (name == "predictions"), name
        assert "deterministic" not in str(before)
