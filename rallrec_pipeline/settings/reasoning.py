"""RALLRec+: the reasoner, ways to ask it, merges, and the built-in ones of both."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator, model_validator

from rallrec_pipeline.settings.llm import AnswerForm, Fact, PromptForm
from rallrec_pipeline.settings.methods import MIXTURE, MethodName
from rallrec_pipeline.settings.section import Section


class ReasoningSettings(Section):
    """Sampled traces of the role `reasoner` (RALLRec+: temperature 0.6, up to 4,800 new tokens, 6 to 16 traces)."""

    traces: int = Field(6, gt=0, description="Responses that are sampled for a prompt.")
    max_new_tokens: int = Field(4800, gt=0, description="A response is cut off here; its thought is then closed.")
    temperature: float = Field(0.6, gt=0, description="Divides the logits.")
    top_p: float = Field(0.95, gt=0, le=1, description="Words are drawn from the likeliest that have this share.")
    batch_size: int = Field(128, gt=0, description="Responses that decode together.")
    instruction: str = Field(
        "Think about it first: which of these {items} are like it, how this user rated those, and how well it is liked "
        "by others. Then answer.",
        description="How the reasoner is asked to think; `{item}` and `{items}` are filled in.",
    )
    max_tokens: int = Field(
        0,
        ge=0,
        description="New tokens that may be written in all; 0: no bound. Rows where the tuned model is least sure come "
        "first, and what was done by then is reported on.",
    )

    most_unanswered: float = Field(
        0.95,
        ge=0,
        le=1,
        description="Share of the responses that may lack an answer in words; above it a check fails.",
    )

    def sampled(self) -> ReasoningSettings:
        """These without what a check alone looks at: what responses depend on."""
        return self.model_copy(update={"most_unanswered": type(self).model_fields["most_unanswered"].default})

    @field_validator("instruction")
    @classmethod
    def _has_known_gaps(cls, instruction: str) -> str:
        if unknown := set(re.findall(r"{(\w*)}", instruction)) - {"item", "items"}:
            raise ValueError(f"unknown gaps {sorted(unknown)}; it may name {{item}} and {{items}}")
        return instruction


class ReasonedSettings(Section):
    """One way to ask the reasoner; a row of the reasoning report."""

    title: str = Field("", max_length=120, description="How the report calls it; without one it says what it is.")
    retriever: MethodName = MIXTURE
    prompt_form: PromptForm = Field("reranked", description="Which history, in which order.")
    answer_form: AnswerForm | None = Field(None, description="None takes `prompts.answer_form`.")
    facts: tuple[Fact, ...] | None = Field(None, description="As of a method.")
    told: MethodName | None = Field(
        None, description="The method whose answer is put into words in the prompt (eq. 9): of the LLM, or an expert."
    )


_READ_BY = {
    "consistency": {"runs", "alpha", "epsilon", "choose"},
    "logistic": {"runs", "uncertainty"},
    "cascade": {"budget"},
}
"""What each kind of merge looks at besides its members."""


class MergeSettings(Section):
    """One prediction made of several (eq. 10 of RALLRec+, and what it has to beat)."""

    title: str = Field("", max_length=120, description="How the report calls it; without one it says what it is.")
    kind: Literal["consistency", "mean", "logistic", "best", "cascade"] = Field(
        "consistency",
        description="`consistency`: eq. 10. `mean`: of the members. `logistic`: stacking, fitted on validation rows. "
        "`best`: the member with the least log loss there. `cascade`: the second member is asked only where that pays.",
    )
    members: tuple[MethodName, ...] = Field(
        ("rallrec", "reasoned_told"), min_length=2, description="What is merged; of eq. 10 first P_G, then P_R."
    )
    runs: tuple[MethodName, ...] = Field(
        (), description="Other runs of the first member, by prompt form, vectors or seed: their variance is var_G."
    )
    alpha: float = Field(0.1, ge=0, description="Weight of the reasoner in eq. 10.")
    epsilon: float = Field(1e-3, gt=0, description="Added to variances in eq. 10.")
    choose: bool = Field(False, description="Choose alpha and epsilon of eq. 10 on validation rows instead.")
    uncertainty: bool = Field(
        False, description="`logistic`: with the variances, the length of the history and the item's ratings as well."
    )
    budget: float = Field(
        0, ge=0, description="`cascade`: most tokens of the second member a row, over all rows; 0: no bound."
    )

    @model_validator(mode="after")
    def _two_where_two_are_meant(self) -> MergeSettings:
        if self.kind in ("consistency", "cascade") and len(self.members) != 2:
            raise ValueError(f"kind = {self.kind!r} takes two members")
        known = {"title", "kind", "members"} | _READ_BY.get(self.kind, set())
        fields = type(self).model_fields.items()
        if unread := [name for name, field in fields if name not in known and getattr(self, name) != field.default]:
            raise ValueError(f"kind = {self.kind!r} does not look at {', '.join(unread)}")
        if self.runs and self.kind == "logistic" and not self.uncertainty:
            raise ValueError("kind = 'logistic' looks at runs with `uncertainty` only")
        return self


DEFAULT_REASONED = {
    "reasoned": ReasonedSettings(title="reasoning"),
    "reasoned_told": ReasonedSettings(title="reasoning, told the tuned model's answer (eq. 9)", told="rallrec"),
}
DEFAULT_MERGES = {
    "rallrec_plus": MergeSettings(title="RALLRec+: merged by consistency (eq. 10)", runs=("recent",)),
    "rallrec_plus_chosen": MergeSettings(
        title="eq. 10, alpha and epsilon by validation", choose=True, runs=("recent",)
    ),
    "merged_mean": MergeSettings(title="plain mean", kind="mean"),
    "merged_logistic": MergeSettings(title="logistic stacking", kind="logistic"),
    "merged_uncertain": MergeSettings(title="logistic stacking with uncertainty", kind="logistic", uncertainty=True),
    "merged_single": MergeSettings(title="the better single model", kind="best"),
    "merged_expert": MergeSettings(
        title="stacked with the strongest expert",
        kind="logistic",
        members=("text_trees", "rallrec", "reasoned_told"),
        uncertainty=True,
    ),
    "cascade": MergeSettings(
        title="the expert, and the LLM where that pays", kind="cascade", members=("text_trees", "merged_expert")
    ),
}


def require_no_circle(merges: Mapping[str, MergeSettings]) -> None:
    """Raises ValueError when merges are made of one another."""
    made: set[str] = set()
    left = dict(merges)
    while left:
        ready = [name for name, merge in left.items() if not (set(merge.members + merge.runs) & left.keys()) - made]
        if not ready:
            raise ValueError(f"merges.{next(iter(left))}: it is made of a merge that is made of it: {', '.join(left)}")
        made.update(ready)
        left = {name: merge for name, merge in left.items() if name not in made}
