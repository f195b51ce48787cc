"""What used the item: histories, tuning prompts, adapters, predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.inference.methods import methods, needs_of, tuning_asked
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.files import read_json
from rallrec_pipeline.pipeline.lineage.item import counts
from rallrec_pipeline.pipeline.lineage.model import Adapter, Histories, Predictions, Uses
from rallrec_pipeline.pipeline.lineage.recommended import recommended_to
from rallrec_pipeline.pipeline.lineage.state import ON_REQUEST_PREDICTORS, PREDICTORS, LakeState, gone
from rallrec_pipeline.pipeline.reporting.scored import made_by
from rallrec_pipeline.prompts.build import HISTORY_COLUMN
from rallrec_pipeline.tuning.lora import PROVENANCE

TARGET = "target"


def uses_of(state: LakeState, item_id: str) -> Uses:
    """Samples, prompts, adapters and predictions with the item as target or in the history that was shown."""
    samples, notes = _samples(state, item_id), list[str]()
    if samples is None:
        notes += gone(state, "retrieved_histories", "histories")
    tuned = None if samples is None else _tuning_prompts(state, samples)
    if tuned is None:
        notes += gone(state, "tuning_prompts", "tuning prompts") if samples is not None else []
    predictions = []
    for stage in (*PREDICTORS, *ON_REQUEST_PREDICTORS):
        if samples is not None and state.is_stored(stage):
            predictions += _predictions(state, stage, samples)
        else:
            notes += gone(state, stage, f"{stage.replace('_', ' ')} with the item")
    return Uses(
        histories=None if samples is None else _histories(samples),
        tuning_prompts=None if tuned is None else _roles(tuned),
        adapters=_adapters(state, tuned),
        predictions=predictions,
        recommended=recommended_to(state, item_id),
        notes=notes,
    )


def _samples(state: LakeState, item_id: str) -> pl.DataFrame | None:
    """`sample_id`, `split`, `retriever` and, as flags, `target` and each prompt form, of rows that have the item."""
    shows = [pl.col(column).list.contains(item_id).alias(form) for form, column in HISTORY_COLUMN.items()]
    columns = ["sample_id", "retriever", "split", "item_id", *HISTORY_COLUMN.values()]
    wanted = pl.any_horizontal(pl.col("item_id") == item_id, *shows)
    rows = state.read("retrieved_histories", tables.RETRIEVED_HISTORIES, wanted, columns=columns)
    if rows is None:
        return None
    return rows.select("sample_id", "retriever", "split", (pl.col("item_id") == item_id).alias(TARGET), *shows)


def _histories(rows: pl.DataFrame) -> Histories:
    """Over all retrievers: a sample counts once."""
    flags = [TARGET, *HISTORY_COLUMN]
    samples = rows.group_by("sample_id", "split", maintain_order=True).agg(pl.col(flags).any())
    shown = {str(form): counts(samples.filter(pl.col(form))["split"]) for form in HISTORY_COLUMN}
    return Histories(counts(samples.filter(pl.col(TARGET))["split"]), shown)


def _tuning_prompts(state: LakeState, samples: pl.DataFrame) -> pl.DataFrame | None:
    """Tuning prompts that name the item: `prompt_form`, `target` and `shown`."""
    asked = pl.col("sample_id").is_in(samples["sample_id"].implode())
    prompts = state.read(
        "tuning_prompts", tables.prompts_table("tuning"), asked, columns=["sample_id", "retriever", "prompt_form"]
    )
    if prompts is None:
        return None
    in_form = [(pl.col("prompt_form") == form) & pl.col(form) for form in HISTORY_COLUMN]
    joined = prompts.join(samples, on=["sample_id", "retriever"]).with_columns(
        pl.any_horizontal(in_form).alias("shown")
    )
    return joined.filter(pl.col(TARGET) | pl.col("shown")).select("prompt_form", TARGET, "shown")


def _roles(prompts: pl.DataFrame) -> dict[str, int]:
    """How many prompts name the item, as target, and in the history."""
    return {
        "all": prompts.height,
        "as_target": prompts.filter(pl.col(TARGET)).height,
        "in_history": prompts.filter(pl.col("shown")).height,
    }


def _adapters(state: LakeState, tuned: pl.DataFrame | None) -> list[Adapter]:
    record = state.record("lora_adapter")
    if record is None:
        return []
    folders = {path.name: path for path in record.paths(state.run.lake)}
    return [
        _adapter(state, name, record.metadata.get(name) or {}, folder if folder.exists() else None, tuned)
        for name, folder in folders.items()
    ]


def _adapter(
    state: LakeState, name: str, recorded: dict[str, Any], folder: Path | None, tuned: pl.DataFrame | None
) -> Adapter:
    """From the file beside the weights; of an adapter that is not stored any more, what its record tells."""
    told = _json(folder / PROVENANCE) if folder else {}
    tuning: dict[str, Any] = told.get("tuning") or recorded
    best = tuning.get("best_epoch")
    auc = next((epoch["validation_auc"] for epoch in tuning.get("epochs", []) if epoch["epoch"] == best), None)
    own = tuning_asked(name, state.run.settings) if name in state.run.settings.adapters else ()
    forms = told.get("prompt_forms") or [asked.prompt_form for asked in own]
    roles = {} if tuned is None else _roles(tuned.filter(pl.col("prompt_form").is_in(forms)))
    return Adapter(
        name=name,
        run_id=told.get("run_id"),
        created_at=told.get("created_at"),
        base_model=told.get("base_model"),
        prompt_forms=forms,
        best_epoch=best,
        validation_auc=auc,
        stored_in=None if folder is None else "checkpoints",
        prompts=roles.get("all"),
        prompts_as_target=roles.get("as_target"),
        prompts_in_history=roles.get("in_history"),
    )


def _predictions(state: LakeState, stage: str, samples: pl.DataFrame) -> list[Predictions]:
    record = state.record(stage)
    known = {method.name: method for method in methods(state.run.settings)}
    found = []
    for file in (Path(name) for name in (record.outputs if record else []) if name.endswith(".parquet")):
        name, method = file.parent.name, known.get(file.parent.name)
        about = pl.col("sample_id").is_in(samples["sample_id"].implode())
        scored = state.read(stage, tables.predictions_table(name), about, columns=["sample_id", "split", "p_yes"])
        if scored is None or record is None:
            continue
        own = samples.filter(pl.col("retriever") == method.retriever) if method else samples.unique("sample_id")
        rows = scored.drop("split").join(own, on="sample_id")
        targets = rows.filter(pl.col(TARGET))
        told = _json((state.run.lake / file).with_suffix(".json"))
        found.append(
            Predictions(
                method=name,
                stage=stage,
                prompt_form=method.prompt_form if method else None,
                adapter=method.adapter if method else None,
                run_id=told.get("run_id", record.run_id),
                created_at=told.get("created_at", record.created_at),
                targets=counts(targets["split"]),
                mean_p_yes=_means(targets),
                in_history=counts(rows.filter(pl.col(method.prompt_form))["split"]) if method else None,
                made_of=_made_of(state, name),
            )
        )
    return found


def _made_of(state: LakeState, name: str) -> dict[str, str]:
    """What stands behind a merged or told answer: each method with the stage that made it and its fingerprint."""
    settings, found = state.run.settings, dict[str, str]()
    for other in needs_of(name, settings):
        stage = made_by(other, settings)
        record = state.record(stage)
        behind = f"{stage} {record.fingerprint}" if record else stage
        adapter = settings.methods[other].adapter if other in settings.methods else None
        found[other] = behind + (f", adapter {adapter}" if adapter else "")
    if name in settings.reasoned and (traces := state.record("reasoning_traces")) is not None:
        found["responses"] = f"reasoning_traces {traces.fingerprint}"
    return found


def _means(targets: pl.DataFrame) -> dict[str, float]:
    """Mean P(yes) by split."""
    means = dict(targets.group_by("split").agg(pl.col("p_yes").mean()).iter_rows())
    return {split: means[split] for split in counts(targets["split"])}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path) if path.exists() else {}
    except DataError:
        return {}
    return found if isinstance(found, dict) else {}
