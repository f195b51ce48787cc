"""What must hold of responses, of what is read after them, and of merges."""

from __future__ import annotations

import polars as pl

from rallrec_pipeline.lake import tables
from rallrec_pipeline.pipeline.checks.verdict import Verdict
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.reasoning.answers import MARKS


def responses_are_whole(run: StageRun) -> Verdict:
    """Every response belongs to a prompt and counts once; what is wrong with one is marked and counted."""
    traces, prompts = run.read(tables.TRACES), run.read(tables.REASONING_PROMPTS)
    key = ["method", "sample_id", "trace"]
    repeated = traces.height - traces.select(key).n_unique()
    strays = traces.join(prompts, on=["method", "sample_id"], how="anti").height
    unmarked = traces.filter((pl.col("answer") == "") & (pl.col("mark") == "")).height
    marks = {mark: traces.filter(pl.col("mark") == mark).height for mark in MARKS}
    unanswered = float(traces.select((pl.col("answer") == "").mean()).item() or 0.0)
    figures = {"responses": traces.height, "repeated": repeated, "strays": strays, "unmarked": unmarked}
    passed = repeated == strays == unmarked == 0 and traces.filter(pl.col("tokens") < 0).height == 0
    return Verdict(passed, {**figures, "marks": marks, "unanswered_share": unanswered})


def responses_answer(run: StageRun) -> Verdict:
    """Of each way to ask the reasoner no more responses lack an answer in words than the settings allow.

    P(yes) is read after such a response too; where nearly none has an answer, the model does not reason to an end.
    """
    traces, bound = run.read(tables.TRACES), run.settings.reasoning.most_unanswered
    lacking = traces.group_by("method", maintain_order=True).agg((pl.col("answer") == "").mean().alias("share"))
    shares = dict(lacking.iter_rows())
    return Verdict(all(share <= bound for share in shares.values()), {"bound": bound, "unanswered_share": shares})


def reasoned_rows_are_whole(run: StageRun) -> Verdict:
    """Every prompt has its row, with a probability and as many readings as responses."""
    prompts, rows = run.read(tables.REASONING_PROMPTS), run.read(tables.REASONED_ROWS)
    responses = run.read(tables.TRACES).group_by("method", "sample_id").agg(pl.len().alias("found"))
    counted = rows.join(responses, on=["method", "sample_id"], how="left")
    other_count = counted.filter(pl.col("found").fill_null(0) != pl.col("traces")).height
    lacking = prompts.join(rows, on=["method", "sample_id"], how="anti").height
    outside = rows.height - rows.filter(pl.col("p_yes").is_between(0, 1)).height  # neither null nor NaN is
    spread = rows.filter(pl.col("variance").is_not_null() & ~pl.col("variance").is_between(0, 0.5)).height
    figures = {"rows": rows.height, "lacking": lacking, "outside": outside, "other_count": other_count}
    return Verdict(lacking == outside == other_count == spread == 0, {**figures, "bad_variance": spread})


def merges_are_whole(run: StageRun) -> Verdict:
    """Every merge predicts the validation and test rows that prompts are made of, with finite weights."""
    asked = run.read(tables.RETRIEVED_HISTORIES).filter(pl.col("split") != "train")
    wanted = asked.select("sample_id", "split", "label").unique().sort("sample_id")
    told = run.given("merged_predictions").metadata["merges"]
    bad = []
    for merge in told:
        rows = run.read(tables.predictions_table(merge))
        inside = rows.filter(pl.col("p_yes").is_between(0, 1)).height == rows.height
        if not inside or not rows.select(wanted.columns).sort("sample_id").equals(wanted):
            bad.append(merge)
    sides = run.read(tables.CONSISTENCIES)
    weights = sides.select("general", "general_variance", "reasoned")
    finite = weights.select(pl.all_horizontal(pl.all().is_finite().all())).item() if sides.height else True
    return Verdict(not bad and bool(finite), {"merges": len(told), "bad": bad, "rows": wanted.height})
