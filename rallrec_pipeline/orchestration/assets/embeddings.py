"""Group `embeddings`: text, collaborative and aligned item vectors, and their mixture."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.histories import training_interactions, without_tuning_targets
from rallrec_pipeline.datasets.sequences import UserSequences
from rallrec_pipeline.descriptions import template_text
from rallrec_pipeline.embeddings.alignment import train_projector
from rallrec_pipeline.embeddings.lightgcn import train_lightgcn
from rallrec_pipeline.embeddings.mixture import mix
from rallrec_pipeline.embeddings.text import embed_texts, embeddings_frame, text_vectors, vectors_of
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.parquet import write_table
from rallrec_pipeline.orchestration.assets.engine import load_engine, model_version
from rallrec_pipeline.orchestration.run import Made, StageRun
from rallrec_pipeline.prompts.sampling import choose_samples
from rallrec_pipeline.retrieval.neighbours import MixtureChoice, Rows, search_mixture
from rallrec_pipeline.settings import CollaborativeSettings, RelevanceKind


def title_embeddings(run: StageRun) -> Made:
    items = run.read(tables.CORE_ITEMS)
    return _encode(run, "title", items, [template_text(row, run.spec) for row in items.iter_rows(named=True)])


def description_embeddings(run: StageRun) -> Made:
    items, written = run.read(tables.CORE_ITEMS), run.read(tables.ITEM_DESCRIPTIONS)
    texts = items.select("item_id").join(written, on="item_id", maintain_order="left")["description"]
    return _encode(run, "description", items, texts.to_list())


def text_embeddings(run: StageRun) -> Made:
    title, description = read_vectors(run, "title"), read_vectors(run, "description")
    return _write(run, "text", text_vectors(title, description, run.settings.text, run.seed))


def collaborative_embeddings(run: StageRun) -> Made:
    core, item_ids = run.read(tables.CORE_INTERACTIONS), run.read(tables.CORE_ITEMS)["item_id"]
    samples = run.read(tables.SAMPLES)
    tuning = choose_samples(samples, run.settings.prompts, run.seed, run.spec.protocol).filter(
        pl.col("split") == "train"
    )
    training = without_tuning_targets(training_interactions(core, samples), tuning)
    sequences = UserSequences.from_interactions(core, item_ids.to_list())
    start, report = time.perf_counter(), run.progress("LightGCN epochs")
    result = train_lightgcn(
        sequences.user_codes(training["user_id"]),
        sequences.item_codes(training["item_id"]),
        training["rating"].to_numpy().astype(np.float32),
        len(sequences.user_ids),
        len(item_ids),
        _graph_settings(run),
        run.seed,
        lambda done, total, _: report(done, total),
    )
    fitted = write_table(training.drop("rating"), tables.FITTED_INTERACTIONS, run.lake, run.dataset)
    made = _write(
        run,
        "collaborative",
        result.item_vectors,
        training_interactions=training.height,
        epochs=len(result.losses),
        held_out_metric=result.metric,
        held_out_scores=[round(float(value), 4) for value in result.scores],
        best_epoch=result.best_epoch,
        seconds_per_epoch=round((time.perf_counter() - start) / max(1, len(result.losses)), 3),
    )
    return Made([*made.files, fitted], made.metadata)


def aligned_embeddings(run: StageRun) -> Made:
    result = train_projector(
        read_vectors(run, "text"), read_vectors(run, "collaborative"), run.settings.alignment, run.seed
    )
    losses = [float(loss) for loss in result.losses]
    return _write(run, "aligned", result.vectors, loss_first=losses[0], loss_last=losses[-1])


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
    """The vectors of one kind, rows in the order of `core_items`."""
    return vectors_of(run.read(tables.embeddings_table(kind)))


def validation_rows(run: StageRun, sequences: UserSequences) -> Rows:
    """All validation samples, as `retrieval/neighbours.py` wants them."""
    valid = run.read(tables.SAMPLES).filter(pl.col("split") == "valid")
    return Rows(
        sequences.user_codes(valid["user_id"]),
        valid["history_length"].to_numpy().astype(np.int32),
        sequences.item_codes(valid["item_id"]),
        valid["label"].to_numpy(),
    )


def _searched(run: StageRun, parts: dict[RelevanceKind, NDArray[np.float32]]) -> MixtureChoice:
    sequences = read_sequences(run)
    return search_mixture(sequences, validation_rows(run, sequences), parts, run.settings.retrieval.history_length)


def read_sequences(run: StageRun) -> UserSequences:
    """All core interactions by user."""
    item_ids = run.read(tables.CORE_ITEMS)["item_id"].to_list()
    return UserSequences.from_interactions(run.read(tables.CORE_INTERACTIONS), item_ids)


def _encode(run: StageRun, kind: str, items: pl.DataFrame, texts: Sequence[str]) -> Made:
    table = tables.embeddings_table(kind)
    previous = run.read(table) if table.file(run.lake, run.dataset).exists() else None
    fingerprint = model_version(run)
    start = time.perf_counter()
    engine = load_engine(run)
    frame, encoded = embed_texts(
        items["item_id"].to_list(), texts, engine, previous, fingerprint, run.run_id, run.progress(f"{kind} embeddings")
    )
    tokens = sum(len(engine.tokenize(text)) for text in texts) if encoded == len(texts) else 0
    speed = round(tokens / (time.perf_counter() - start), 1) if tokens else None
    return run.write(frame, table, encoded=encoded, reused=len(texts) - encoded, tokens_per_second=speed)


def _write(run: StageRun, kind: str, vectors: NDArray[np.float32], **metadata: object) -> Made:
    """Write vectors that are made from whole tables: all rows share the hash of everything that went in."""
    items = run.read(tables.CORE_ITEMS)
    frame = embeddings_frame(items["item_id"].to_list(), vectors, [run.fingerprint] * items.height, "1", "", run.run_id)
    return run.write(frame, tables.embeddings_table(kind), dimensions=vectors.shape[1], **metadata)
