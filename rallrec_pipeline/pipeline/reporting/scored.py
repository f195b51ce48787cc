"""Predictions as a report takes them: tables with the LLM's own probabilities, titles and costs from the records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from rallrec_pipeline.baselines.common_sense import COMMON_SENSE
from rallrec_pipeline.baselines.deep_ctr import DEEP_CTR
from rallrec_pipeline.baselines.experts import EXPERTS
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.evaluation.measures.calibration import Platt, fit_platt
from rallrec_pipeline.evaluation.measures.costs import Cost
from rallrec_pipeline.evaluation.reports.evaluation_report import Scored
from rallrec_pipeline.inference.methods import Method, methods, reasoned_methods
from rallrec_pipeline.inference.score import liking_probability
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.parquet import read_table
from rallrec_pipeline.lake.store import Record
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.reporting.merge_costs import cost_of_merge
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


Records = Callable[[str], Record | None]
"""What a stage has made, by its name."""


def scored_by(method: str, record: Record, run: StageRun, records: Records | None = None) -> Scored:
    """A method from what its stage has made, `record`, under the settings of `run`.

    What a merge costs is read off the `records` of its members' stages, by default the inputs of `run`.
    """
    stage, settings = made_by(method, run.settings), run.settings
    if stage == "predictions":
        asked = next(one for one in methods(settings) if one.name == method)
        return scored_by_llm(asked, record, run.lake, run.spec)
    if stage in WITHOUT_LLM:
        return scored_without_llm(method, record, run.lake)
    rows = read_table(tables.predictions_table(method), record.folder(run.lake), record.dataset)
    if stage == "reasoned_predictions":
        rows = rows.with_columns(pl.col("probabilities").list.first().cast(pl.Float64).alias("p_raw"))
    return Scored(rows, title_of(method, settings), "llm", cost_of(method, settings, records or run.inputs.get))


def cost_of(method: str, settings: Settings, records: Records) -> Cost:
    """What a method took, as the record of its stage tells; nothing is known where there is no record.

    The tokens of the reasoner are those that it has written, and those read for its answers.
    """
    stage = made_by(method, settings)
    record = records(stage)
    if record is None:
        return Cost()
    told = record.metadata
    if stage == "merged_predictions":
        merged = told["merges"], told["rows"]
        return cost_of_merge(method, settings, *merged, lambda one: cost_of(one, settings, records))
    if stage in WITHOUT_LLM:
        return _cost_without_llm(method, record)
    return _cost_of_llm(method, record)


def _cost_of_llm(method: str, record: Record) -> Cost:
    counted = record.metadata["prompts"][method]
    read = counted.get("prompt_tokens")  # a record of an earlier version does not say
    tokens = None if read is None or not counted["scored"] else read + counted.get("new_tokens", 0)
    return Cost(record.metadata["seconds"][method], counted["prompts"], tokens, counted["scored"])


def _cost_without_llm(method: str, record: Record) -> Cost:
    """It reads no tokens. The record has `seconds` by method, with the fit, and in `predicted` the rows of these."""
    told = record.metadata
    predicted, fit = told.get("predicted"), told.get("fit_seconds", {}).get(method, 0.0)
    return Cost(told["seconds"][method], predicted, 0, predicted, fit_seconds=fit)


def scored_by_llm(method: Method, record: Record, lake: Path, spec: DatasetSpec) -> Scored:
    """A method of the LLM, from what the stage `predictions` has made.

    `p_raw` is what the LLM said, whether or not the table is calibrated.
    """
    rows = read_table(tables.predictions_table(method.name), record.folder(lake), record.dataset)
    answers = len(answer_texts(method.answer_form, spec))
    said = rows["probabilities"].cast(pl.List(pl.Float64)).list.to_array(answers).to_numpy().reshape(-1, answers)
    raw = liking_probability(said, method.answer_form, spec).clip(0, 1)  # stored as float32: a sum may pass one
    cost = _cost_of_llm(method.name, record)
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
    """A method that asks no LLM, from what its stage has made."""
    rows = read_table(tables.predictions_table(method), record.folder(lake), record.dataset)
    title = next(titles[method] for titles in WITHOUT_LLM.values() if method in titles)
    return Scored(rows, title, "baseline", _cost_without_llm(method, record))
