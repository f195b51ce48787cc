"""Group `model`: LoRA adapters, predictions of the LLM methods and of the common-sense baselines."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from rallrec_pipeline.baselines.common_sense import predict_common_sense
from rallrec_pipeline.datasets.statistics import rating_statistics
from rallrec_pipeline.evaluation.measures.calibration import Platt, fit_platt
from rallrec_pipeline.evaluation.measures.metrics import evaluate
from rallrec_pipeline.inference.methods import Method, adapters, methods, tuning_asked, validation_method
from rallrec_pipeline.inference.score import ScoreStore, score_missing_prompts, score_prompts
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.files import write_json
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import SCORES
from rallrec_pipeline.lake.parquet import write_table
from rallrec_pipeline.lake.provenance import content_version, now, stable_hash
from rallrec_pipeline.lake.sealed import read_sealed
from rallrec_pipeline.lake.store import link_tree
from rallrec_pipeline.language_models.protocols import Usage
from rallrec_pipeline.pipeline.context import Made, StageRun
from rallrec_pipeline.pipeline.stages.engine import (
    OneEngine,
    load_tuning_engine,
    model_version,
    tuning_model_version,
)
from rallrec_pipeline.prompts.render import answer_texts, is_liked
from rallrec_pipeline.tuning.examples import make_examples
from rallrec_pipeline.tuning.lora import PROVENANCE, adapter_version, add_adapter, save_adapter
from rallrec_pipeline.tuning.store import CHECKPOINT, adapter_home, adapter_key

if TYPE_CHECKING:
    from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine

TUNING_VERSION = "3"  # raise it when the computing changes its output by more than rounding


def lora_adapter(run: StageRun) -> Made:
    """The adapters that methods use; after an interruption finished ones are kept, the next goes on where it was."""
    usage = Usage()
    tuned = {adapter: _tune_adapter(run, adapter, usage) for adapter in adapters(run.settings)}
    histories = {adapter: record for adapter, (record, _) in tuned.items()}
    folders = [checkpoint_folder(run.out, run.dataset, adapter) for adapter in tuned]
    for (_, home), folder in zip(tuned.values(), folders, strict=True):
        link_tree(home, folder)
    version = stable_hash({folder.name: adapter_version(folder) for folder in folders})
    return Made(folders, histories | {"llm": asdict(usage)}, version=version)


def predictions(run: StageRun) -> Made:
    """P(yes) of every LLM method; only rows that were never scored go to the LLM."""
    run.memo(SCORES)  # a damaged file is mended
    with OneEngine(run, "score") as engines:
        made = {method.name: _predict(run, method, engines) for method in methods(run.settings)}
    records = {name: record for name, (record, _) in made.items()}
    files = [tables.predictions_table(name).file(run.out, run.dataset) for name in records]
    version = content_version(files)
    files += [file.with_suffix(".json") for file in files]
    shown = ("prompts", "scored", "reused", "prompt_tokens", "tokens_per_second", "calibration")
    speeds = {name: {key: record[key] for key in shown} for name, record in records.items()}
    seconds = {name: record["seconds"] for name, record in records.items()}
    metadata = {"seconds": seconds, "prompts": speeds, "llm": asdict(engines.usage), "engine": engines.used}
    return Made(files, metadata, pl.concat(rows for _, rows in made.values()), version)


def baseline_predictions(run: StageRun) -> Made:
    """Item mean, user mean, recent mean, logistic regression and boosted trees on the same rows as the LLM methods."""
    samples = run.read(tables.SAMPLES)
    statistics = rating_statistics(run.read(tables.CORE_INTERACTIONS), samples)
    start = time.perf_counter()
    scores = predict_common_sense(statistics, samples, run.spec.label.like_above, run.seeds.fits)
    asked = run.read(tables.RETRIEVED_HISTORIES).filter(pl.col("split") != "train").select("sample_id").unique()
    seconds = round(time.perf_counter() - start, 2)
    files = []
    for name, p_yes in scores.items():
        frame = samples.select("sample_id", "split", "label").with_columns(
            pl.Series("p_yes", p_yes, dtype=pl.Float64), pl.lit(None, pl.List(pl.Float32)).alias("probabilities")
        )
        rows = frame.join(asked, on="sample_id", how="semi")
        files.append(write_table(rows, tables.predictions_table(name), run.out, run.dataset))
    training_rows = samples.filter(pl.col("split") == "train").height
    shown = {"seconds": dict.fromkeys(scores, seconds), "predicted": samples.height}
    shown |= {"rows": asked.height, "training_rows": training_rows}
    return Made(files, shown)


def checkpoint(run: StageRun, adapter: str) -> Path:
    """Folder of one adapter among the inputs."""
    return checkpoint_folder(run.folder("lora_adapter"), run.dataset, adapter)


def checkpoint_folder(root: Path, dataset: str, adapter: str) -> Path:
    """Folder of one adapter within a result, or in the lake."""
    return root / "checkpoints" / dataset / adapter


def _tune_adapter(run: StageRun, adapter: str, usage: Usage) -> tuple[dict[str, Any], Path]:
    """Tune one adapter unless one is stored that was tuned on the same; returns the epochs and its key, and where."""
    rows = tuning_rows(run, adapter)
    key = tuning_key(run, adapter, rows)
    home = adapter_home(run.lake, run.dataset, adapter, key)
    if adapter_key(home) != key:
        with closing(load_tuning_engine(run, usage)) as engine:  # which counts the validation rows
            _tune(run, adapter, engine, rows, key, home, usage)
    return dict(read_sealed(home / PROVENANCE)["tuning"]) | {"key": key}, home


def _tune(
    run: StageRun, adapter: str, engine: TransformersEngine, rows: pl.DataFrame, key: str, home: Path, usage: Usage
) -> None:
    """Tune an adapter on `rows` and save it in `home`."""
    from rallrec_pipeline.tuning.pairs import PairLoss  # torch is loaded only where there is work
    from rallrec_pipeline.tuning.train import tune

    form, valid = validation_method(adapter, run.settings).answer_form, _validation_rows(run, adapter)
    answers, chat = answer_texts(form, run.spec), form == "yes_no"
    trie, pair_weight = engine.trie(answers), run.settings.tuning.pair_weight
    pair_loss = PairLoss.of(trie, is_liked(form, run.spec), pair_weight) if pair_weight else None
    examples = make_examples(engine, trie, answers, rows, chat, run.settings.tuning)
    seed = _seed(run, adapter)
    add_adapter(engine, run.settings.tuning, seed)

    def validation_auc() -> float:
        scored = score_prompts(engine, valid, form, run.spec, run.progress(f"validating {adapter}"))
        return evaluate(scored["label"], scored["p_yes"]).auc

    result = tune(
        engine,
        examples,
        trie,
        validation_auc,
        run.settings.tuning,
        seed,
        run.progress(f"tuning {adapter}"),
        home / CHECKPOINT,  # the folder that the finished adapter replaces
        run.log,
        pair_loss,
    )
    usage.rows += result.examples_now
    usage.prompt_tokens += result.tokens_now
    record = result.as_dict() | {"examples": len(examples), "tokens_per_second": result.tokens_per_second}
    provenance = {
        "key": key,
        "adapter": adapter,
        "answer_form": form,
        "prompt_forms": [asked.prompt_form for asked in tuning_asked(adapter, run.settings)],
        "base_model": {"name": run.settings.model.name, "fingerprint": tuning_model_version(run)},
        "tuning_settings": run.settings.tuning.model_dump(mode="json"),
        "seed": seed,
        "run_id": run.run_id,
        "created_at": now(),
        "tuning": record,
    }
    save_adapter(engine, home, provenance)


def is_tuned(run: StageRun, adapter: str, rows: pl.DataFrame) -> bool:
    """Whether there is an adapter that was tuned on `rows` (`tuning_rows`) in the same way."""
    key = tuning_key(run, adapter, rows)
    return adapter_key(adapter_home(run.lake, run.dataset, adapter, key)) == key


def tuning_key(run: StageRun, adapter: str, rows: pl.DataFrame) -> str:
    """Hash of all that an adapter depends on; `rows` are its `tuning_rows`."""
    inputs = [_content(rows), _content(_validation_rows(run, adapter)), run.spec.label, tuning_model_version(run)]
    if run.settings.tuning.pair_weight:
        inputs.append(rows["user_id"].to_list())
    form = validation_method(adapter, run.settings).answer_form
    return stable_hash(TUNING_VERSION, adapter, form, run.settings.tuning.decisive(), _seed(run, adapter), *inputs)


def _seed(run: StageRun, adapter: str) -> int:
    """Where an adapter begins: its own seed, or that of all."""
    own = run.settings.adapters[adapter].seed
    return run.seeds.tuning if own is None else own


def tuning_rows(run: StageRun, adapter: str) -> pl.DataFrame:
    """The tuning prompts of an adapter: each training sample in each of its prompt forms, as often as it repeats."""
    own = pl.any_horizontal(asked.rows for asked in tuning_asked(adapter, run.settings))
    rows = run.read(tables.prompts_table("tuning")).filter(own)
    return pl.concat([rows] * run.settings.adapters[adapter].repeats)


def scored_rows(run: StageRun, method: Method) -> pl.DataFrame:
    """The evaluation prompts that a method scores: test rows, and validation rows for the calibration."""
    return run.read(tables.prompts_table("evaluation")).filter(method.asked.rows)


def _validation_rows(run: StageRun, adapter: str) -> pl.DataFrame:
    rows = scored_rows(run, validation_method(adapter, run.settings))
    return rows.filter(pl.col("split") == "valid")


def _predict(run: StageRun, method: Method, engines: OneEngine) -> tuple[dict[str, Any], pl.DataFrame]:
    """Score the rows of one method that were never scored, and write its table.

    Returns what that cost, and the provenance of each row.
    """
    rows, store = scored_rows(run, method), score_store(run, method)
    adapter = checkpoint(run, method.adapter) if method.adapter else None
    tokens_before = engines.usage.prompt_tokens
    result = score_missing_prompts(
        lambda: engines.of(adapter), rows, method.answer_form, run.spec, store, run.progress(f"scoring {method.name}")
    )
    scaling = _scaling(result.table) if run.settings.scoring.calibration == "platt" else None
    made = _calibrated(result.table, scaling) if scaling else result.table
    path = write_table(made, tables.predictions_table(method.name), run.out, run.dataset)
    tokens = engines.usage.prompt_tokens - tokens_before
    record = {
        "method": method.name,
        "prompts": rows.height,
        "scored": result.scored,
        "reused": rows.height - result.scored,
        "seconds": round(result.seconds, 2),
        "prompt_tokens": tokens,
        "tokens_per_second": round(tokens / result.seconds_now, 1) if result.scored else None,
        "calibration": [scaling.slope, scaling.intercept] if scaling else None,
        "adapter_version": store.adapter_version,
        "model_fingerprint": store.model_fingerprint,
        "run_id": run.run_id,
        "created_at": now(),
    }
    write_json(path.with_suffix(".json"), record)
    return record, result.rows.select(
        pl.lit(method.name).alias("method"),
        pl.lit(store.adapter_version).alias("adapter_version"),
        pl.lit(store.model_fingerprint).alias("model_fingerprint"),
        pl.all(),
    )


def score_store(run: StageRun, method: Method) -> ScoreStore:
    """Where the finished rows of a method are kept, and what they depend on; the method's adapter must be there."""
    version = model_version(run)
    return ScoreStore(
        Memo(run.lake, SCORES, run.log),
        stable_hash(version, "deterministic") if run.settings.model.deterministic else version,
        adapter_version(checkpoint(run, method.adapter)) if method.adapter else "",
        run.run_id,
        run.settings.scoring.flush_every,
    )


def _scaling(scored: pl.DataFrame) -> Platt:
    """Platt scaling fitted on the validation rows."""
    valid = scored.filter(pl.col("split") == "valid")
    return fit_platt(valid["p_yes"].to_numpy(), valid["label"].to_numpy())


def _calibrated(scored: pl.DataFrame, scaling: Platt) -> pl.DataFrame:
    return scored.with_columns(pl.Series("p_yes", scaling.apply(scored["p_yes"].to_numpy()), dtype=pl.Float64))


def _content(prompts: pl.DataFrame) -> list[list[Any]]:
    """All that tuning reads of a prompts table."""
    columns = ("sample_id", "split", "label", "prompt", "answer", "answer_offsets")
    return [prompts[column].to_list() for column in columns]
