"""Stage `expert_predictions`: the strongest predictors without an LLM, on the rows that the LLM is asked about."""

from __future__ import annotations

import polars as pl

from rallrec_pipeline.baselines.experts import Evidence, predict_experts
from rallrec_pipeline.datasets.sequences import codes_in
from rallrec_pipeline.inference.methods import retrievers
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.parquet import write_table
from rallrec_pipeline.pipeline.context import Made, StageRun
from rallrec_pipeline.pipeline.stages.embeddings import read_vectors
from rallrec_pipeline.settings import MIXTURE, Settings


def expert_predictions(run: StageRun) -> Made:
    """P(yes) of every expert on the validation and test rows of the LLM methods."""
    samples = run.read(tables.SAMPLES)
    retriever = shown_retriever(run.settings)
    histories = run.read(tables.RETRIEVED_HISTORIES).filter(pl.col("retriever") == retriever)
    asked = histories.filter(pl.col("split") != "train").sort("sample_id")
    evidence = Evidence(
        run.read(tables.CORE_INTERACTIONS),
        samples,
        histories,
        run.read(tables.FITTED_INTERACTIONS),
        run.read(tables.CORE_ITEMS)["item_id"].to_list(),
        read_vectors(run, "title"),
        read_vectors(run, "collaborative"),
    )
    places = codes_in(asked["sample_id"], samples["sample_id"]).astype("int64")
    found = predict_experts(evidence, places, run.spec.label.like_above, run.settings.experts, run.seeds.fits)
    files = []
    for name, predicted in found.items():
        frame = asked.select("sample_id", "split", "label").with_columns(
            pl.Series("p_yes", predicted.p_yes, dtype=pl.Float64),
            pl.lit(None, pl.List(pl.Float32)).alias("probabilities"),
        )
        files.append(write_table(frame, tables.predictions_table(name), run.out, run.dataset))
    shown = {
        "seconds": {name: predicted.seconds for name, predicted in found.items()},
        "training_rows": {name: predicted.training_rows for name, predicted in found.items()},
        "rows": asked.height,
        "predicted": asked.height,
        "retriever": retriever,
    }
    return Made(files, shown)


def shown_retriever(settings: Settings) -> str:
    """The retriever whose histories are the prompt's own numbers: the mixture, or the first that a method uses."""
    return next(iter(sorted(retrievers(settings), key=lambda name: name != MIXTURE)))
