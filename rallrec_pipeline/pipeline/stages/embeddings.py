"""Group `embeddings`: text, collaborative and aligned item vectors, and their mixture."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.histories import all_but_last, training_interactions, without_tuning_targets
from rallrec_pipeline.datasets.sequences import UserSequences
from rallrec_pipeline.descriptions import template_text
from rallrec_pipeline.embeddings.alignment import train_projector
from rallrec_pipeline.embeddings.lightgcn import Ratings, train_lightgcn
from rallrec_pipeline.embeddings.mixture import mix
from rallrec_pipeline.embeddings.text import embed_texts, embeddings_frame, text_vectors
from rallrec_pipeline.embeddings.weights import write_weights
from rallrec_pipeline.errors import StaleArtefactError
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.memo_rows import VECTORS
from rallrec_pipeline.lake.parquet import write_table
from rallrec_pipeline.lake.vectors import vectors_of
from rallrec_pipeline.pipeline.context import Made, Markdown, StageRun
from rallrec_pipeline.pipeline.stages.engine import OneEngine, model_version
from rallrec_pipeline.pipeline.stages.rows import (
    item_versions,
    provenance_table,
    rows_version,
    with_increment,
    with_sources,
)
from rallrec_pipeline.prompts.sampling import choose_samples
from rallrec_pipeline.retrieval.neighbours import MixtureChoice, Rows, search_mixture
from rallrec_pipeline.settings import CollaborativeSettings, RelevanceKind


def title_embeddings(run: StageRun) -> Made:
    items = run.read(tables.CORE_ITEMS)
    return _encode(run, "title", items, title_texts(run, items), core_items=item_versions(items))


def description_embeddings(run: StageRun) -> Made:
    items, written = run.read(tables.CORE_ITEMS), run.read(tables.ITEM_DESCRIPTIONS)
    # A description that was written anew in the same words is a new source of the same vector.
    sources = written.select("item_id", pl.col("input_hash").alias("version"))
    return _encode(run, "description", items, description_texts(items, written), item_descriptions=sources)


def title_texts(run: StageRun, items: pl.DataFrame) -> list[str]:
    """What the title embedding encodes of each item."""
    return [template_text(row, run.spec) for row in items.iter_rows(named=True)]


def description_texts(items: pl.DataFrame, written: pl.DataFrame) -> list[str]:
    """What the description embedding encodes of each item, from the table `item_descriptions`."""
    return items.select("item_id").join(written, on="item_id", maintain_order="left")["description"].to_list()


def text_embeddings(run: StageRun) -> Made:
    title, description = read_vectors(run, "title"), read_vectors(run, "description")
    return _write(run, "text", text_vectors(title, description, run.settings.text, run.seeds.fits))


def collaborative_embeddings(run: StageRun) -> Made:
    core, item_ids = run.read(tables.CORE_INTERACTIONS), run.read(tables.CORE_ITEMS)["item_id"]
    samples = run.read(tables.SAMPLES)
    tuning = choose_samples(samples, run.settings.prompts, run.seeds, run.spec.protocol).filter(
        pl.col("split") == "train"
    )
    if run.settings.collaborative.fit_on == "training":
        training = without_tuning_targets(training_interactions(core, samples), tuning)
    else:
        training = all_but_last(core)
        run.log("LightGCN is fitted on held-out ratings, too: collaborative.fit_on = all_but_last asks for the leak")
    sequences = UserSequences.from_interactions(core, item_ids.to_list())
    ratings = Ratings(
        sequences.user_codes(training["user_id"]),
        sequences.item_codes(training["item_id"]),
        training["rating"].to_numpy().astype(np.float32),
        sequences.user_ids,
        sequences.item_ids,
    )
    begun = time.perf_counter()
    result = train_lightgcn(ratings, _graph_settings(run), run.seeds.fits, run.progress("LightGCN epochs"))
    epochs = len(result.losses)
    metadata = {
        "epochs": epochs,
        "held_out_metric": result.metric,
        "held_out_scores": [round(score, 4) for score in result.scores],
        "best_epoch": result.best_epoch,
        "seconds_per_epoch": round((time.perf_counter() - begun) / epochs, 3),
    }
    fitted = write_table(training.drop("rating"), tables.FITTED_INTERACTIONS, run.out, run.dataset)
    weights = run.out / "embeddings" / "collaborative" / f"{run.dataset}.weights.safetensors"
    write_weights(weights, {"weights": result.weights})  # rows: users as they come in core_interactions, then items
    made = _write(run, "collaborative", result.item_vectors, training_interactions=training.height, **metadata)
    return replace(made, files=[*made.files, fitted, weights])


def aligned_embeddings(run: StageRun) -> Made:
    text, collaborative = read_vectors(run, "text"), read_vectors(run, "collaborative")
    result = train_projector(
        text, collaborative, run.settings.alignment, run.seeds.fits, run.progress("projector epochs")
    )
    metadata = {
        "epochs": len(result.losses),
        "loss_first": result.loss[0],
        "loss_last": result.loss[1],
        "accuracy_first": result.accuracy[0],
        "accuracy_last": result.accuracy[1],
    }
    weights = run.out / "embeddings" / "aligned" / f"{run.dataset}.projector.safetensors"
    write_weights(weights, result.tensors)
    made = _write(run, "aligned", result.vectors, **metadata)
    return replace(made, files=[*made.files, weights])


def item_embeddings(run: StageRun) -> Made:
    """Eq. 7; where asked for, the weights are those with the best neighbour AUC on validation samples."""
    kinds: tuple[RelevanceKind, ...] = ("text", "collaborative", "aligned")
    parts = {kind: read_vectors(run, kind) for kind in kinds}
    mixture = run.settings.mixture
    choice = _searched(run, parts)  # the report shows each kind alone, whether or not the choice is taken
    given: dict[RelevanceKind, float] = {kind: float(getattr(mixture, kind)) for kind in kinds}
    weights = choice.weights if mixture.search else given
    return _write(run, "item", mix(parts, weights), weights=weights, neighbour_auc=choice.tried)


def _graph_settings(run: StageRun) -> CollaborativeSettings:
    """Implicit feedback has no rating that edges could carry: its graph is binary."""
    settings = run.settings.collaborative
    return settings.model_copy(update={"graph": "binary"}) if run.spec.is_implicit else settings


def read_vectors(run: StageRun, kind: str) -> NDArray[np.float32]:
    """The vectors of one kind, rows in the order of `core_items`. Raises StaleArtefactError when one is missing."""
    item_ids = run.read(tables.CORE_ITEMS)["item_id"].to_list()
    table = run.read(tables.embeddings_table(kind))
    row_of = {item: row for row, item in enumerate(table["item_id"])}
    if missing := [item for item in item_ids if item not in row_of]:
        raise StaleArtefactError(
            f"{kind}_embeddings of {run.dataset!r} lack {len(missing)} items, first {missing[0]!r}: "
            f"run `rallrec run {run.dataset} --select {kind}_embeddings`"
        )
    return vectors_of(table)[[row_of[item] for item in item_ids]]


def rows_of_split(run: StageRun, sequences: UserSequences, split: str) -> Rows:
    """All samples of a split, as `retrieval/neighbours.py` wants them."""
    samples = run.read(tables.SAMPLES).filter(pl.col("split") == split)
    return Rows(
        sequences.user_codes(samples["user_id"]),
        samples["history_length"].to_numpy().astype(np.int32),
        sequences.item_codes(samples["item_id"]),
        samples["label"].to_numpy(),
    )


def _searched(run: StageRun, parts: dict[RelevanceKind, NDArray[np.float32]]) -> MixtureChoice:
    sequences = read_sequences(run)
    return search_mixture(
        sequences, rows_of_split(run, sequences, "valid"), parts, run.settings.retrieval.history_length
    )


def read_sequences(run: StageRun) -> UserSequences:
    """All core interactions by user."""
    item_ids = run.read(tables.CORE_ITEMS)["item_id"].to_list()
    return UserSequences.from_interactions(run.read(tables.CORE_INTERACTIONS), item_ids)


def _encode(run: StageRun, kind: str, items: pl.DataFrame, texts: Sequence[str], **sources: pl.DataFrame) -> Made:
    """Vectors of `texts` by the LLM; `sources` are the tables whose rows the texts were taken from."""
    start = time.perf_counter()
    with OneEngine(run, "encode") as engines:
        encoded = embed_texts(
            items["item_id"].to_list(),
            texts,
            engines.base,
            run.memo(VECTORS),
            model_version(run),
            run.run_id,
            run.progress(f"{kind} embeddings"),
        )
    seconds = time.perf_counter() - start
    speed = round(engines.usage.prompt_tokens / seconds, 1) if encoded.computed else None
    table = tables.embeddings_table(kind)
    made = run.write(encoded.table, table, tokens_per_second=speed, engine=engines.used)
    rows = with_sources(_narrow(encoded.table), **sources)
    return with_increment(run, made, rows, encoded.computed, engines.usage)


def _write(run: StageRun, kind: str, vectors: NDArray[np.float32], **metadata: object) -> Made:
    """Write vectors that are made from whole tables: all rows share the hash of everything that went in."""
    items = run.read(tables.CORE_ITEMS)
    frame = embeddings_frame(items["item_id"].to_list(), vectors, [run.fingerprint] * items.height, "1", "", run.run_id)
    made = run.write(frame, tables.embeddings_table(kind), dimensions=vectors.shape[1], **metadata)
    rows = _narrow(frame)
    shown = {**made.metadata, "provenance_table": Markdown(provenance_table(rows))}
    return Made(made.files, shown, rows, rows_version(rows))


def _narrow(table: pl.DataFrame) -> pl.DataFrame:
    """All but the vectors, of which the norms stay."""
    norms = np.linalg.norm(vectors_of(table).astype(np.float64), axis=1)
    return table.drop("vector").with_columns(pl.Series("norm", norms, dtype=pl.Float64))
