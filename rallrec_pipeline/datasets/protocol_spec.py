"""The rules of a dataset: which ratings are kept, what a user likes, how samples are made, split and evaluated."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import Field, model_validator

from rallrec_pipeline.datasets.part import Part

Statistic = Literal[
    "raw_interactions", "interactions", "users", "items",
    "samples", "sample_users", "sample_items", "train", "valid", "test",
]  # fmt: skip


class LabelSpec(Part):
    """The rating scale, and above which rating a user likes an item.

    Without a column `rating` feedback is implicit: the scale is (0, 1), what happened is a 1, and for each target
    `negatives` items that the user never touched are sampled as 0.
    """

    scale: tuple[float, ...] = Field((0, 1), min_length=2)
    like_above: float = 0
    negatives: int = Field(0, ge=0, description="Sampled negatives per target; for implicit feedback only.")

    @model_validator(mode="after")
    def _ascends(self) -> LabelSpec:
        if list(self.scale) != sorted(set(self.scale)):
            raise ValueError(f"scale must ascend, from the worst rating to the best, not {self.scale}")
        if not self.scale[0] <= self.like_above < self.scale[-1]:
            raise ValueError(f"like_above must split the scale {self.scale}, {self.like_above} does not")
        return self


class CoreSpec(Part):
    """How many ratings each user and each item has at least, and at most."""

    user_core: int = Field(5, ge=1)
    item_core: int = Field(5, ge=1)
    user_cap: int | None = Field(None, ge=1)
    item_cap: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _caps_leave_room(self) -> CoreSpec:
        for of, least, most in (("user", self.user_core, self.user_cap), ("item", self.item_core, self.item_cap)):
            if most is not None and most < least:
                raise ValueError(f"{of}_cap = {most} lies below {of}_core = {least}: nothing would be left")
        return self


class DatesSpec(Part):
    """Days, in UTC, on which the splits of `split = "date"` begin; each lasts until the next one begins."""

    train: date | None = Field(None, description="Earlier ratings are left out, of histories too. Default: none are.")
    valid: date
    test: date
    end: date | None = Field(None, description="Ratings from this day on are left out. Default: none are.")

    @model_validator(mode="after")
    def _ascend(self) -> DatesSpec:
        days = [day for day in (self.train, self.valid, self.test, self.end) if day is not None]
        if days != sorted(set(days)):
            raise ValueError(f"dates must ascend from train to end, not {', '.join(map(str, days))}")
        return self


class ProtocolSpec(CoreSpec):
    """Which interactions are kept, how samples are made and split, and what is evaluated."""

    selection: CoreSpec | None = Field(
        None,
        description="Picks the items: those of this core of all ratings. Then all ratings of them count.",
    )
    require: tuple[str, ...] = Field((), description="Item fields without which an item is dropped, before the core.")
    drop_ratings: tuple[float, ...] = Field((), description="Ratings that are left out, as 0 for implicit feedback.")
    item_limit: int | None = Field(None, ge=1, description="Only this many most rated items stay.")
    item_limit_first: bool = Field(False, description="The limit acts before the core, not after it.")
    min_history: int = Field(5, ge=0)
    split: Literal["time", "user", "last", "date"] = Field(
        "time",
        description="`time`: global in time. `user`: each user's last rating is the target, a drawn one without times. "
        "`last`: leave-last-out, each user's last sample is for test, the one before for validation. `date`: global in "
        "time, at the days of `dates`, as CoLLM.",
    )
    dates: DatesSpec | None = Field(None, description="Where the splits of `date` begin.")
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    first_test_samples: int | None = Field(None, ge=1, description="Only these are evaluated, as published.")
    few_shot: int | None = Field(None, ge=1, description="At most this many tuning samples.")
    label: LabelSpec | None = Field(None, description="Replaces the dataset's label rule.")
    expected: dict[Statistic, int] = Field(
        default_factory=dict, description="Of the full official files; `raw_interactions` tells these from a subset."
    )
    tolerance: float = Field(
        0, ge=0, lt=1, description="Share by which the figures may differ where a rule of ours forbids equal ones."
    )

    @property
    def orders_users_alone(self) -> bool:
        """Whether only the ratings of one user have an order: those of two are never compared in time."""
        return self.split in ("user", "last")

    @model_validator(mode="after")
    def _dates_are_of_a_split_by_date(self) -> ProtocolSpec:
        if (self.split == "date") != (self.dates is not None):
            raise ValueError('`dates` and split = "date" go together: give both or neither')
        return self

    @model_validator(mode="after")
    def _fractions_sum_to_one(self) -> ProtocolSpec:
        if abs(sum(self.fractions) - 1) > 1e-9 or min(self.fractions) <= 0:
            raise ValueError(f"fractions must be three shares above 0 that sum to 1, not {self.fractions}")
        return self
