"""Group `retrieval`: the FAISS index over items and the histories that prompts will show."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from rallrec_pipeline.lake import tables
from rallrec_pipeline.pipeline.context import Made, Markdown, StageRun
from rallrec_pipeline.pipeline.markdown import code
from rallrec_pipeline.pipeline.stages.embeddings import read_sequences, read_vectors, validation_rows
from rallrec_pipeline.prompts.sampling import choose_samples
from rallrec_pipeline.retrieval.histories import retrieve_histories
from rallrec_pipeline.retrieval.index import nearest_items, write_index
from rallrec_pipeline.retrieval.index_update import refresh_index
from rallrec_pipeline.retrieval.inverted_lists import has_lists
from rallrec_pipeline.retrieval.neighbours import search_alpha

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
    settings, sequences, vectors = run.settings.retrieval, read_sequences(run), read_vectors(run, "item")
    tried: list[dict[str, float]] = []
    alpha = settings.alpha
    if alpha is None:
        rows = validation_rows(run, sequences)
        alpha, tried = search_alpha(sequences, rows, vectors, settings.history_length, settings.beta)
    chosen = choose_samples(run.read(tables.SAMPLES), run.settings.prompts, run.seeds, run.spec.protocol)
    frame = retrieve_histories(chosen, sequences, vectors, settings, alpha)
    return run.write(
        frame,
        tables.RETRIEVED_HISTORIES,
        alpha=alpha,
        alpha_search=tried,
        splits=dict(frame["split"].value_counts().iter_rows()),
    )
