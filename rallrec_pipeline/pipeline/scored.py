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
from rallrec_pipeline.evaluation.calibration import Platt, fit_platt
from rallrec_pipeline.evaluation.costs import Cost
from rallrec_pipeline.evaluation.report import Scored
from rallrec_pipeline.inference.methods import Method, methods, reasoned_methods
from rallrec_pipeline.inference.score import liking_probability
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.parquet import read_table
from rallrec_pipeline.lake.store import Record
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.prompts.render import answer_texts
from rallrec_pipeline.settings import Settings

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


def made_by(method: str, settings: Settings) -> str:
    """The stage that makes the predictions of a method."""
    if method in settings.merges:
        return "merged_predictions"
    if method in settings.reasoned:
        return "reasoned_predictions"
    return next((stage for stage, titles in WITHOUT_LLM.items() if method in titles), "predictions")


def title_of(method: str, settings: Settings) -> str:
    """What a report calls a method, whatever makes it."""
    if (merge := settings.merges.get(method)) is not None:
        return merge.title or f"{merge.kind} of {', '.join(merge.members)}"
    if method in settings.reasoned:
        return next(one.title for one in reasoned_methods(settings) if one.name == method)
    if method in settings.methods:
        return next(one.title for one in methods(settings) if one.name == method)
    return next(titles[method] for titles in WITHOUT_LLM.values() if method in titles)


def scored_by(method: str, record: Record, run: StageRun) -> Scored:
    """A method from what its stage has made, `record`, under the settings of `run`."""
    stage, settings = made_by(method, run.settings), run.settings
    if stage == "predictions":
        asked = next(one for one in methods(settings) if one.name == method)
        return scored_by_llm(asked, record, run.lake, run.spec)
    if stage in WITHOUT_LLM:
        return scored_without_llm(method, record, run.lake)
    return _scored_by_reasoner(method, record, run)


def _scored_by_reasoner(method: str, record: Record, run: StageRun) -> Scored:
    """A way to ask the reasoner, or a merge. What a merge costs is that of its members, so it is not told here.

    The tokens of the reasoner are those that it has written, and those read for its answers.
    """
    rows = read_table(tables.predictions_table(method), record.folder(run.lake), record.dataset)
    title, counted = title_of(method, run.settings), record.metadata.get("prompts", {}).get(method)
    if counted is None:
        return Scored(rows, title, "llm")
    raw = rows.with_columns(pl.col("probabilities").list.first().cast(pl.Float64).alias("p_raw"))
    tokens = counted["prompt_tokens"] + counted["new_tokens"] if counted["scored"] else None
    return Scored(
        raw, title, "llm", Cost(record.metadata["seconds"][method], counted["prompts"], tokens, counted["scored"])
    )


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


def method_calibration(method: Method, record: Record, lake: Path, spec: DatasetSpec) -> Platt:
    """The calibration of a method in what the stage `predictions` has made under `calibration = "platt"`.

    A record of an earlier version does not tell it: then it is fitted anew, on what the table rounds to float32.
    """
    told = record.metadata["prompts"][method.name].get("calibration")
    if told:
        return Platt(*told)
    valid = scored_by_llm(method, record, lake, spec).predictions.filter(pl.col("split") == "valid")
    return fit_platt(valid["p_raw"].to_numpy(), valid["label"].to_numpy())


def scored_without_llm(method: str, record: Record, lake: Path) -> Scored:
    """A method that asks no LLM, from what its stage has made; it reads no tokens.

    The stage's metadata has `seconds` by method, with the fit, and in `predicted` the rows that these were spent on.
    """
    rows = read_table(tables.predictions_table(method), record.folder(lake), record.dataset)
    predicted = record.metadata.get("predicted")
    cost = Cost(record.metadata["seconds"][method], predicted, 0, predicted)
    title = next(titles[method] for titles in WITHOUT_LLM.values() if method in titles)
    return Scored(rows, title, "baseline", cost)
