"""Merges and cascades of the expert and a method of the LLM, fitted on the validation rows as the batch fits them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.baselines.rating_log import RatingLog
from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.parquet import read_table
from rallrec_pipeline.lake.store import Record
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.reasoning.cascade import Asking, KnownBefore
from rallrec_pipeline.reasoning.merge import merge_of_two
from rallrec_pipeline.serving.methods import EXPERT, CascadeMethod, ExpertMethod, LlmMethod, MergedMethod
from rallrec_pipeline.settings import Settings

NOT_ONLINE = (
    "the reasoner writes several long responses before it answers, which takes minutes a row and no request waits for: "
    "its answers are in the reasoning report"
)
KINDS = ("mean", "logistic", "cascade")


def served_member(name: str, settings: Settings) -> str:
    """The method of the LLM in a merge that can be served. Raises ConfigError, in one line, where it cannot."""
    merge, where = settings.merges[name], f"serving.methods: {name!r} cannot be served"
    if thinking := [leaf for leaf in _leaves(name, settings) if leaf in settings.reasoned]:
        raise ConfigError(f"{where}, it needs {thinking[0]!r}: {NOT_ONLINE}")
    others = [member for member in merge.members if member != EXPERT]
    is_known = merge.kind in KINDS and not merge.uncertainty and not merge.budget
    is_pair = len(merge.members) == 2 and len(others) == 1 and others[0] in settings.methods
    if not is_known or not is_pair or (merge.kind == "cascade" and merge.members[0] != EXPERT):
        raise ConfigError(
            f"{where}: take a 'mean', a 'logistic' without uncertainty, or a 'cascade' without budget, of {EXPERT!r}"
            " first and a method of the LLM"
        )
    return others[0]


def fitted_merge(
    name: str, record: Record, run: StageRun, expert: ExpertMethod
) -> Callable[[LlmMethod], MergedMethod | CascadeMethod]:
    """The merge `name`, fitted on what both members say of the validation rows in `record`, that of `predictions`.

    It is given the method of the LLM, which nothing here needs, when that is loaded.
    """
    merge, member = run.settings.merges[name], served_member(name, run.settings)
    rows = read_table(tables.predictions_table(member), record.folder(run.lake), run.dataset)
    core, samples = run.read(tables.CORE_INTERACTIONS), run.read(tables.SAMPLES)
    valid = rows.filter(pl.col("split") == "valid").select("sample_id", "p_yes")
    known = samples.join(valid, on="sample_id", how="inner").sort("sample_id")
    log = RatingLog.of(core, samples, run.read(tables.CORE_ITEMS)["item_id"].to_list())
    by_expert, by_llm = _by_expert(expert, log, known), known["p_yes"].to_numpy()
    labels = known["label"].to_numpy().astype(np.int8)
    if merge.kind == "cascade":
        ratings = np.bincount(log.whole_training().ratings.items, minlength=len(log.sequences.item_ids))
        before = KnownBefore(
            by_expert,
            ratings[log.sequences.item_codes(known["item_id"])],
            known["history_length"].to_numpy().astype(np.int64),
            log.sequences.user_codes(known["user_id"]).astype(np.int64),
        )
        asking = Asking.of(before, by_expert, by_llm, labels)
        return lambda llm: CascadeMethod(expert, llm, asking, ratings)
    assert merge.kind in ("mean", "logistic"), "served_member takes no other"
    in_order = (by_expert, by_llm)  # what is stacked are log-odds: their order does not matter
    merged = merge_of_two(merge.kind, in_order, labels)
    return lambda llm: MergedMethod(expert, llm, merged)


def _by_expert(expert: ExpertMethod, log: RatingLog, known: pl.DataFrame) -> NDArray[np.float64]:
    """P(yes) (n,) by the expert of the samples `known`, each by its own history."""
    sequences = log.sequences
    every = np.arange(len(sequences.item_ids), dtype=np.int32)
    starts = sequences.offsets[sequences.user_codes(known["user_id"])]
    targets = sequences.item_codes(known["item_id"])
    found = np.zeros(known.height)
    for row, (start, length) in enumerate(zip(starts.tolist(), known["history_length"].to_list(), strict=True)):
        own = slice(start, start + length)
        found[row] = expert.expert.p_yes(every, sequences.items[own], sequences.ratings[own], targets[[row]])[0]
    return found


def _leaves(name: str, settings: Settings) -> list[str]:
    """All that a merge is made of, over any number of merges."""
    merge = settings.merges.get(name)
    if merge is None:
        return [name]
    return [leaf for part in (*merge.members, *merge.runs) for leaf in _leaves(part, settings)]
