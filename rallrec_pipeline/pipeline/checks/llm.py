"""What must hold of prompts, adapters and predictions."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from rallrec_pipeline.inference.methods import adapters
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.files import read_json
from rallrec_pipeline.language_models.models import model_folder
from rallrec_pipeline.pipeline.checks.verdict import Verdict
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.stages.engine import tuning_model_version
from rallrec_pipeline.pipeline.stages.model import checkpoint


def prompts_fit_context(split: str) -> Callable[[StageRun], Verdict]:
    """Every prompt, in tokens of the base model, leaves room for the chat template and the answer."""

    def judge(run: StageRun) -> Verdict:
        from tokenizers import Tokenizer  # a second faster to load than transformers

        folder = model_folder(run.lake, run.settings.role("predictor"))
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        room = int(read_json(folder / "config.json")["max_position_embeddings"]) - 128
        prompts = run.read(tables.prompts_table(split))["prompt"].to_list()
        longest = max(map(len, tokenizer.encode_batch_fast(prompts)), default=0)
        return Verdict(longest <= room, {"longest": longest, "room": room, "prompts": len(prompts)})

    return judge


def tuning_rows_are_training_rows(run: StageRun) -> Verdict:
    """No tuning prompt asks about, or shows, a validation or test interaction."""
    prompts = run.read(tables.prompts_table("tuning"))
    splits = run.read(tables.SAMPLES).select("sample_id", "split")
    true_split = prompts.select("sample_id").join(splits, on="sample_id", how="left")["split"]
    histories = run.read(tables.RETRIEVED_HISTORIES).filter(pl.col("split") == "train")
    held_out = run.read(tables.SAMPLES).filter(pl.col("split") != "train").select("user_id", "item_id")
    shown = pl.concat(
        [
            histories.select("user_id", pl.col(column).alias("item_id")).explode("item_id").drop_nulls()
            for column in ("recent", "relevant", "reranked")
        ]
    )
    leaked = shown.join(held_out, on=["user_id", "item_id"], how="semi").height
    wrong = int(true_split.ne_missing("train").sum())  # a sample of no split is wrong too
    return Verdict(wrong == 0 and leaked == 0, {"wrong_split": wrong, "leaked_history_items": leaked})


def adapter_is_whole(run: StageRun) -> Verdict:
    """Each adapter has its weights as safetensors and a provenance that names the current base model."""
    validation_auc, bad = {}, []
    for adapter in adapters(run.settings):
        folder = checkpoint(run, adapter)
        provenance = read_json(folder / "provenance.json")
        validation_auc[adapter] = max(epoch["validation_auc"] for epoch in provenance["tuning"]["epochs"])
        current = provenance["base_model"]["fingerprint"] == tuning_model_version(run.in_role("predictor"))
        if not current or not (folder / "adapter_model.safetensors").exists():
            bad.append(adapter)
    return Verdict(not bad, {"validation_auc": validation_auc, "bad": bad})


def probabilities_valid(run: StageRun) -> Verdict:
    """All methods scored the same test rows, with finite probabilities."""
    histories = run.read(tables.RETRIEVED_HISTORIES).filter(pl.col("split") == "test")["sample_id"]
    wanted = histories.unique().sort().to_list()
    methods = list(run.given("predictions").metadata["seconds"])
    bad = []
    for method in methods:
        rows = run.read(tables.predictions_table(method)).filter(pl.col("split") == "test")
        inside = rows.filter(pl.col("p_yes").is_between(0, 1)).height == rows.height
        if rows["sample_id"].sort().to_list() != wanted or not inside:
            bad.append(method)
    return Verdict(not bad, {"methods": len(methods), "bad": bad, "rows": len(wanted)})


def experts_score_the_same_rows(run: StageRun) -> Verdict:
    """Every expert scored the validation and test rows that prompts are made of, with probabilities."""
    asked = run.read(tables.RETRIEVED_HISTORIES).filter(pl.col("split") != "train")
    wanted = asked.select("sample_id", "split", "label").unique().sort("sample_id")
    experts = list(run.given("expert_predictions").metadata["seconds"])
    bad = []
    for expert in experts:
        rows = run.read(tables.predictions_table(expert))
        inside = rows.filter(pl.col("p_yes").is_between(0, 1)).height == rows.height  # neither null nor NaN is
        if not inside or not rows.select(wanted.columns).sort("sample_id").equals(wanted):
            bad.append(expert)
    return Verdict(bool(experts) and not bad, {"experts": len(experts), "bad": bad, "rows": wanted.height})
