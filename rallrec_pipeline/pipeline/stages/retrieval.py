"""Group `retrieval`: the FAISS index over items and the histories that prompts will show."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import polars as pl

from rallrec_pipeline.datasets.histories import strictly_earlier
from rallrec_pipeline.datasets.sequences import UserSequences
from rallrec_pipeline.embeddings.mixture import mix
from rallrec_pipeline.inference.methods import retrievers
from rallrec_pipeline.lake import tables
from rallrec_pipeline.pipeline.context import Made, Markdown, StageRun
from rallrec_pipeline.pipeline.markdown import code
from rallrec_pipeline.pipeline.stages.embeddings import read_sequences, read_vectors, validation_rows
from rallrec_pipeline.prompts.sampling import choose_samples
from rallrec_pipeline.retrieval.histories import retrieve_histories
from rallrec_pipeline.retrieval.index import nearest_items, write_index
from rallrec_pipeline.retrieval.index_update import refresh_index
from rallrec_pipeline.retrieval.inverted_lists import has_lists
from rallrec_pipeline.retrieval.neighbours import Rows, search_alpha
from rallrec_pipeline.retrieval.rankings import Ranking, by_quota, by_softmax, by_vectors
from rallrec_pipeline.settings import RetrievalSettings, RetrieverSettings

EXAMPLES, NEIGHBOURS = 3, 5


def index_file(root: Path, dataset: str) -> Path:
    """The index within a result, or in the lake."""
    return root / "index" / f"{dataset}.faiss"


def item_index(run: StageRun) -> Made:
    vectors, items = read_vectors(run, "item"), run.read(tables.CORE_ITEMS)
    start = time.perf_counter()
    old = index_file(run.previous_folder, run.dataset) if run.previous_folder else None
    fresh = refresh_index(old, vectors, run.settings.index, run.seeds.fits)
    files = write_index(fresh.index, items["item_id"].to_list(), index_file(run.out, run.dataset))
    seconds = time.perf_counter() - start
    run.log(f"item_index: {fresh.work}: {fresh.why}")
    shown = np.random.default_rng(run.seeds.data).choice(items.height, min(EXAMPLES, items.height), replace=False)
    positions, scores = nearest_items(fresh.index, vectors[shown], NEIGHBOURS, exclude=shown)
    titles = items["title"].to_list()
    lines = [
        f"- {code(titles[i])}: "
        + ", ".join(f"{code(titles[p])} {s:.2f}" for p, s in zip(row, score, strict=True) if p >= 0)
        for i, row, score in zip(shown, positions, scores, strict=True)
    ]
    metadata = {
        "rows": items.height,
        "dimensions": vectors.shape[1],
        "index": "ivf" if has_lists(fresh.index) else "flat",
        "index_work": fresh.work,
        "index_why": fresh.why,
        "index_seconds": round(seconds, 3),
        "rows_added": fresh.added,
        "rows_removed": fresh.removed,
        "rows_reused": fresh.kept,
        "nearest": Markdown("\n".join(lines)),
    }
    return Made(files, metadata)


def retrieved_histories(run: StageRun) -> Made:
    """Of each chosen sample the histories of every retriever that a method or adapter uses."""
    sequences, core = read_sequences(run), run.read(tables.CORE_INTERACTIONS)
    chosen = choose_samples(run.read(tables.SAMPLES), run.settings.prompts, run.seeds, run.spec.protocol)
    rows = validation_rows(run, sequences)
    frames, alphas, searches = [], {}, {}
    for name, retriever in retrievers(run.settings).items():
        ranking, settings = _ranking(run, retriever), _retrieval(run, retriever)
        alphas[name], searches[name] = _alpha(sequences, rows, ranking, settings)
        asked = strictly_earlier(chosen, core) if retriever.strictly_earlier else chosen
        found = retrieve_histories(asked, sequences, ranking, settings, alphas[name])
        frames.append(found.with_columns(pl.lit(name).alias("retriever")))
    return run.write(
        pl.concat(frames),
        tables.RETRIEVED_HISTORIES,
        alpha=alphas,
        alpha_search=searches,
        splits=dict(chosen["split"].value_counts().iter_rows()),
    )


def _retrieval(run: StageRun, retriever: RetrieverSettings) -> RetrievalSettings:
    """The settings of retrieval with the retriever's own K."""
    settings = run.settings.retrieval
    return settings.model_copy(update={"history_length": retriever.k or settings.history_length})


def _ranking(run: StageRun, retriever: RetrieverSettings) -> Ranking:
    """By the mixture of eq. 7 with the retriever's own weights, or the variant's, or as the papers' baselines do."""
    parts = {kind: read_vectors(run, kind) for kind in retriever.parts}
    if retriever.combine == "quota":
        return by_quota(*parts.values())
    if retriever.combine == "softmax":
        return by_softmax([(vectors, retriever.parts[kind]) for kind, vectors in parts.items()])
    return by_vectors(mix(parts, retriever.parts) if parts else read_vectors(run, "item"))


def _alpha(
    sequences: UserSequences, rows: Rows, ranking: Ranking, settings: RetrievalSettings
) -> tuple[float, list[dict[str, float]]]:
    """The alpha of eq. 8 that the settings give, or the one found on validation rows, and every one that was tried."""
    if settings.alpha is not None:
        return settings.alpha, []
    return search_alpha(sequences, rows, ranking, settings.history_length, settings.beta)
