"""Every check, by asset: what must hold of the lake, proven from the files and not from the code that wrote them."""

from __future__ import annotations

from rallrec_pipeline.pipeline.checks.advice import EMBEDDINGS
from rallrec_pipeline.pipeline.checks.alignment import alignment_figures_hold
from rallrec_pipeline.pipeline.checks.items import (
    every_item_described,
    finite_vectors,
    fitted_on_training_only,
    index_equals_brute_force,
)
from rallrec_pipeline.pipeline.checks.llm import (
    adapter_is_whole,
    experts_score_the_same_rows,
    probabilities_valid,
    prompts_fit_context,
    tuning_rows_are_training_rows,
)
from rallrec_pipeline.pipeline.checks.reasoning import (
    merges_are_whole,
    reasoned_rows_are_whole,
    responses_answer,
    responses_are_whole,
)
from rallrec_pipeline.pipeline.checks.recommendations import (
    every_user_is_covered,
    nothing_seen_is_recommended,
    recommendations_are_whole,
    rescored_candidates_are_whole,
)
from rallrec_pipeline.pipeline.checks.reports import (
    better_than_item_mean,
    no_drop_against_the_last,
    probabilities_are_calibrated,
)
from rallrec_pipeline.pipeline.checks.tables import (
    few_rejected_rows,
    k_core_holds,
    labels_balanced,
    paper_statistics,
    splits_follow_time,
)
from rallrec_pipeline.pipeline.checks.verdict import Check

CHECKS: tuple[Check, ...] = (
    Check(
        "interactions",
        "few_rejected_rows",
        "No more raw ratings are refused than the dataset allows.",
        few_rejected_rows,
        also_reads=("rejected_rows",),
    ),
    Check("core_interactions", "k_core_holds", "Every user and item has enough ratings, none too many.", k_core_holds),
    Check("samples", "labels_balanced", "Between 10% and 90% of each split is liked.", labels_balanced),
    Check(
        "samples",
        "splits_follow_time",
        "Train, valid and test follow one another in time, or do so for each user, whose last rating is the target.",
        splits_follow_time,
        also_reads=("interactions", "core_interactions"),
    ),
    Check(
        "samples",
        "paper_statistics",
        "Of the full official files: the published numbers of users, items and samples.",
        paper_statistics,
        blocking=False,
        also_reads=("interactions", "rejected_rows", "core_interactions"),
    ),
    Check("item_descriptions", "every_item_described", "Each item has a text within bounds.", every_item_described),
    *(
        Check(f"{kind}_embeddings", f"finite_{kind}_vectors", "One finite vector per item.", finite_vectors(kind))
        for kind in EMBEDDINGS
    ),
    Check(
        "collaborative_embeddings",
        "fitted_on_training_only",
        "LightGCN saw no held-out rating, and of a user nothing later than one.",
        fitted_on_training_only,
        also_reads=("interactions",),
    ),
    Check("item_index", "index_equals_brute_force", "FAISS finds what brute force finds.", index_equals_brute_force),
    Check(
        "tuning_prompts",
        "tuning_prompts_fit",
        "Prompts fit the model's context.",
        prompts_fit_context("tuning"),
        also_reads=("predictor",),
    ),
    Check(
        "tuning_prompts", "tuned_on_training_only", "No held-out interaction in tuning.", tuning_rows_are_training_rows
    ),
    Check(
        "evaluation_prompts",
        "evaluation_prompts_fit",
        "Prompts fit the model's context.",
        prompts_fit_context("evaluation"),
        also_reads=("predictor",),
    ),
    Check("lora_adapter", "adapter_is_whole", "Weights and provenance are there.", adapter_is_whole),
    Check("predictions", "probabilities_valid", "Same rows for all methods, finite.", probabilities_valid),
    Check(
        "expert_predictions",
        "experts_score_the_same_rows",
        "Same rows as the LLM methods, finite.",
        experts_score_the_same_rows,
    ),
    Check(
        "recommendations",
        "nothing_seen_is_recommended",
        "No user is recommended what he has rated, or anything twice.",
        nothing_seen_is_recommended,
    ),
    Check(
        "recommendations",
        "recommendations_are_whole",
        "Ranks are 1 to n, probabilities lie in [0, 1], lines behind an item are of the user's history.",
        recommendations_are_whole,
    ),
    Check(
        "recommendations",
        "rescored_candidates_are_whole",
        "What the LLM says of candidates of the report's users lies in [0, 1] and is of a shortlist.",
        rescored_candidates_are_whole,
    ),
    Check("recommendations", "every_user_is_covered", "Every user has items, or is counted.", every_user_is_covered),
    Check(
        "reasoning_traces",
        "responses_are_whole",
        "Every response is kept once and, if anything is wrong with it, marked.",
        responses_are_whole,
    ),
    Check(
        "reasoning_traces",
        "responses_answer",
        "Most responses have an answer in words.",
        responses_answer,
        blocking=False,
    ),
    Check(
        "reasoned_predictions",
        "reasoned_rows_are_whole",
        "Each prompt has a probability, from as many readings as responses.",
        reasoned_rows_are_whole,
        also_reads=("reasoning_traces",),
    ),
    Check(
        "merged_predictions",
        "merges_are_whole",
        "Same rows for all merges, finite.",
        merges_are_whole,
        also_reads=("retrieved_histories",),
    ),
    Check(
        "alignment_report",
        "alignment_figures_hold",
        "All numbers are finite, and those of the vectors in use are found again by brute force.",
        alignment_figures_hold,
    ),
    *(
        Check("evaluation_report", name, description, judge, blocking=False, warns=True)
        for name, description, judge in (
            ("better_than_item_mean", "RALLRec ranks better than an item's mean rating.", better_than_item_mean),
            ("no_drop_against_the_last", "The AUC is not below that of the last report.", no_drop_against_the_last),
            ("probabilities_are_calibrated", "The calibration error is small.", probabilities_are_calibrated),
        )
    ),
)
