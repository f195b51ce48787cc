"""The stages of RALLRec+. They run on request only: what they ask of the LLM is a multiple of all other stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rallrec_pipeline.inference.methods import chosen_methods, merges, reasoned_methods
from rallrec_pipeline.inference.score import SCORING_VERSION
from rallrec_pipeline.pipeline.decisive import ENGINE, numerics
from rallrec_pipeline.pipeline.model_graph import role_model
from rallrec_pipeline.pipeline.stage import Stage
from rallrec_pipeline.pipeline.stages import merging, reasoning, reasoning_report
from rallrec_pipeline.reasoning.prompts import REASONING_VERSION
from rallrec_pipeline.reasoning.traces import TRACES_VERSION
from rallrec_pipeline.settings import Settings

_PREDICTED = ("predictions", "baseline_predictions", "expert_predictions")
_TOLD = ("samples", "predictions", "reasoning_traces", "reasoned_predictions", "merged_predictions")
_SECTIONS = (*ENGINE, "reasoner", "reasoning", "reasoned", "merges", "scoring", "seeds")


def _asked(settings: Settings) -> Mapping[str, Any]:
    """How the reasoner is asked; what the report calls it is no part of it."""
    return {m.name: {k: v for k, v in asdict(m).items() if k != "title"} for m in reasoned_methods(settings)}


REASONING: tuple[Stage, ...] = (
    role_model("reasoner"),
    Stage(
        "reasoning_traces",
        "reasoning",
        ("evaluation_prompts", *_PREDICTED, "reasoner"),
        "Sampled responses of the reasoner to each prompt, several a prompt.",
        reasoning.reasoning_traces,
        lambda s, d: (
            numerics(s, "reasoner")
            | {"reasoning": s.reasoning.sampled(), "asked": _asked(s), "words": d.words, "label": d.label}
            | {"seed": s.seeds.sampling, "versions": (REASONING_VERSION, TRACES_VERSION)}
            | {"first": reasoning.guide(s) if s.reasoning.max_tokens else None}
        ),
        sections=_SECTIONS,
        uses_llm=True,
        role="reasoner",
    ),
    Stage(
        "reasoned_predictions",
        "reasoning",
        ("reasoning_traces", "reasoner"),
        "P(yes) after each response, with mean and variance for each sample.",
        reasoning.reasoned_predictions,
        lambda s, d: (
            numerics(s, "reasoner")
            | {"calibration": s.scoring.calibration, "asked": _asked(s), "label": d.label}
            | {"versions": (SCORING_VERSION, REASONING_VERSION)}
        ),
        sections=_SECTIONS,
        uses_llm=True,
        role="reasoner",
    ),
    Stage(
        "merged_predictions",
        "reasoning",
        (
            *("core_interactions", "samples", "retrieved_histories", "evaluation_prompts", *_PREDICTED),
            *("reasoning_traces", "reasoned_predictions", "predictor", "reasoner"),
        ),
        "Several predictions made one: by consistency (eq. 10), stacking, a cascade.",
        merging.merged_predictions,
        lambda s, d: {"merges": {name: m.model_copy(update={"title": ""}) for name, m in merges(s).items()}},
        sections=_SECTIONS,
    ),
    Stage(
        "reasoning_report",
        "reports",
        ("core_interactions", "baseline_predictions", "expert_predictions", *_TOLD),
        "The reasoner's responses, what merging makes of them, and where asking it pays.",
        reasoning_report.reasoning_report,
        lambda s, d: {
            "titles": [method.title for method in reasoned_methods(s)] + [merge.title for merge in merges(s).values()],
            "chosen": chosen_methods(s),
            "seed": s.seeds.data,
            "resamples": s.scoring.bootstrap,
            "title": d.title,
            "paper_dataset": d.paper_dataset,
        },
        sections=_SECTIONS,
        code_version="3",
    ),
)
