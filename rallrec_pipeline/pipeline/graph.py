"""The whole asset graph on one page: every stage, its inputs, and the settings that it depends on.

Stages of one kind have a page of their own: `model_graph.py`, `recommendation_graph.py` and `reasoning_graph.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from rallrec_pipeline.datasets.raw_files import kept_records, source_state
from rallrec_pipeline.embeddings.text import ENCODER_VERSION
from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.evaluation.measures.maps import projections
from rallrec_pipeline.inference.methods import adapters, retrievers
from rallrec_pipeline.inference.score import SCORING_VERSION
from rallrec_pipeline.pipeline.decisive import (
    ALL_SECTIONS,
    ENGINE,
    METHODS,
    asked,
    describing,
    numerics,
    prompting,
    reported,
    with_sampling,
    wording,
)
from rallrec_pipeline.pipeline.model_graph import MODELS
from rallrec_pipeline.pipeline.reasoning_graph import REASONING
from rallrec_pipeline.pipeline.recommendation_graph import RECOMMENDATION
from rallrec_pipeline.pipeline.stage import Stage
from rallrec_pipeline.pipeline.stages import (
    alignment,
    data,
    descriptions,
    embeddings,
    experts,
    model,
    prompts,
    reports,
    retrieval,
)
from rallrec_pipeline.pipeline.stages.model import TUNING_VERSION
from rallrec_pipeline.settings import did_you_mean

GRAPH: tuple[Stage, ...] = (
    # raw and data
    Stage(
        "raw_files",
        "raw",
        (),
        "The dataset's files as published, checked against pinned SHA-256 sums.",
        data.raw_files,
        lambda s, d: {"source": d.source, "state": source_state(d)},
        code_version="2",
        beside=lambda run: kept_records(run.lake, run.dataset),
    ),
    Stage(
        "interactions",
        "data",
        ("raw_files",),
        "Ratings in canonical columns: user_id, item_id, rating, timestamp and its microsecond.",
        data.interactions,
        lambda s, d: {
            "file": d.interactions,
            "scale": d.scale,
            "catalogue": d.items if d.unknown_items == "reject" else None,
            "repeats": d.repeats,
        },
        code_version="3",
    ),
    Stage(
        "items",
        "data",
        ("raw_files",),
        "The item catalogue: title and the dataset's own fields.",
        data.items,
        lambda s, d: {"file": d.items},
        code_version="3",
    ),
    Stage(
        "users",
        "data",
        ("raw_files",),
        "User profiles.",
        data.users,
        lambda s, d: {"file": d.users},
        code_version="3",
    ),
    Stage(
        "rejected_rows",
        "data",
        ("raw_files",),
        "Raw rows that a table did not take, each with table, file, line and reason.",
        data.rejected_rows,
        lambda s, d: {
            "files": (d.interactions, d.items, d.users),
            "scale": d.scale,
            "unknown_items": d.unknown_items,
            "repeats": d.repeats,
        },
        code_version="3",
    ),
    Stage(
        "core_interactions",
        "data",
        ("interactions", "items"),
        "The k-core: every user and every item keeps enough ratings.",
        data.core_interactions,
        lambda s, d: {"protocol": d.protocol, "seed": s.seeds.data},
        sections=("seeds",),
        code_version="2",
    ),
    Stage("core_items", "data", ("core_interactions", "items"), "Items of the k-core.", data.core_items),
    Stage(
        "samples",
        "data",
        ("core_interactions",),
        "One row per rating to predict, with the length of its history and its split.",
        data.samples,
        lambda s, d: {"protocol": d.protocol, "label": d.label, "seed": s.seeds.data},
        sections=("seeds",),
    ),
    *MODELS,
    # descriptions
    Stage(
        "item_descriptions",
        "descriptions",
        ("core_items", "writer"),
        "What the LLM writes about each item from its fields.",
        descriptions.item_descriptions,
        describing,
        sections=(*ENGINE, "seeds"),
        uses_llm=True,
        role="writer",
    ),
    # embeddings
    Stage(
        "title_embeddings",
        "embeddings",
        ("core_items", "encoder"),
        "Mean-pooled last hidden states of title and basic fields (e_title).",
        embeddings.title_embeddings,
        lambda s, d: numerics(s, "encoder") | {"words": d.words, "fields": d.item_fields, "encoder": ENCODER_VERSION},
        sections=ENGINE,
        uses_llm=True,
        role="encoder",
    ),
    Stage(
        "description_embeddings",
        "embeddings",
        ("core_items", "item_descriptions", "encoder"),
        "Mean-pooled last hidden states of the descriptions (e_desc).",
        embeddings.description_embeddings,
        lambda s, d: numerics(s, "encoder") | {"encoder": ENCODER_VERSION},
        sections=ENGINE,
        uses_llm=True,
        role="encoder",
    ),
    Stage(
        "text_embeddings",
        "embeddings",
        ("core_items", "title_embeddings", "description_embeddings"),
        "e_text = [e_title || e_desc], each reduced by PCA (eq. 3).",
        embeddings.text_embeddings,
        lambda s, d: {"text": s.text, "seed": s.seeds.fits},
        sections=("text", "seeds"),
    ),
    Stage(
        "collaborative_embeddings",
        "embeddings",
        ("core_interactions", "core_items", "samples"),
        "LightGCN item vectors of the training interactions only (eq. 4).",
        embeddings.collaborative_embeddings,
        lambda s, d: {
            "collaborative": s.collaborative,
            "tuned": (s.prompts.train_samples, d.protocol.few_shot),
            "implicit": d.is_implicit,
            **with_sampling(s.seeds.fits, s),
        },
        sections=("collaborative", "prompts", "seeds"),
        code_version="3",
    ),
    Stage(
        "aligned_embeddings",
        "embeddings",
        ("core_items", "text_embeddings", "collaborative_embeddings"),
        "e_ssl: text vectors projected to the collaborative space by symmetric InfoNCE (eq. 5, 6).",
        embeddings.aligned_embeddings,
        lambda s, d: {"alignment": s.alignment, "seed": s.seeds.fits},
        sections=("alignment", "seeds"),
    ),
    Stage(
        "item_embeddings",
        "embeddings",
        (
            "core_items",
            "text_embeddings",
            "collaborative_embeddings",
            "aligned_embeddings",
            "core_interactions",
            "samples",
        ),
        "The mixture of the three parts, each normalised per row (eq. 7).",
        embeddings.item_embeddings,
        lambda s, d: {"mixture": s.mixture, "k": s.retrieval.history_length},
        sections=("mixture", "retrieval"),
        code_version="2",
    ),
    # retrieval
    Stage(
        "item_index",
        "retrieval",
        ("core_items", "item_embeddings"),
        "FAISS inner-product index over the item embeddings.",
        retrieval.item_index,
        lambda s, d: {"index": s.index, "seed": s.seeds.fits},
        sections=("index", "seeds"),
    ),
    Stage(
        "retrieved_histories",
        "retrieval",
        (
            "core_interactions",
            "core_items",
            "samples",
            "title_embeddings",
            "text_embeddings",
            "collaborative_embeddings",
            "aligned_embeddings",
            "item_embeddings",
        ),
        "For each chosen sample and retriever: recent, relevant, sequential and reranked history (eq. 8).",
        retrieval.retrieved_histories,
        lambda s, d: {
            "retrievers": retrievers(s),
            "retrieval": s.retrieval,
            "samples": (s.prompts.train_samples, s.prompts.validation_samples, s.prompts.test_samples),
            "protocol": (d.protocol.few_shot, d.protocol.first_test_samples),
            **with_sampling(s.seeds.data, s),
        },
        sections=("retrieval", *METHODS, "seeds"),
        code_version="2",
    ),
    # prompts
    Stage(
        "expected_ratings",
        "prompts",
        ("core_interactions", "core_items", "samples"),
        "What experts expect each user to rate, by earlier ratings; prompts may state it as a fact.",
        prompts.expected_ratings,
        lambda s, d: (
            {"seed": s.seeds.fits, "label": d.label}
            | ({"by": s.prompts.expected_by} if s.prompts.expected_by != "factorisation" else {})
        ),
        sections=("prompts", "seeds"),
    ),
    Stage(
        "tuning_prompts",
        "prompts",
        ("retrieved_histories", "expected_ratings", "core_interactions", "core_items", "samples", "users"),
        "Few-shot training prompts, each sample in several prompt forms.",
        prompts.tuning_prompts,
        lambda s, d: wording(s, d) | {"adapters": adapters(s)},
        sections=METHODS,
        code_version="3",
    ),
    Stage(
        "evaluation_prompts",
        "prompts",
        ("retrieved_histories", "expected_ratings", "core_interactions", "core_items", "samples", "users"),
        "Validation and test prompts of every method.",
        prompts.evaluation_prompts,
        lambda s, d: wording(s, d) | {"asked": prompts.evaluation_asked(s)},
        sections=METHODS,
        code_version="5",
    ),
    # model
    Stage(
        "lora_adapter",
        "model",
        ("tuning_prompts", "evaluation_prompts", "predictor"),
        "The LoRA adapters that methods use, each tuned on prompts of its own.",
        model.lora_adapter,
        lambda s, d: (
            numerics(s, "predictor")
            | {"load_in_8bit": s.role("predictor").load_in_8bit}
            | {"tuning": s.tuning.decisive(), "prompts": prompting(s), "label": d.label, "seed": s.seeds.tuning}
            | {"version": TUNING_VERSION, "adapters": adapters(s)}
        ),
        sections=(*ENGINE, "seeds"),
        uses_llm=True,
        role="predictor",
    ),
    Stage(
        "predictions",
        "model",
        ("evaluation_prompts", "lora_adapter", "predictor"),
        "P(yes) of every LLM method on the same rows.",
        model.predictions,
        lambda s, d: (
            numerics(s, "predictor")
            | {"calibration": s.scoring.calibration, "label": d.label, "scoring": SCORING_VERSION}
            | {"methods": asked(s)}
            | ({"deterministic": True} if s.role("predictor").deterministic else {})
        ),
        sections=(*ENGINE, "scoring"),
        code_version="2",
        uses_llm=True,
        role="predictor",
    ),
    Stage(
        "baseline_predictions",
        "model",
        ("core_interactions", "samples", "retrieved_histories"),
        "P(yes) of the common-sense baselines on the same rows.",
        model.baseline_predictions,
        lambda s, d: {"label": d.label, "seed": s.seeds.fits},
        sections=("seeds",),
        code_version="2",
    ),
    Stage(
        "expert_predictions",
        "model",
        (
            "core_interactions",
            "core_items",
            "samples",
            "users",
            "retrieved_histories",
            "title_embeddings",
            "collaborative_embeddings",
        ),
        "P(yes) of the strongest predictors without an LLM on the same rows.",
        experts.expert_predictions,
        lambda s, d: {
            "label": d.label,
            "experts": s.experts,
            "retriever": experts.shown_retriever(s),
            "seed": s.seeds.fits,
        },
        sections=("experts", *METHODS, "seeds"),
    ),
    *RECOMMENDATION,
    # reports
    Stage(
        "dataset_report",
        "reports",
        reports.PROFILED,
        "What the dataset holds, and where its ratings went between the raw file and the samples.",
        reports.dataset_report,
        lambda s, d: {"protocol": d.protocol, "protocol_name": d.protocol_name, "label": d.label, "title": d.title},
        code_version="2",
    ),
    Stage(
        "alignment_report",
        "reports",
        (
            "core_items",
            "core_interactions",
            "samples",
            "text_embeddings",
            "collaborative_embeddings",
            "aligned_embeddings",
            "item_embeddings",
        ),
        "Alignment and uniformity on held-out items, maps of the vectors, the nearest items of a few and why.",
        alignment.alignment_report,
        lambda s, d: {
            "alignment": s.alignment,
            "seed": s.seeds.fits,
            "title": d.title,
            "items": d.items,
            "maps": list(projections()),
        },
        sections=("alignment", "seeds"),
    ),
    Stage(
        "evaluation_report",
        "reports",
        (
            "predictions",
            "baseline_predictions",
            "expert_predictions",
            "core_interactions",
            "samples",
            "encoder",
            "predictor",
            "collaborative_embeddings",
            "aligned_embeddings",
            "item_embeddings",
            "retrieved_histories",
            "tuning_prompts",
            "lora_adapter",
        ),
        "All methods by every measure, with errors over users, slices and costs, beside the papers' figures.",
        reports.evaluation_report,
        lambda s, d: {
            "settings": reported(s),
            "title": d.title,
            "paper_dataset": d.paper_dataset,
        },
        sections=ALL_SECTIONS,
        code_version="5",
    ),
)

STAGES: dict[str, Stage] = {stage.name: stage for stage in GRAPH}
ON_REQUEST: tuple[Stage, ...] = REASONING
"""Stages that run where they are named, or a study needs them; all others run without being named."""
EVERY_STAGE: dict[str, Stage] = STAGES | {stage.name: stage for stage in ON_REQUEST}


def require_stages(names: Sequence[str]) -> None:
    """Raises ConfigError when one of `names` is no stage."""
    if unknown := [name for name in names if name not in EVERY_STAGE]:
        near = [did_you_mean(name, EVERY_STAGE) for name in unknown]
        told = "; ".join(f"unknown asset {name!r}{meant}" for name, meant in zip(unknown, near, strict=True))
        raise ConfigError(told if all(near) else f"{told}: choose from {', '.join(EVERY_STAGE)}")
