"""What `rallrec lineage` tells, as plain data. The names are those of its JSON and are documented in docs/lineage.md.

What is not there, or no longer, is None (or empty), and `notes` of the part say why.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Counts = dict[str, int]
"""By split: train, valid, test."""


@dataclass(frozen=True)
class Step:
    """A stage: its last record (at the moment asked for), and whether that still holds.

    `reasons` say why not; `waits_for` names inputs that are not fresh, so that the stage may yet turn out unchanged.
    `figures` is what the stage told about itself.
    """

    stage: str
    run_id: str | None
    created_at: str | None
    fingerprint: str | None
    data_version: str | None
    fresh: bool
    reasons: list[str]
    waits_for: list[str]
    figures: dict[str, str | int | float | bool]


@dataclass(frozen=True)
class At:
    """An earlier state: when the run `run_id` wrote its last record."""

    run_id: str
    ended_at: str


@dataclass(frozen=True)
class End:
    """Where the chain ends, why, and what to run where that helps."""

    stage: str
    reason: str
    command: str | None


@dataclass(frozen=True)
class Place:
    """Where the item stands in one raw file; `lines` are the first few of `count`."""

    file: str
    unit: Literal["line", "row"]
    count: int
    lines: list[dict[str, Any]]
    sha256: str


@dataclass(frozen=True)
class Raw:
    """Raw lines: the item's own, and those of its ratings (`same_file`: these are the item's own too)."""

    item: Place | None
    ratings: Place | None
    same_file: bool
    changed_since: bool | None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Ratings:
    """Ratings of the item by stage; `samples` are those to predict, by split."""

    raw: int | None
    accepted: int | None
    core: int | None
    training: int | None
    fitted: int | None
    samples: Counts | None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Item:
    """The item in the catalogue and in the core."""

    fields: dict[str, str] | None
    in_catalogue: bool | None
    in_core: bool | None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Provenance:
    """What one row of a table was made from, and by which run."""

    input_hash: str | None = None
    data_version: str | None = None
    template_version: str | None = None
    model_fingerprint: str | None = None
    run_id: str | None = None
    created_at: str | None = None


@dataclass(frozen=True)
class Description:
    """What the LLM wrote and what it was asked; `stored_in` says where the text was found."""

    provenance: Provenance
    text: str | None
    status: str | None
    attempts: int | None
    prompt: str | None
    template: str | None
    sampling: dict[str, Any] | None
    seed: int | None
    stored_in: Literal["table", "cache"] | None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Vector:
    """A vector of the item; `verified` says whether the hash of the stored bytes is `provenance.data_version`."""

    provenance: Provenance
    dimensions: int | None
    norm: float | None
    stored_in: Literal["table", "cache"] | None
    verified: bool | None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Neighbour:
    """An item near to the item: inner product in the index, cosine of each part."""

    item_id: str
    title: str
    row: int
    similarity: float
    parts: dict[str, float | None]


@dataclass(frozen=True)
class Index:
    """The item's row in the index, from 0, the weights of the mixture, and the nearest items, best first."""

    row: int | None
    rows: int | None
    weights: dict[str, float] | None
    neighbours: list[Neighbour]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Histories:
    """Samples that prompts are made of: with the item as target, and by prompt form with it in the shown history."""

    target: Counts
    shown: dict[str, Counts]


@dataclass(frozen=True)
class Adapter:
    """A tuned adapter and the prompts with the item that it was tuned on; `stored_in` says where its weights lie."""

    name: str
    run_id: str | None
    created_at: str | None
    base_model: dict[str, str] | None
    prompt_forms: list[str]
    best_epoch: int | None
    validation_auc: float | None
    stored_in: Literal["checkpoints", "cache"] | None
    prompts: int | None
    prompts_as_target: int | None
    prompts_in_history: int | None


@dataclass(frozen=True)
class Predictions:
    """Predictions of one method about the item (`targets`, `mean_p_yes`) and with it in the history."""

    method: str
    stage: str
    prompt_form: str | None
    adapter: str | None
    run_id: str | None
    created_at: str | None
    targets: Counts
    mean_p_yes: dict[str, float]
    in_history: Counts | None
    made_of: dict[str, str] = field(default_factory=dict)
    """What a merge or a told reasoner is made of: method -> the stage and fingerprint behind it."""


@dataclass(frozen=True)
class RecommendedTo:
    """To how many `users` the item is recommended, its `best_rank`, and its `fit`.

    `fit` is `with this item` where the method was fitted with ratings of it, else `before this item`.
    """

    users: int
    best_rank: int | None
    fit: str | None
    method: str | None
    run_id: str | None
    created_at: str | None
    description: str | None
    """Of an item outside the core, what the LLM wrote about it."""


@dataclass(frozen=True)
class Uses:
    """What used the item; `tuning_prompts` counts `all` that name it, those `as_target` and `in_history`."""

    histories: Histories | None
    tuning_prompts: dict[str, int] | None
    adapters: list[Adapter]
    predictions: list[Predictions]
    recommended: RecommendedTo | None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Lineage:
    """The whole chain; `stages` holds every stage before and behind the item, in the order of the graph."""

    dataset: str
    item_id: str
    profile: str
    protocol: str
    at: At | None
    ends: End | None
    raw: Raw
    ratings: Ratings
    item: Item
    description: Description
    vectors: dict[str, Vector]
    index: Index
    uses: Uses
    stages: dict[str, Step]
