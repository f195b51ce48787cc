"""RALLRec+ as stages: responses of the reasoner, and P(yes) after each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from rallrec_pipeline.evaluation.measures.calibration import Platt, fit_platt
from rallrec_pipeline.evaluation.pages.markdown import plain
from rallrec_pipeline.inference.methods import ReasonedMethod, methods, reasoned_methods
from rallrec_pipeline.inference.score import ScoreStore, liking_probability
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.memo_rows import SCORES, TRACES
from rallrec_pipeline.lake.parquet import write_table
from rallrec_pipeline.lake.provenance import content_version
from rallrec_pipeline.language_models.models import model_folder
from rallrec_pipeline.language_models.tokens import opens_thought
from rallrec_pipeline.pipeline.context import Made, Markdown, StageRun
from rallrec_pipeline.pipeline.stages.engine import OneEngine, model_version
from rallrec_pipeline.prompts.render import answer_texts
from rallrec_pipeline.reasoning.answers import MARKS, read_response
from rallrec_pipeline.reasoning.fit import fit_thought, reading_model
from rallrec_pipeline.reasoning.opinions import over_traces
from rallrec_pipeline.reasoning.prompts import answer_position, opinion, reasoning_prompt
from rallrec_pipeline.reasoning.read import read_answers
from rallrec_pipeline.reasoning.traces import TraceStore, Wanted, sample_traces, trace_keys
from rallrec_pipeline.settings import AnswerForm, Settings

DEFAULT_TOKENS_PER_SECOND = 160.0
"""Of a model of 135M parameters on two CPU cores; the last run's own is taken where there is one."""
_ROW = ("sample_id", "split", "label", "method")


def reasoning_traces(run: StageRun) -> Made:
    """Sampled responses to the prompts of every way to ask the reasoner; finished ones are not written again."""
    settings = run.settings.reasoning
    prompts = reasoning_prompts(run)
    ranks = _ranks(run, prompts)
    wanted = [
        Wanted(prompt, trace, rank)
        for prompt, rank in zip(prompts["prompt"].to_list(), ranks, strict=True)
        for trace in range(settings.traces)
    ]
    store = TraceStore(run.memo(TRACES), model_version(run), run.seeds.sampling, run.run_id)
    missing = _tell_cost(run, wanted, store)
    with OneEngine(run, "generate") as engines:
        found = sample_traces(wanted, lambda: engines.base(), settings, store, run.progress("reasoning"))
    asked = prompts[[place for place in range(prompts.height) for _ in range(settings.traces)]]
    numbered = asked.with_columns(pl.Series("trace", [one.trace for one in wanted], dtype=pl.Int32))
    rows = pl.concat([numbered, found.drop("at")], how="horizontal").filter(pl.col("text").is_not_null())
    traces = _taken_apart(rows, run).with_columns(pl.lit(store.model_fingerprint).alias("model_fingerprint"))
    files = [
        write_table(prompts, tables.REASONING_PROMPTS, run.out, run.dataset),
        write_table(traces.select(list(tables.TRACES.columns)), tables.TRACES, run.out, run.dataset),
    ]
    written = rows.filter("now").unique("key")
    seconds, tokens = float(written["seconds"].sum()), int(written["tokens"].sum())
    shown = {
        "rows": traces.height,
        "prompts": prompts.height,
        "rows_computed": written.height,
        "not_written": len(wanted) - traces.height,
        "told_nothing": prompts.join(_told(run), on="method", how="semi").filter(pl.col("told") == "").height,
        "missing_before": missing,
        "marks": {mark: traces.filter(pl.col("mark") == mark).height for mark in MARKS},
        "unanswered_share": _share(traces, pl.col("answer") == ""),
        "tokens_per_response": traces["tokens"].mean(),
        "tokens_per_second": round(tokens / seconds, 1) if seconds else None,
        "llm": asdict(engines.usage),
        "engine": engines.used,
        "examples": Markdown(_examples(traces)),
    }
    if not_written := shown["not_written"]:
        run.log(
            f"reasoning: stopped at its bound of {settings.max_tokens:,} tokens, {not_written:,} responses not written"
        )
    version = content_version(files)
    return Made(
        files, shown, traces.select("method", "sample_id", "trace", "input_hash", "run_id", "created_at"), version
    )


def reasoned_predictions(run: StageRun) -> Made:
    """P(yes) after each response, and its mean and variance for each sample."""
    prompts, traces = run.read(tables.REASONING_PROMPTS), run.read(tables.TRACES)
    folder = model_folder(run.lake, run.settings.model)
    thinks, model = opens_thought(folder), reading_model(folder)
    store = ScoreStore(run.memo(SCORES), model_version(run), "", run.run_id, run.settings.scoring.flush_every)
    read: list[pl.DataFrame] = []
    seconds: dict[str, float] = {}
    counted: dict[str, dict[str, int | None]] = {}
    with OneEngine(run, "score") as engines:
        for method in reasoned_methods(run.settings):
            form, before = method.asked.answer_form, engines.usage.prompt_tokens
            rows = _with_thoughts(prompts, traces, method.name)
            fitted = [
                fit_thought(
                    partial(answer_position, text, prompt, told, form=form, thinks=thinks), thought or "", model
                )
                for text, prompt, told, thought in rows.select("plain", "prompt", "told", "thought").rows()
            ]
            found = read_answers(
                [one.position for one in fitted],
                answer_texts(form, run.spec),
                engines.base,
                store,
                run.progress(f"reading {method.name}"),
            )
            read.append(_with_probability(rows, found, form, run))
            seconds[method.name] = round(
                sum(found["seconds"].to_list()) + sum(rows["seconds"].drop_nulls().to_list()), 2
            )
            scored = found.filter("now").height
            tokens = engines.usage.prompt_tokens - before
            written = sum(rows["tokens"].drop_nulls().to_list())
            counted[method.name] = {"prompts": rows["sample_id"].n_unique(), "scored": scored, "prompt_tokens": tokens}
            counted[method.name]["new_tokens"] = int(written)
            counted[method.name]["thoughts_cut_to_fit"] = sum(one.cut for one in fitted)
    by_trace = pl.concat(read)
    by_row = pl.concat([_by_row(frame) for _, frame in by_trace.group_by("method", maintain_order=True)])
    files = [
        write_table(
            by_trace.select(list(tables.TRACE_PREDICTIONS.columns)), tables.TRACE_PREDICTIONS, run.out, run.dataset
        ),
        write_table(by_row, tables.REASONED_ROWS, run.out, run.dataset),
        *(_write_predictions(frame, run) for _, frame in by_row.group_by("method", maintain_order=True)),
    ]
    shown = {
        "rows": by_row.height,
        "without_a_trace": by_row.filter(pl.col("traces") == 0).height,
        "seconds": seconds,
        "prompts": counted,
        "llm": asdict(engines.usage),
        "engine": engines.used,
    }
    keys = by_trace.select("method", "sample_id", "trace", "input_hash", "run_id", "created_at")
    return Made(files, shown, keys, content_version(files))


def _told(run: StageRun) -> pl.DataFrame:
    """The methods that are told another's answer."""
    names = [method.name for method in reasoned_methods(run.settings) if method.told]
    return pl.DataFrame({"method": names}, schema={"method": pl.String})


def reasoning_prompts(run: StageRun) -> pl.DataFrame:
    """The prompts of all ways to ask the reasoner, in the columns of REASONING_PROMPTS, by sample within a way."""
    made = [_prompts_of(run, method) for method in reasoned_methods(run.settings)]
    return pl.concat([pl.DataFrame(schema=tables.REASONING_PROMPTS.columns), *made])


def _prompts_of(run: StageRun, method: ReasonedMethod) -> pl.DataFrame:
    rows = run.read(tables.prompts_table("evaluation")).filter(method.asked.rows).sort("sample_id")
    told = [""] * rows.height
    if method.told:
        known = run.read(tables.predictions_table(method.told)).select("sample_id", "p_yes")
        p_yes = rows.select("sample_id").join(known, on="sample_id", how="left", maintain_order="left")["p_yes"]
        told = ["" if p is None else opinion(p, run.spec) for p in p_yes.to_list()]
        if lacking := p_yes.null_count():
            run.log(f"{method.name}: {lacking:,} of {rows.height:,} rows are told nothing, {method.told} lacks them")
    form, instruction = method.asked.answer_form, run.settings.reasoning.instruction
    texts = [
        reasoning_prompt(text, form, run.spec, instruction, words)
        for text, words in zip(rows["prompt"].to_list(), told, strict=True)
    ]
    return rows.select(
        "sample_id",
        "split",
        "label",
        pl.lit(method.name).alias("method"),
        pl.lit(form).alias("answer_form"),
        pl.col("prompt").alias("plain"),
        pl.Series("prompt", texts, dtype=pl.String),
        pl.Series("told", told, dtype=pl.String),
    )


def guide(settings: Settings) -> str | None:
    """The first method with an adapter, else the first of the LLM: where tokens are bounded its doubt comes first."""
    asked = sorted(methods(settings), key=lambda method: method.adapter is None)
    return asked[0].name if asked else None


def _ranks(run: StageRun, prompts: pl.DataFrame) -> Sequence[int]:
    """Where tokens are bounded, validation rows come first and then those that the guide is least sure of."""
    first = guide(run.settings)
    if not run.settings.reasoning.max_tokens or first is None:
        return [0] * prompts.height
    known = run.read(tables.predictions_table(first)).select("sample_id", "p_yes")
    rows = prompts.select("sample_id", "split").join(known, on="sample_id", how="left", maintain_order="left")
    doubt = pl.when(pl.col("split") == "valid").then(-1.0).otherwise((pl.col("p_yes") - 0.5).abs())
    return rows.select(doubt.rank("dense").cast(pl.Int64)).to_series().to_list()


def _tell_cost(run: StageRun, wanted: Sequence[Wanted], store: TraceStore) -> int:
    """Log what is to be written before it starts; returns how many responses are missing."""
    settings, keys = run.settings.reasoning, trace_keys(wanted, run.settings.reasoning, store)
    known = store.memo.find(keys)
    missing, spent = len(set(keys)) - known.height, sum(known["tokens"].to_list())
    bound = missing * settings.max_new_tokens
    if settings.max_tokens:
        bound = min(bound, max(0, settings.max_tokens - spent))
    speed = (run.previous.metadata.get("tokens_per_second") if run.previous else None) or DEFAULT_TOKENS_PER_SECOND
    told = f"at most {bound:,} new tokens, about {max(1, round(bound / speed / 60)):,} minutes at {speed:g} tokens/s"
    run.log(f"reasoning: {missing:,} of {len(set(keys)):,} responses are missing" + (f": {told}" if bound else ""))
    return missing


def _taken_apart(rows: pl.DataFrame, run: StageRun) -> pl.DataFrame:
    """Thought, answer and mark of each response."""
    answers = {form: answer_texts(form, run.spec) for form in ("yes_no", "rating")}
    thinks = opens_thought(model_folder(run.lake, run.settings.model))
    parts = [
        read_response(text, bool(ended), form, answers[form], thinks)
        for text, ended, form in rows.select("text", "ended", "answer_form").rows()
    ]
    columns = {name: [getattr(part, name) for part in parts] for name in ("thought", "answer", "mark")}
    made = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
    return rows.hstack(made).rename({"key": "input_hash"})


def _with_thoughts(prompts: pl.DataFrame, traces: pl.DataFrame, method: str) -> pl.DataFrame:
    """A row for each response of a method and one for each sample without a thought."""
    own = prompts.filter(pl.col("method") == method)
    thoughts = traces.filter(pl.col("method") == method).select(
        "sample_id", "trace", "thought", "answer", "tokens", "seconds"
    )
    return pl.concat([own, own.join(thoughts, on="sample_id", how="inner", maintain_order="left")], how="diagonal")


def _with_probability(rows: pl.DataFrame, found: pl.DataFrame, form: AnswerForm, run: StageRun) -> pl.DataFrame:
    """`p_raw` of each row, and `p_yes` through Platt scaling by validation rows; rows with a thought have their own."""
    said = found["probabilities"].list.to_array(len(answer_texts(form, run.spec))).to_numpy()
    raw = liking_probability(said.reshape(rows.height, -1), form, run.spec).clip(0, 1)
    calibrated = raw.copy()
    if run.settings.scoring.calibration == "platt":
        for thought in (True, False):
            kind = rows["trace"].is_not_null().to_numpy() == thought
            valid = kind & (rows["split"] == "valid").to_numpy()
            scaling = fit_platt(raw[valid], rows["label"].to_numpy()[valid]) if valid.any() else Platt()
            calibrated[kind] = scaling.apply(raw[kind])
    return rows.with_columns(
        pl.Series("p_raw", raw),
        pl.Series("p_yes", calibrated),
        found["key"].alias("input_hash"),
        found["run_id"],
        found["created_at"],
    )


def _by_row(read: pl.DataFrame) -> pl.DataFrame:
    """The samples of one method in the columns of REASONED_ROWS."""
    plain_rows, thoughts = (read.filter(wanted).sort("sample_id") for wanted in (_IS_PLAIN, ~_IS_PLAIN))
    ids = plain_rows["sample_id"].to_numpy()
    places = np.searchsorted(ids, thoughts["sample_id"].to_numpy()).astype(np.int64)
    calibrated, raw = (
        over_traces(places, thoughts[column].to_numpy(), plain_rows[column].to_numpy()) for column in ("p_yes", "p_raw")
    )
    # A calibration with a flat slope would make a model that knows nothing look steady: the variance is that of raw P.
    counted = thoughts.group_by("sample_id").agg(
        pl.len().cast(pl.Int32).alias("traces"),
        (pl.col("answer") == "").sum().cast(pl.Int32).alias("unanswered"),
        pl.col("tokens").mean().alias("tokens"),
        pl.col("seconds").mean().alias("seconds"),
    )
    rows = plain_rows.select(
        *_ROW,
        pl.Series("p_raw", raw.p_yes),
        pl.Series("p_yes", calibrated.p_yes),
        pl.Series("variance", np.where(np.isfinite(raw.variance), raw.variance, np.nan)).fill_nan(None),
    ).join(counted, on="sample_id", how="left", maintain_order="left")
    filled = rows.with_columns(pl.col("traces", "unanswered").fill_null(0))
    return filled.select(pl.col(name).cast(kind) for name, kind in tables.REASONED_ROWS.columns.items())


_IS_PLAIN = pl.col("trace").is_null()


def _write_predictions(rows: pl.DataFrame, run: StageRun) -> Path:
    table = tables.predictions_table(rows["method"][0])
    said = pl.concat_list("p_raw", 1 - pl.col("p_raw")).cast(pl.List(pl.Float32)).alias("probabilities")
    return write_table(rows.select("sample_id", "split", "label", "p_yes", said), table, run.out, run.dataset)


def _share(rows: pl.DataFrame, of: pl.Expr) -> float | None:
    return float(rows.select(of.mean()).item()) if rows.height else None


def _examples(traces: pl.DataFrame) -> str:
    """A response of each mark, as Markdown."""
    first = traces.unique("mark", keep="first", maintain_order=True)
    lines = [
        f"**{plain(mark or 'whole')}** ({plain(method)}, answer {plain(answer or 'none')}): {plain(thought[:600])}"
        for mark, method, answer, thought in first.select("mark", "method", "answer", "thought").rows()
    ]
    return "\n\n".join(lines)
