"""Group `model`: LoRA adapters, predictions of the LLM methods and of the common-sense baselines."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import polars as pl

from rallrec_pipeline.baselines.common_sense import predict_common_sense
from rallrec_pipeline.datasets.statistics import rating_statistics
from rallrec_pipeline.evaluation.calibration import fit_platt
from rallrec_pipeline.evaluation.metrics import evaluate
from rallrec_pipeline.inference.methods import ADAPTERS, Method, methods, tuning_forms
from rallrec_pipeline.inference.score import score_prompts
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.files import read_json, write_json
from rallrec_pipeline.lake.parquet import write_table
from rallrec_pipeline.lake.provenance import content_version, now, stable_hash
from rallrec_pipeline.orchestration.assets.engine import OneEngine, load_engine, model_version
from rallrec_pipeline.orchestration.run import Made, StageRun
from rallrec_pipeline.prompts.render import answer_texts
from rallrec_pipeline.settings import PromptForm
from rallrec_pipeline.tuning.examples import make_examples
from rallrec_pipeline.tuning.lora import add_adapter, save_adapter

# Raise one when its computing changes its output, together with the stage's own code version in graph.py.
TUNING_VERSION, SCORING_VERSION = "1", "1"


def lora_adapter(run: StageRun) -> Made:
    """One adapter per tuned method; after an interruption the finished one is kept."""
    histories = {adapter: _tune_adapter(run, adapter) for adapter in ADAPTERS}
    return Made([checkpoint(run, adapter) for adapter in ADAPTERS], histories)


def predictions(run: StageRun) -> Made:
    """P(yes) of every LLM method; after an interruption the finished methods are kept."""
    seconds: dict[str, float] = {}
    files: list[Path] = []
    engines = OneEngine(run)
    for method in methods(run.settings):
        record = _predict(run, method, engines)
        seconds[method.name] = record["seconds"]
        files += [tables.predictions_table(method.name).file(run.lake, run.dataset)]
    return Made(files, {"seconds": seconds, "prompts": _speeds(run)})


def baseline_predictions(run: StageRun) -> Made:
    """Item mean, user mean, recent mean, logistic regression and boosted trees on the same rows."""
    samples = run.read(tables.SAMPLES)
    statistics = rating_statistics(run.read(tables.CORE_INTERACTIONS), samples)
    start = time.perf_counter()
    scores = predict_common_sense(statistics, samples, run.spec.label.like_above, run.seed)
    asked = run.read(tables.RETRIEVED_HISTORIES).filter(pl.col("split") == "test").select("sample_id")
    seconds = round(time.perf_counter() - start, 2)
    files = []
    for name, p_yes in scores.items():
        frame = samples.select("sample_id", "split", "label").with_columns(
            pl.Series("p_yes", p_yes, dtype=pl.Float64), pl.lit(None, pl.List(pl.Float32)).alias("probabilities")
        )
        rows = frame.join(asked, on="sample_id", how="semi")
        files.append(write_table(rows, tables.predictions_table(name), run.lake, run.dataset))
    return Made(files, {"seconds": dict.fromkeys(scores, seconds), "rows": asked.height})


def checkpoint(run: StageRun, adapter: str) -> Path:
    """Folder of one adapter."""
    return run.lake / "checkpoints" / run.dataset / adapter


def validation_form(adapter: str) -> PromptForm:
    """Prompt form that an adapter is validated and used with."""
    return "recent" if adapter == "recent" else "reranked"


def _tune_adapter(run: StageRun, adapter: str) -> dict[str, Any]:
    """Tune one adapter unless its stored provenance says that nothing has changed; returns the epochs."""
    from rallrec_pipeline.tuning.train import tune  # torch is loaded only where there is work

    form = run.settings.prompts.answer_form
    rows = _augmented(run, adapter)
    valid = _evaluation_rows(run, validation_form(adapter), form).filter(pl.col("split") == "valid")
    base = model_version(run)
    inputs = [_content(rows), _content(valid), run.spec.label, base]
    key = stable_hash(TUNING_VERSION, adapter, form, run.settings.tuning, run.seed, *inputs)
    folder = checkpoint(run, adapter)
    if _key_of(folder / "provenance.json") == key:
        return dict(read_json(folder / "provenance.json")["tuning"])
    engine = load_engine(run)
    answers, chat = answer_texts(form, run.spec), form == "yes_no"
    trie = engine.trie(answers)
    examples = make_examples(engine, trie, answers, rows, chat, run.settings.tuning)
    add_adapter(engine, run.settings.tuning, run.seed)

    def validation_auc() -> float:
        scored = score_prompts(engine, valid, form, run.spec)
        return evaluate(scored["label"], scored["p_yes"]).auc

    result = tune(
        engine, examples, trie, validation_auc, run.settings.tuning, run.seed, run.progress(f"tuning {adapter}")
    )
    record = result.as_dict() | {"examples": len(examples), "tokens_per_second": result.tokens_per_second}
    provenance = {
        "key": key,
        "adapter": adapter,
        "answer_form": form,
        "prompt_forms": list(tuning_forms(adapter, run.settings)),
        "base_model": {"name": run.settings.model.name, "fingerprint": base},
        "tuning_settings": run.settings.tuning.model_dump(mode="json"),
        "seed": run.seed,
        "run_id": run.run_id,
        "created_at": now(),
        "tuning": record,
    }
    save_adapter(engine, folder, provenance)
    return record


def _augmented(run: StageRun, adapter: str) -> pl.DataFrame:
    """The tuning prompts of an adapter: each training sample once in each of its prompt forms."""
    prompts = run.read(tables.prompts_table("tuning"))
    return prompts.filter(pl.col("prompt_form").is_in(tuning_forms(adapter, run.settings)))


def _evaluation_rows(run: StageRun, prompt_form: PromptForm, answer_form: str) -> pl.DataFrame:
    prompts = run.read(tables.prompts_table("evaluation"))
    return prompts.filter((pl.col("prompt_form") == prompt_form) & (pl.col("answer_form") == answer_form))


def _predict(run: StageRun, method: Method, engines: OneEngine) -> dict[str, Any]:
    """Score one method unless its record says that nothing has changed.

    Only tuned methods score validation rows, for the calibration: a zero-shot method is fitted to nothing.
    """
    rows = _evaluation_rows(run, method.prompt_form, method.answer_form)
    if method.adapter is None:
        rows = rows.filter(pl.col("split") == "test")
    adapter = checkpoint(run, method.adapter) if method.adapter else None
    table = tables.predictions_table(method.name)
    base = model_version(run)
    weights = content_version([adapter]) if adapter else ""
    inputs = [_content(rows), run.spec.label, base, weights, run.settings.scoring.calibration]
    key = stable_hash(SCORING_VERSION, method.name, method.answer_form, *inputs)
    record_path = table.file(run.lake, run.dataset).with_suffix(".json")
    if _key_of(record_path) == key and table.file(run.lake, run.dataset).exists():
        return dict(read_json(record_path))
    record_path.unlink(missing_ok=True)  # it must never vouch for another table
    engine = engines.of(adapter)
    start = time.perf_counter()
    scored = score_prompts(engine, rows, method.answer_form, run.spec, run.progress(f"scoring {method.name}"))
    seconds = time.perf_counter() - start
    if method.adapter and run.settings.scoring.calibration == "platt":
        scored = _calibrated(scored)
    write_table(scored, table, run.lake, run.dataset)
    tokens = sum(len(engine.prompt_tokens(p, method.answer_form == "yes_no")) for p in rows["prompt"])
    record = {
        "key": key,
        "method": method.name,
        "seconds": round(seconds, 2),
        "prompts": rows.height,
        "tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 1),
        "adapter_version": weights,
        "model_fingerprint": base,
        "run_id": run.run_id,
        "created_at": now(),
    }
    write_json(record_path, record)
    return record


def _calibrated(scored: pl.DataFrame) -> pl.DataFrame:
    """P(yes) through Platt scaling fitted on the validation rows."""
    valid = scored.filter(pl.col("split") == "valid")
    scaling = fit_platt(valid["p_yes"].to_numpy(), valid["label"].to_numpy())
    return scored.with_columns(pl.Series("p_yes", scaling.apply(scored["p_yes"].to_numpy()), dtype=pl.Float64))


def _speeds(run: StageRun) -> dict[str, Any]:
    """Prompts, tokens and tokens/s of each method, from the records beside the predictions."""
    records = {}
    for method in methods(run.settings):
        record = read_json(tables.predictions_table(method.name).file(run.lake, run.dataset).with_suffix(".json"))
        records[method.name] = {k: record[k] for k in ("prompts", "tokens", "tokens_per_second")}
    return records


def _content(prompts: pl.DataFrame) -> list[list[Any]]:
    """All that tuning and scoring read of a prompts table."""
    columns = ("sample_id", "split", "label", "prompt", "answer")
    return [prompts[column].to_list() for column in columns]


def _key_of(path: Path) -> str | None:
    return str(read_json(path).get("key")) if path.exists() else None
