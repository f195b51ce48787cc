"""Stage `expert_predictions`: the strongest predictors without an LLM, on the rows that the LLM is asked about."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.baselines.ctr_fields import ctr_fields
from rallrec_pipeline.baselines.deep_ctr import CtrPrediction, CtrRows, predict_deep_ctr
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
    like_above = run.spec.label.like_above
    found = predict_experts(evidence, places, like_above, run.settings.experts, run.seeds.fits)
    predicted = {name: (one.p_yes, one.seconds, one.fit_seconds, one.training_rows) for name, one in found.items()}
    if run.settings.experts.deep:
        few = histories.filter(pl.col("split") == "train")
        deep = _on_ids(run, samples, few, asked, places)
        predicted |= {
            name: (one.p_yes, round(one.seconds, 2), round(one.fit_seconds, 4), one.n_train)
            for name, one in deep.items()
        }
    files = []
    for name, (p_yes, *_) in predicted.items():
        frame = asked.select("sample_id", "split", "label").with_columns(
            pl.Series("p_yes", p_yes, dtype=pl.Float64), pl.lit(None, pl.List(pl.Float32)).alias("probabilities")
        )
        files.append(write_table(frame, tables.predictions_table(name), run.out, run.dataset))
    shown = {
        "seconds": {name: seconds for name, (_, seconds, _, _) in predicted.items()},
        "fit_seconds": {name: seconds for name, (_, _, seconds, _) in predicted.items()},
        "training_rows": {name: rows for name, (_, _, _, rows) in predicted.items()},
        "rows": asked.height,
        "predicted": asked.height,
        "retriever": retriever,
    }
    return Made(files, shown)


def _on_ids(
    run: StageRun, samples: pl.DataFrame, few: pl.DataFrame, asked: pl.DataFrame, places: NDArray[np.int64]
) -> dict[str, CtrPrediction]:
    """The papers' baselines on ids, fitted on the whole training split, and (`_few`) on the samples of the LLM alone.

    The first stop by the whole validation split, the others by the rows that the LLM is validated on.
    """
    users = run.read(tables.USERS)
    core, items = run.read(tables.CORE_INTERACTIONS), run.read(tables.CORE_ITEMS)
    fields = ctr_fields(samples, core, items, users if users.height else None, run.spec)
    train, valid = (np.flatnonzero((samples["split"] == split).to_numpy()) for split in ("train", "valid"))
    of_llm = places[(asked["split"] == "valid").to_numpy()]
    fits = {
        "": CtrRows(train, valid),
        "_few": CtrRows(codes_in(few["sample_id"], samples["sample_id"]).astype(np.int64), of_llm),
    }
    labels = samples["label"].to_numpy()
    return predict_deep_ctr(fields, labels, fits, places, run.seeds.fits, log=run.log)


def shown_retriever(settings: Settings) -> str:
    """The retriever whose histories are the prompt's own numbers: the mixture, or the first that a method uses."""
    return next(iter(sorted(retrievers(settings), key=lambda name: name != MIXTURE)))
