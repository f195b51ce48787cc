"""Which items are recommended: who proposes them, what scores them, and how many are kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rallrec_pipeline.settings.methods import MethodName
from rallrec_pipeline.settings.section import Section

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
WholeScore = Literal["factorisation", "item_knn", "lightgcn"]
"""Experts whose score of the whole catalogue is a matrix product."""
RecommendingExpert = Literal[
    "factorisation", "item_knn", "text_knn", "expert_logistic", "expert_trees", "text_logistic", "text_trees"
]
"""Experts that can score any user and item; `settings/methods.py` has all of them."""


class RecommendationSettings(Section):
    """The next items of each user. An expert needs seconds; a method of the LLM is asked about a shortlist."""

    n: int = Field(10, gt=0, description="Items that a user is recommended, at most.")
    candidates: int = Field(200, gt=0, description="Items of a user that the expert scores, at most.")
    index_share: Share = Field(0.2, description="Share of the candidates that the index finds near the liked history.")
    expert_share: Share = Field(0.6, description="Share with the highest score of `source`, which also fills up.")
    popularity_share: Share = Field(0.2, description="Share of the most rated ones.")
    new_share: Share = Field(0.05, description="Share, besides these, of the nearest items without a rating.")
    new_items: int = Field(
        100,
        ge=0,
        description="Items outside the core that the LLM describes and that can be recommended, the last of the "
        "catalogue, at most; 0 leaves them out.",
    )
    source: WholeScore = Field("item_knn", description="The expert that scores the whole catalogue.")
    newcomer: int = Field(3, ge=0, description="With a shorter history popularity takes the place of the index.")
    expert: RecommendingExpert = Field(
        "factorisation", description="What scores the candidates, or chooses the shortlist for the LLM."
    )
    method: MethodName | None = Field(
        None,
        description="A method of the LLM that scores the shortlist, or a merge (`mean`, `logistic`) of one with "
        "`expert`; None leaves that to the expert.",
    )
    shortlist: int = Field(20, gt=0, description="Items of a user that a method of the LLM is asked about, at most.")
    asked: Literal["best", "border"] = Field(
        "best",
        description="The shortlist: the best by the expert, or those nearest to the border between the first `n` and "
        "all others, whose place among the first is in doubt. What is not asked keeps its place.",
    )
    tokens_per_user: int = Field(
        0,
        ge=0,
        description="Tokens of the shortlist of one user that the LLM may read, at most, a beginning that prompts "
        "share counted once and the chat template too: what does not fit is not asked; 0: no bound.",
    )
    order: Literal["p_yes", "source", "both"] = Field(
        "both",
        description="Ranked by P(yes); by the score of `source`, from 0 for a user's lowest candidate to 1 for the "
        "highest; or by the product of the two.",
    )
    users: int = Field(0, ge=0, description="Users, drawn by their ids, at most; 0 takes all.")
    report_users: int = Field(0, ge=0, description="Users of the report in each split, at most; 0 takes all.")

    @model_validator(mode="after")
    def _is_proposed(self) -> RecommendationSettings:
        total = self.index_share + self.expert_share + self.popularity_share
        if not 0 < total <= 1 + 1e-9:
            raise ValueError(f"index_share, expert_share and popularity_share add up to {total:g}: at most 1, above 0")
        if self.n > self.candidates:
            raise ValueError(f"n is {self.n}, and there are {self.candidates} candidates: n must not be larger")
        if self.method is not None and self.order == "source":
            raise ValueError(
                f"order = 'source' looks at no P(yes), so method = {self.method!r} would be asked for nothing: "
                "take order 'both' or 'p_yes', or no method"
            )
        if self.method is not None and self.asked == "best" and self.n > self.shortlist:
            raise ValueError(
                f"n is {self.n}, and the shortlist {self.shortlist}: n must not be larger, or set asked = 'border'"
            )
        return self

    @property
    def scored_by(self) -> str:
        """The method in force."""
        return self.method or self.expert
