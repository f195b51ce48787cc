"""Vectors of items that the core lacks, from their texts: fits of the batch are used, none is made anew.

A title is encoded as in the stages. Nobody has described the item, so the plain sentence of its fields stands for the
description, as where the LLM writes nothing usable. Nobody has rated it, so its collaborative vector is zero, and so
is the aligned one where the projector looks at other items.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from threading import Lock

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.descriptions import template_text
from rallrec_pipeline.embeddings.mixture import mix
from rallrec_pipeline.embeddings.projectors import projected
from rallrec_pipeline.embeddings.text import later_text_vectors
from rallrec_pipeline.embeddings.weights import read_weights
from rallrec_pipeline.language_models.protocols import Engine
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.readiness import require_fit_model
from rallrec_pipeline.pipeline.stages.embeddings import read_vectors
from rallrec_pipeline.pipeline.stages.engine import load_engine

Vectors = NDArray[np.float32]


class NewItems:
    """Makes vectors by the inputs of `run`; the encoder is loaded for the first item that needs it."""

    def __init__(self, run: StageRun) -> None:
        self._run, self._lock = run, Lock()

    def __call__(self, items: pl.DataFrame) -> Mapping[str, Vectors]:
        """Vectors (n, d) float32 of `items` by kind, those of the mixture (`item`) among them."""
        texts = [template_text(row, self._run.spec) for row in items.iter_rows(named=True)]
        with self._lock:
            encoded = self._encoder.encode(texts)
            settings, seed = self._run.settings.text, self._run.seeds.fits
            text = later_text_vectors(self._known_texts, (encoded, encoded), settings, seed)
            aligned = projected(text, self._projector)
        zeros = np.zeros((len(texts), self._graph_width), np.float32)
        parts = {"text": text, "collaborative": zeros, "aligned": zeros if aligned is None else aligned}
        weights = self._run.given("item_embeddings").metadata["weights"]
        return {**parts, "item": mix(parts, weights)}  # type: ignore[arg-type]

    def close(self) -> None:
        """Close the encoder, if it was loaded."""
        with self._lock:
            if (encoder := self.__dict__.pop("_encoder", None)) is not None:
                encoder.close()

    @cached_property
    def _encoder(self) -> Engine:
        run = self._run.in_role("encoder")
        require_fit_model(run, tunes=False)
        return load_engine(run, "encode")

    @cached_property
    def _known_texts(self) -> tuple[Vectors, Vectors]:
        return read_vectors(self._run, "title"), read_vectors(self._run, "description")

    @cached_property
    def _graph_width(self) -> int:
        return int(read_vectors(self._run, "collaborative").shape[1])

    @cached_property
    def _projector(self) -> dict[str, Vectors]:
        folder = self._run.folder("aligned_embeddings") / "embeddings" / "aligned"
        return read_weights(folder / f"{self._run.dataset}.projector.safetensors")
