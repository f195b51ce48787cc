"""The stages that recommend: items outside the core, what the expert is fitted on, the next items, their report."""

from __future__ import annotations

from rallrec_pipeline.embeddings.text import ENCODER_VERSION
from rallrec_pipeline.pipeline.decisive import ENGINE, METHODS, describing, numerics, recommending
from rallrec_pipeline.pipeline.stage import Stage
from rallrec_pipeline.pipeline.stages import new_items, recommendation_report, recommendations

RECOMMENDATION: tuple[Stage, ...] = (
    Stage(
        "new_item_descriptions",
        "recommendations",
        ("items", "core_items", "writer"),
        "What the LLM writes about items outside the core: no model is fitted to them, and they can be recommended.",
        new_items.new_item_descriptions,
        lambda s, d: describing(s, d) | {"most": s.recommendations.new_items},
        sections=(*ENGINE, "recommendations", "seeds"),
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
        sections=(*ENGINE, "text", "seeds"),
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
        sections=(*ENGINE, "recommendations", "experts", "collaborative", "scoring", "seeds"),
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
        sections=("recommendations", "experts", "collaborative", "scoring", "seeds", *METHODS),
        code_version="2",
    ),
)
