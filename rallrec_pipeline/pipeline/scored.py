"""Predictions as a report takes them: tables with the LLM's own probabilities, titles and costs from the records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from rallrec_pipeline.baselines.common_sense import COMMON_SENSE
from rallrec_pipeline.baselines.deep_ctr import DEEP_CTR
from rallrec_pipeline.baselines.experts import EXPERTS
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.evaluation.costs import Cost
from rallrec_pipeline.evaluation.report import Scored
from rallrec_pipeline.inference.methods import Method
from rallrec_pipeline.inference.score import liking_probability
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.parquet import read_table
from rallrec_pipeline.lake.store import Record
from rallrec_pipeline.prompts.render import answer_texts

ON_IDS = DEEP_CTR | {f"{name}_few": f"{title} on the LLM's samples" for name, title in DEEP_CTR.items()}
"""The papers' baselines on ids, which `experts.deep` asks for: name -> title."""
WITHOUT_LLM: dict[str, Mapping[str, str]] = {
    "baseline_predictions": COMMON_SENSE,
    "expert_predictions": EXPERTS | ON_IDS,
}
"""Stages that predict without an LLM: name -> title of their methods."""

MOST_FIGURES = 70  # the UI hides what comes after a hundred entries


def figures_shown(report: Mapping[str, Any]) -> dict[str, float]:
    """`auc_rallrec` and the like: single numbers, which the UI plots over partitions and time.

    Of AUC, UAUC, log loss and ECE, in this order, as many as `MOST_FIGURES` leaves room for; one at least.
    """
    methods = report["methods"]
    measures = ("auc", "uauc", "log_loss", "ece")[: max(1, MOST_FIGURES // max(1, len(methods)))]
    return {
        f"{measure}_{name.replace('/', '_')}": figures[measure]
        for measure in measures
        for name, figures in methods.items()
        if figures[measure] is not None
    }


def made_by(method: str) -> str:
    """The stage that makes the predictions of a method."""
    return next((stage for stage, titles in WITHOUT_LLM.items() if method in titles), "predictions")


def scored_by_llm(method: Method, record: Record, lake: Path, spec: DatasetSpec) -> Scored:
    """A method of the LLM, from what the stage `predictions` has made.

    `p_raw` is what the LLM said, whether or not the table is calibrated.
    """
    rows = read_table(tables.predictions_table(method.name), record.folder(lake), record.dataset)
    answers = len(answer_texts(method.answer_form, spec))
    said = rows["probabilities"].cast(pl.List(pl.Float64)).list.to_array(answers).to_numpy().reshape(-1, answers)
    raw = liking_probability(said, method.answer_form, spec).clip(0, 1)  # stored as float32: a sum may pass one
    counted = record.metadata["prompts"][method.name]
    cost = Cost(
        record.metadata["seconds"][method.name],
        counted["prompts"],
        counted.get("prompt_tokens") if counted["scored"] else None,  # a record of an earlier version does not say
        counted["scored"],
    )
    return Scored(rows.with_columns(pl.Series("p_raw", raw, dtype=pl.Float64)), method.title, "llm", cost)


def scored_without_llm(method: str, record: Record, lake: Path) -> Scored:
    """A method that asks no LLM, from what its stage has made; it reads no tokens.

    The stage's metadata has `seconds` by method, with the fit, and in `predicted` the rows that these were spent on.
    """
    rows = read_table(tables.predictions_table(method), record.folder(lake), record.dataset)
    predicted = record.metadata.get("predicted")
    cost = Cost(record.metadata["seconds"][method], predicted, 0, predicted)
    return Scored(rows, WITHOUT_LLM[made_by(method)][method], "baseline", cost)
