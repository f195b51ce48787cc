"""Group `retrieval`: the FAISS index over items and the histories that prompts will show."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.histories import strictly_earlier
from rallrec_pipeline.datasets.sequences import UserSequences
from rallrec_pipeline.evaluation.pages.markdown import code
from rallrec_pipeline.inference.methods import retrievers
from rallrec_pipeline.lake import tables
from rallrec_pipeline.pipeline.context import Made, Markdown, StageRun
from rallrec_pipeline.pipeline.stages.embeddings import read_sequences, read_vectors, rows_of_split
from rallrec_pipeline.prompts.sampling import choose_samples
from rallrec_pipeline.retrieval.histories import Retriever, retrieve_histories
from rallrec_pipeline.retrieval.index import nearest_items, write_index
from rallrec_pipeline.retrieval.index_update import refresh_index
from rallrec_pipeline.retrieval.inverted_lists import has_lists
from rallrec_pipeline.retrieval.learned import LearnedReranker, learn_reranker
from rallrec_pipeline.retrieval.neighbours import MAX_ROWS, Rows, neighbour_auc, search_alpha
from rallrec_pipeline.retrieval.rankings import Ranking, by_vectors, ranking_of
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
    rows = rows_of_split(run, sequences, "valid")
    frames, alphas, searches, told = [], {}, {}, {}
    for name, retriever in retrievers(run.settings).items():
        ranking, settings = _ranking(run, retriever), retrieval_of(run, retriever)
        alphas[name], searches[name] = _alpha(sequences, rows, ranking, settings)
        learned = None
        if settings.reranker == "learned":
            learned, told[name] = _learned(run, sequences, rows, ranking, settings, alphas[name])
        asked = strictly_earlier(chosen, core) if retriever.strictly_earlier else chosen
        found = retrieve_histories(asked, sequences, Retriever(ranking, settings, alphas[name], learned))
        frames.append(found.with_columns(pl.lit(name).alias("retriever")))
    return run.write(
        pl.concat(frames),
        tables.RETRIEVED_HISTORIES,
        alpha=alphas,
        alpha_search=searches,
        splits=dict(chosen["split"].value_counts().iter_rows()),
        **({"learned_reranker": told} if told else {}),
    )


def todays_retriever(run: StageRun, name: str, mixture: NDArray[np.float32]) -> Retriever:
    """How the retriever `name` cuts the histories of today; `mixture` (m, d) has the core's items first.

    alpha and what is learned are those of `retrieved_histories`. To a retriever with parts of its own a new item is
    like nothing.
    """
    sequences, retriever = read_sequences(run), run.settings.retrievers[name]
    settings, rows = retrieval_of(run, retriever), rows_of_split(run, sequences, "valid")
    ranking = _ranking(run, retriever, len(mixture)) if retriever.parts else by_vectors(mixture)
    alpha, _ = _alpha(sequences, rows, ranking, settings)
    learned = _learned(run, sequences, rows, ranking, settings, alpha)[0] if settings.reranker == "learned" else None
    return Retriever(ranking, settings, alpha, learned)


def retrieval_of(run: StageRun, retriever: RetrieverSettings) -> RetrievalSettings:
    """The settings of retrieval with the retriever's own K and reranker."""
    settings = run.settings.retrieval
    own = {"history_length": retriever.k, "reranker": retriever.reranker}
    return settings.model_copy(update={name: value for name, value in own.items() if value is not None})


def parts_of(run: StageRun, retriever: RetrieverSettings) -> dict[str, NDArray[np.float32]]:
    """The vectors that a retriever ranks by: those of its parts, or the variant's mixture, by kind."""
    return {kind: read_vectors(run, kind) for kind in retriever.parts or ("item",)}


def _ranking(run: StageRun, retriever: RetrieverSettings, items: int = 0) -> Ranking:
    """`ranking_of` the vectors of the core; where there are more `items` than that, the others have zeros."""
    parts = parts_of(run, retriever).items()
    return ranking_of(retriever, {kind: _with_zeros(vectors, items) for kind, vectors in parts})


def _with_zeros(vectors: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    return np.pad(vectors, ((0, max(0, rows - len(vectors))), (0, 0)))


def _alpha(
    sequences: UserSequences, rows: Rows, ranking: Ranking, settings: RetrievalSettings
) -> tuple[float, list[dict[str, float]]]:
    """The alpha of eq. 8 that the settings give, or the one found on validation rows, and every one that was tried."""
    if settings.alpha is not None:
        return settings.alpha, []
    return search_alpha(sequences, rows, ranking, settings.history_length, settings.beta)


def _learned(
    run: StageRun,
    sequences: UserSequences,
    validation: Rows,
    ranking: Ranking,
    settings: RetrievalSettings,
    alpha: float,
) -> tuple[LearnedReranker | None, dict[str, Any]]:
    """A reranker fitted on training samples, and its weights and neighbour AUC on validation beside that of eq. 8.

    None where nothing can be learned: then eq. 8 stays, and what is told says why.
    """
    k = settings.history_length
    learned = learn_reranker(sequences, rows_of_split(run, sequences, "train"), ranking, k)
    if learned is None:
        why = "one label, ratings that are all alike, or no history: eq. 8 stays"
        run.log(f"nothing can be learned for the reranker: {why}")
        return None, {"why_not": why}
    rows = validation.thinned(MAX_ROWS)
    chosen = {
        "fixed": Retriever(ranking, settings, alpha).reranked(sequences, rows),
        "learned": learned.choose(sequences, rows, ranking, k),
    }
    aucs = {f"validation_auc_{name}": neighbour_auc(sequences, rows, found) for name, found in chosen.items()}
    return learned, {"weights": learned.weights_by_feature(), "fitted_rows": learned.rows, **aucs}
