"""Items outside the core, such as those of today: described and placed among the others, and nothing is fitted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.mixture import mix
from rallrec_pipeline.embeddings.projectors import projected
from rallrec_pipeline.embeddings.text import embed_texts, later_text_vectors
from rallrec_pipeline.embeddings.weights import read_weights
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.memo_rows import VECTORS
from rallrec_pipeline.lake.provenance import stable_hash
from rallrec_pipeline.lake.vectors import vectors_of
from rallrec_pipeline.pipeline.context import Made, StageRun
from rallrec_pipeline.pipeline.stages.descriptions import described
from rallrec_pipeline.pipeline.stages.embeddings import description_texts, read_vectors, title_texts
from rallrec_pipeline.pipeline.stages.engine import OneEngine, model_version
from rallrec_pipeline.pipeline.stages.rows import item_versions, with_increment, with_sources
from rallrec_pipeline.settings import RelevanceKind

Vectors = NDArray[np.float32]


def new_item_descriptions(run: StageRun) -> Made:
    """Descriptions of the new items, from the same memo and by the same rules as those of the core."""
    items = new_items(run)
    result, engines = described(run, items, "descriptions of new items")
    made = run.write(result.table, tables.NEW_ITEM_DESCRIPTIONS, retried=result.retried, engine=engines.used)
    rows = with_sources(result.table.drop("description"), items=item_versions(items))
    return with_increment(run, made, rows, result.computed, engines.usage)


def new_item_embeddings(run: StageRun) -> Made:
    """The new items in the mixture, by PCA, projector and weights of the core; the collaborative part is zero."""
    written = run.read(tables.NEW_ITEM_DESCRIPTIONS)
    items = catalogue_items(run, written["item_id"].to_list())
    with OneEngine(run, "encode") as engines:
        title = _encoded(run, engines, items, title_texts(run, items))
        description = _encoded(run, engines, items, description_texts(items, written))
    core = read_vectors(run, "title"), read_vectors(run, "description")
    vectors = _mixed(run, later_text_vectors(core, (title, description), run.settings.text, run.seeds.fits))
    fits = {stage: run.given(stage).data_version for stage in ("aligned_embeddings", "item_embeddings")}
    hashes = [stable_hash(a.tobytes().hex(), b.tobytes().hex(), fits) for a, b in zip(title, vectors, strict=True)]
    frame = pl.DataFrame(
        {
            "item_id": items["item_id"],
            "title_vector": pl.Series(title.tolist(), dtype=pl.List(pl.Float32)),
            "item_vector": pl.Series(vectors.tolist(), dtype=pl.List(pl.Float32)),
            "input_hash": pl.Series(hashes, dtype=pl.String),
        }
    )
    usage = engines.usage
    shown = {"rows_prompted": usage.rows, "fit": "before this item", "engine": engines.used}
    return run.write(frame, tables.NEW_ITEM_VECTORS, **shown, llm=vars(usage))


def new_items(run: StageRun) -> pl.DataFrame:
    """Items of the catalogue that are not in the core, as many as the settings allow, the last ones."""
    items, core = run.read(tables.ITEMS), run.read(tables.CORE_ITEMS).select("item_id")
    return items.join(core, on="item_id", how="anti", maintain_order="left").tail(
        run.settings.recommendations.new_items
    )


def catalogue_items(run: StageRun, item_ids: Sequence[str]) -> pl.DataFrame:
    """The rows of `item_ids` in their order: of the core where it has the item, else of the catalogue."""
    core = run.read(tables.CORE_ITEMS)
    others = run.read(tables.ITEMS).join(core.select("item_id"), on="item_id", how="anti", maintain_order="left")
    wanted = pl.DataFrame({"item_id": pl.Series(item_ids, dtype=pl.String)})
    return wanted.join(pl.concat([core, others.select(core.columns)]), on="item_id", how="left", maintain_order="left")


def _encoded(run: StageRun, engines: OneEngine, items: pl.DataFrame, texts: Sequence[str]) -> Vectors:
    """Vectors (k, d) of texts, with the memo of the core's."""
    if not texts:
        return np.zeros((0, read_vectors(run, "title").shape[1]), np.float32)
    ids, memo = items["item_id"].to_list(), run.memo(VECTORS)
    progress = run.progress("vectors of new items")
    return vectors_of(embed_texts(ids, texts, engines.base, memo, model_version(run), run.run_id, progress).table)


def _mixed(run: StageRun, text: Vectors) -> Vectors:
    """Eq. 7 for text vectors (k, d_text), with the weights of the core."""
    folder = run.folder("aligned_embeddings") / "embeddings" / "aligned"
    graph = read_vectors(run, "collaborative")
    aligned = projected(text, read_weights(folder / f"{run.dataset}.projector.safetensors"))
    if aligned is None:
        run.log("the projector looks at other items, so the aligned part of new items is zero")
        aligned = np.zeros((len(text), graph.shape[1]), np.float32)
    zeros = np.zeros((len(text), graph.shape[1]), np.float32)
    parts: dict[RelevanceKind, Vectors] = {"text": text, "collaborative": zeros, "aligned": aligned}
    return mix(parts, run.given("item_embeddings").metadata["weights"])
