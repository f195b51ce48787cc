"""The stage of the retrieved histories with a reranker that is learned, on the tiny world."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.provenance import stable_hash
from rallrec_pipeline.pipeline.context import Made, StageRun
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.retrieval.candidates import FEATURES
from rallrec_pipeline.settings import MIXTURE, RetrievalSettings, Settings, load_settings
from rallrec_pipeline_tests.pipeline.given import give, work

STAGE = "retrieved_histories"


@pytest.fixture
def run(finished_run: StageRun) -> StageRun:
    """A run with a reranker to learn, whose inputs are those of the finished world."""
    return replace(finished_run, settings=learned(finished_run.settings))


def learned(settings: Settings, **others: Any) -> Settings:
    retrieval = {**settings.retrieval.model_dump(), "reranker": "learned"}
    return Settings.model_validate({**settings.model_dump(), "retrieval": retrieval, **others})


def told(made: Made) -> dict[str, Any]:
    found: dict[str, Any] = made.metadata["learned_reranker"]
    return found


def test_it_is_told_with_its_figures_on_validation_beside_those_of_eq_8(run: StageRun) -> None:
    made, _ = work(run, STAGE)
    found = told(made)[MIXTURE]
    assert list(found["weights"]) == list(FEATURES) and all(weight >= 0 for weight in found["weights"].values())
    train = run.read(tables.SAMPLES).filter(pl.col("split") == "train")
    assert found["fitted_rows"] == train.height
    assert all(0 <= found[f"validation_auc_{name}"] <= 1 for name in ("fixed", "learned"))
    tried = {result["alpha"]: result["auc"] for result in made.metadata["alpha_search"][MIXTURE]}
    assert found["validation_auc_fixed"] == tried[made.metadata["alpha"][MIXTURE]]
    histories = run.read(tables.RETRIEVED_HISTORIES)
    lengths = histories.select(pl.col("reranked").list.len()).to_series()
    assert (lengths == histories["recent"].list.len()).all() and lengths.max() == run.settings.retrieval.history_length


def test_labels_of_other_splits_change_nothing_and_those_of_training_do(run: StageRun) -> None:
    samples = run.read(tables.SAMPLES)
    before = told(work(run, STAGE)[0])[MIXTURE]

    def with_turned(split: pl.Expr) -> dict[str, Any]:
        turned = pl.when(split).then(1 - pl.col("label")).otherwise("label").cast(pl.Int8).alias("label")
        give(run, tables.SAMPLES, samples.with_columns(turned))
        found: dict[str, Any] = told(work(run, STAGE)[0])[MIXTURE]
        return found

    assert with_turned(pl.col("split") != "train")["weights"] == before["weights"]
    assert with_turned(pl.col("split") == "train")["weights"] != before["weights"]


def test_where_all_ratings_are_alike_eq_8_stays_and_is_told(run: StageRun) -> None:
    core = run.read(tables.CORE_INTERACTIONS)
    give(run, tables.CORE_INTERACTIONS, core.with_columns(rating=pl.lit(4.0, core.schema["rating"])))
    lines: list[str] = []
    made, _ = work(replace(run, log=lines.append), STAGE)
    assert "eq. 8 stays" in told(made)[MIXTURE]["why_not"] and any("nothing can be learned" in line for line in lines)
    learnt = run.read(tables.RETRIEVED_HISTORIES)
    fixed, _ = work(replace(run, settings=load_settings("demo", lake=run.lake)), STAGE)
    assert "learned_reranker" not in fixed.metadata
    assert run.read(tables.RETRIEVED_HISTORIES).equals(learnt)


def test_a_retriever_may_have_a_reranker_of_its_own(run: StageRun) -> None:
    plain = load_settings("demo", lake=run.lake)
    own = {"retrievers": {"mine": {"reranker": "learned"}}, "methods": {"mine": {"retriever": "mine"}}}
    both = Settings.model_validate({**plain.model_dump(), **own})
    made, _ = work(replace(run, settings=both), STAGE)
    assert list(told(made)) == ["mine"]
    histories = run.read(tables.RETRIEVED_HISTORIES)
    by_name = {name: histories.filter(pl.col("retriever") == name).drop("retriever") for name in (MIXTURE, "mine")}
    assert (
        by_name[MIXTURE]
        .drop("reranked", "reranked_ratings")
        .equals(by_name["mine"].drop("reranked", "reranked_ratings"))
    )


def test_only_another_reranker_makes_histories_stale(run: StageRun) -> None:
    settings = load_settings("demo", lake=run.lake)

    def depends(changed: Settings) -> str:
        return stable_hash(dict(STAGES[STAGE].depends_on(changed, run.spec)))

    fixed = settings.retrieval.model_copy(update={"reranker": "fixed"})
    assert depends(settings.model_copy(update={"retrieval": fixed})) == depends(settings)
    assert depends(learned(settings)) != depends(settings)
    assert RetrievalSettings().reranker == "fixed"
