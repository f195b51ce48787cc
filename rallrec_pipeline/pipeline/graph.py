"""The whole asset graph on one page: every stage, its inputs, and the settings that it depends on."""

from __future__ import annotations

from typing import Any

from rallrec_pipeline.datasets.raw_files import kept_records, source_state
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.descriptions import RENDERER_VERSION
from rallrec_pipeline.embeddings.text import ENCODER_VERSION
from rallrec_pipeline.evaluation.maps import projections
from rallrec_pipeline.inference.methods import adapters, retrievers
from rallrec_pipeline.inference.score import SCORING_VERSION
from rallrec_pipeline.language_models.models import model_state
from rallrec_pipeline.pipeline.decisive import asked, descriptions_of, numerics, recommending, wording
from rallrec_pipeline.pipeline.reasoning_graph import reasoning_stages
from rallrec_pipeline.pipeline.stage import ALWAYS, Stage
from rallrec_pipeline.pipeline.stages import (
    alignment,
    data,
    descriptions,
    embeddings,
    experts,
    model,
    models,
    new_items,
    prompts,
    recommendation_report,
    recommendations,
    reports,
    retrieval,
)
from rallrec_pipeline.pipeline.stages.model import TUNING_VERSION
from rallrec_pipeline.settings import ROLES, Role, Settings, essential

_NOT_IN_REPORT: dict[str, Any] = {
    "automation": True,
    "index": True,
    "ray": True,
    **{
        name: {"engine", "tensor_parallel", "gpu_memory", "tokens_per_batch", "deterministic"}
        for name in ("model", *ROLES)
    },
    "tuning": {"tokens_per_batch", "checkpoint_every"},
}
"""Settings that change no figure: a report is not made anew for them."""
_ELSEWHERE = ("reasoner", "reasoning", "reasoned", "merges", "recommendations", "serving")
"""Settings of which another report tells, or none."""


def _role_model(role: Role) -> Stage:
    """The model of a role; it has no dataset."""

    def decisive(settings: Settings, spec: DatasetSpec) -> dict[str, Any]:
        model = settings.role(role)
        return {"source": model.source, "name": model.name, "state": model_state(model)}

    says = {
        "writer": "The LLM that describes items, as safetensors with its tokenizer.",
        "encoder": "The model that makes text vectors: an LLM or a sentence encoder.",
        "predictor": "The LLM that is tuned and asked, as safetensors with its tokenizer.",
        "reasoner": "The LLM that thinks before it answers, as safetensors with its tokenizer.",
    }
    sections = (*_ENGINE, "reasoner", "reasoning") if role == "reasoner" else _ENGINE
    return Stage(role, "models", (), says[role], models.role_model, decisive, sections, partitioned=False, role=role)


_METHODS = ("prompts", "methods", "adapters", "retrievers", "only_methods", "reasoned", "merges")
_ENGINE = ("model", *ROLES, "ray", "tuning", "descriptions", "retrieval", *_METHODS)
"""What an engine is chosen by, and whether it fits this machine: its longest prompts are those of a method."""
_ALL = tuple(name for name in Settings.model_fields if name not in ALWAYS)


def _in_report(settings: Settings) -> dict[str, Any]:
    """The settings that a figure of the report may depend on, defaults left out."""
    shown = {name: essential(getattr(settings, name)) for name in Settings.model_fields if name not in _ELSEWHERE}
    for name, hidden in _NOT_IN_REPORT.items():
        kept = {} if hidden is True else {key: v for key, v in (shown[name] or {}).items() if key not in hidden}
        shown[name] = kept
    return shown


def _with_sampling(seed: int, settings: Settings) -> dict[str, int]:
    """The seed of a stage that knows the few-shot draw too, whose seed is left out where it is the same.

    So results from before there were four seeds still hold.
    """
    sampling = settings.seeds.sampling
    return {"seed": seed} if sampling == seed else {"seed": seed, "sampling_seed": sampling}


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
    # models
    *(_role_model(role) for role in ROLES),
    # descriptions
    Stage(
        "item_descriptions",
        "descriptions",
        ("core_items", "writer"),
        "What the LLM writes about each item from its fields.",
        descriptions.item_descriptions,
        lambda s, d: (
            numerics(s, "writer")
            | {"descriptions": descriptions_of(s, d), "words": d.words, "fields": d.item_fields}
            | {"seed": s.seeds.sampling, "renderer": RENDERER_VERSION}
        ),
        sections=(*_ENGINE, "seeds"),
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
        sections=_ENGINE,
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
        sections=_ENGINE,
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
            **_with_sampling(s.seeds.fits, s),
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
            **_with_sampling(s.seeds.data, s),
        },
        sections=("retrieval", *_METHODS, "seeds"),
        code_version="2",
    ),
    # prompts
    Stage(
        "expected_ratings",
        "prompts",
        ("core_interactions", "core_items", "samples"),
        "What a factorisation of earlier ratings expects each user to rate; prompts may state it as a fact.",
        prompts.expected_ratings,
        lambda s, d: {"seed": s.seeds.fits, "label": d.label},
        sections=("seeds",),
    ),
    Stage(
        "tuning_prompts",
        "prompts",
        ("retrieved_histories", "expected_ratings", "core_interactions", "core_items", "samples", "users"),
        "Few-shot training prompts, each sample in several prompt forms.",
        prompts.tuning_prompts,
        lambda s, d: wording(s, d) | {"adapters": adapters(s)},
        sections=_METHODS,
        code_version="3",
    ),
    Stage(
        "evaluation_prompts",
        "prompts",
        ("retrieved_histories", "expected_ratings", "core_interactions", "core_items", "samples", "users"),
        "Validation and test prompts of every method.",
        prompts.evaluation_prompts,
        lambda s, d: wording(s, d) | {"asked": prompts.evaluation_asked(s)},
        sections=_METHODS,
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
            | {"tuning": s.tuning.decisive(), "prompts": s.prompts, "label": d.label, "seed": s.seeds.tuning}
            | {"version": TUNING_VERSION, "adapters": adapters(s)}
        ),
        sections=(*_ENGINE, "seeds"),
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
        sections=(*_ENGINE, "scoring"),
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
        sections=("experts", *_METHODS, "seeds"),
    ),
    # recommendations
    Stage(
        "new_item_descriptions",
        "recommendations",
        ("items", "core_items", "writer"),
        "What the LLM writes about items outside the core: no model is fitted to them, and they can be recommended.",
        new_items.new_item_descriptions,
        lambda s, d: (
            numerics(s, "writer")
            | {"descriptions": descriptions_of(s, d), "words": d.words, "fields": d.item_fields}
            | {"seed": s.seeds.sampling, "renderer": RENDERER_VERSION, "most": s.recommendations.new_items}
        ),
        sections=(*_ENGINE, "recommendations", "seeds"),
        uses_llm=True,
        role="writer",
    ),
    Stage(
        "new_item_embeddings",
        "recommendations",
        (
            *("items", "core_items", "new_item_descriptions", "title_embeddings", "description_embeddings"),
            *("collaborative_embeddings", "aligned_embeddings", "item_embeddings", "encoder"),
        ),
        "Items outside the core, placed in the mixture by the fits of the core: PCA, projector and weights stay.",
        new_items.new_item_embeddings,
        lambda s, d: (
            numerics(s, "encoder")
            | {"words": d.words, "fields": d.item_fields, "encoder": ENCODER_VERSION}
            | {"text": s.text, "seed": s.seeds.fits}
        ),
        sections=(*_ENGINE, "text", "seeds"),
        uses_llm=True,
        role="encoder",
    ),
    Stage(
        "recommender_fit",
        "recommendations",
        ("core_interactions", "core_items", "samples", "title_embeddings"),
        "The expert that recommends, fitted on the training split and kept as arrays.",
        recommendations.recommender_fit,
        lambda s, d: {
            "expert": s.recommendations.expert,
            "label": d.label,
            "experts": s.experts.model_copy(update={"deep": True}),
            "seed": s.seeds.fits,
        },
        sections=("recommendations", "experts", "seeds"),
    ),
    Stage(
        "recommendations",
        "recommendations",
        (
            *("interactions", "items", "users", "core_interactions", "core_items", "samples"),
            *("title_embeddings", "text_embeddings", "collaborative_embeddings", "aligned_embeddings"),
            *("item_embeddings", "item_index", "expected_ratings", "recommender_fit"),
            *("new_item_descriptions", "new_item_embeddings"),
            *("predictor", "lora_adapter", "predictions"),
        ),
        "For each user the best items not yet seen: P(yes), rank, and the history lines behind each.",
        recommendations.recommendations,
        recommending,
        sections=(*_ENGINE, "recommendations", "experts", "collaborative", "scoring", "seeds"),
        uses_llm=True,
        role="predictor",
    ),
    Stage(
        "recommendation_report",
        "reports",
        (
            "core_interactions",
            "core_items",
            "samples",
            "title_embeddings",
            "collaborative_embeddings",
            "item_embeddings",
            "item_index",
            "recommender_fit",
            "new_item_embeddings",
            "recommendations",
            "predictions",
        ),
        "Recall, NDCG, coverage, popularity lift and novelty of recommendations, over the whole catalogue.",
        recommendation_report.recommendation_report,
        lambda s, d: {
            "recommendations": s.recommendations,
            "experts": s.experts.model_copy(update={"deep": True}),
            "collaborative": s.collaborative.graph,
            "label": d.label,
            "seeds": (s.seeds.data, s.seeds.fits),
            "resamples": s.scoring.bootstrap,
            "title": d.title,
        },
        sections=("recommendations", "experts", "collaborative", "scoring", "seeds", *_METHODS),
    ),
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
            "settings": _in_report(s),
            "title": d.title,
            "paper_dataset": d.paper_dataset,
        },
        sections=_ALL,
        code_version="3",
    ),
)

STAGES: dict[str, Stage] = {stage.name: stage for stage in GRAPH}
ON_REQUEST: tuple[Stage, ...] = reasoning_stages(_role_model("reasoner"), numerics, _ENGINE)
"""Stages that run where they are named, or a study needs them; all others run without being named."""
EVERY_STAGE: dict[str, Stage] = STAGES | {stage.name: stage for stage in ON_REQUEST}
