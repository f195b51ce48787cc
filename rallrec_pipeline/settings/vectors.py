"""Vectors of items and what they choose: text, LightGCN, projector, mixture, index, histories."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rallrec_pipeline.settings.section import Section

RelevanceKind = Literal["title", "text", "collaborative", "aligned"]


class TextEmbeddingSettings(Section):
    """Mean-pooled last hidden states, optionally reduced and whitened."""

    pca_dimensions: int = Field(128, ge=0, description="PCA of each of e_title and e_desc; 0 keeps all.")
    whiten: bool = Field(False, description="Scale each principal component to unit variance.")
    descriptions: Literal["written", "shuffled", "empty"] = Field(
        "written",
        description="What e_desc is made of. `shuffled`: each item takes another's, a control of how much noise in "
        "descriptions costs. `empty`: titles and fields alone.",
    )


class CollaborativeSettings(Section):
    """LightGCN item vectors (eq. 4)."""

    graph: Literal["binary", "signed"] = Field(
        "binary",
        description="`binary`: plain LightGCN (BPR). `signed`: edges carry the centred rating, which is fitted.",
    )
    fit_on: Literal["training", "all_but_last"] = Field(
        "training",
        description="`all_but_last` is the leak of the published code: all ratings but the last of each user, those of "
        "the validation and test periods among them. For the study of what it is worth, never else.",
    )
    dimensions: int = Field(64, gt=0, description="Length of a vector.")
    layers: int = Field(3, ge=0, description="Steps along the graph; a vector is the mean over 0 to this many (eq. 4).")
    epochs: int = Field(100, gt=0, description="Passes over the interactions, at most.")
    learning_rate: float = Field(5e-3, gt=0, description="Of Adam.")
    batch_size: int = Field(8192, gt=0, description="Interactions of one optimizer step.")
    l2: float | None = Field(None, ge=0, description="None takes 1e-4 (`binary`) or 1e-2 (`signed`).")
    patience: int = Field(
        6, gt=0, description="Epochs without a better held-out score (`binary`: or a lower loss) before stopping."
    )


class AlignmentSettings(Section):
    """The projector of text vectors, fitted by symmetric InfoNCE (eq. 5, 6)."""

    kind: Literal["mlp", "linear", "attention"] = Field(
        "mlp",
        description="`mlp`: two layers, as the papers. `linear`: one matrix. `attention`: the other items' "
        "collaborative vectors, weighted by how their texts match. For no alignment set `mixture.aligned` to 0.",
    )
    hidden: int = Field(256, gt=0, description="Width of the layer between, or of queries and keys.")
    temperature: float = Field(0.1, gt=0, description="Divides the cosines of InfoNCE, and those of attention.")
    learning_rate: float = Field(1e-3, gt=0, description="Of AdamW.")
    epochs: int = Field(200, gt=0, description="Passes over the items.")
    weight_decay: float = Field(1e-4, ge=0)


class MixtureSettings(Section):
    """Weights of the parts of eq. 7; the papers weigh them equally."""

    text: float = Field(1.0, ge=0, allow_inf_nan=False, description="Weight of the text vectors.")
    collaborative: float = Field(1.0, ge=0, allow_inf_nan=False, description="Weight of the LightGCN vectors.")
    aligned: float = Field(1.0, ge=0, allow_inf_nan=False, description="Weight of the projected text vectors.")
    search: bool = Field(False, description="Choose the weights by neighbour AUC on validation.")


class RetrievalSettings(Section):
    """How the history of a prompt is chosen."""

    history_length: int = Field(30, gt=0, description="K: history items in a prompt.")
    alpha: float | None = Field(None, ge=0, le=1, description="Channel weight of eq. 8; None searches 1/2, 2/3, 4/5.")
    beta: float = Field(1.0, ge=0, description="Position decay of eq. 8.")
    reranker: Literal["fixed", "learned"] = Field(
        "fixed",
        description="`fixed`: the scores of eq. 8. `learned`: features of a history line, weighted so that ratings of "
        "good lines foretell the labels of training samples.",
    )


class IndexSettings(Section):
    """FAISS index over the item vectors."""

    kind: Literal["auto", "flat", "ivf"] = Field(
        "auto",
        description="`flat` is exact. `ivf` is approximate and faster in large catalogues. "
        "`auto` takes `flat` up to `flat_items` items.",
    )
    flat_items: int = Field(200_000, ge=0, description="Most items that `auto` searches exactly.")
    probes: int = Field(64, gt=0, description="Lists that a query looks into (`ivf`); more find more and take longer.")
