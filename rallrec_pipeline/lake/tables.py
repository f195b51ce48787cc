"""Every table of the lake, once: columns, dtypes, key, grain and path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from rallrec_pipeline.lake.shards import shard_files

TEXT, FLOAT = pl.String, pl.Float32
TEXTS, FLOATS = pl.List(pl.String), pl.List(pl.Float32)

PROVENANCE: dict[str, pl.DataType | type[pl.DataType]] = {
    "input_hash": TEXT,
    "template_version": TEXT,
    "model_fingerprint": TEXT,
    "data_version": TEXT,
    "run_id": TEXT,
    "created_at": TEXT,
}


@dataclass(frozen=True)
class Table:
    """One table: `{dataset}` in `path` is the partition; `open_fields` allows more text columns.

    A `wide` column makes `path` a folder of shards by the key (`lake/shards.py`).
    """

    name: str
    grain: str
    path: str
    key: tuple[str, ...]
    columns: Mapping[str, pl.DataType | type[pl.DataType]] = field(default_factory=dict)
    open_fields: bool = False
    wide: str | None = None
    made_by: str = ""

    @property
    def stage(self) -> str:
        """The asset that makes it; most have its name."""
        return self.made_by or self.name

    def file(self, root: Path, dataset: str) -> Path:
        """Where the table of `dataset` lies below `root`: a result's folder, or the lake with the results in force."""
        return root / self.path.format(dataset=dataset)

    def exists(self, root: Path, dataset: str) -> bool:
        """Whether there is anything to read."""
        path = self.file(root, dataset)
        return bool(shard_files(path)) if self.wide else path.exists()


_INTERACTION = {"user_id": TEXT, "item_id": TEXT, "rating": FLOAT, "timestamp": pl.Int64}
_MOMENT = {"microsecond": pl.Int32}  # of the second `timestamp`: only the order of the core needs it
_SAMPLE = {"sample_id": pl.Int64, "user_id": TEXT, "item_id": TEXT, "split": TEXT, "rating": FLOAT, "label": pl.Int8}


def _table(
    name: str,
    grain: str,
    key: tuple[str, ...],
    columns: Mapping[str, pl.DataType | type[pl.DataType]],
    path: str | None = None,
    open_fields: bool = False,
    wide: str | None = None,
    made_by: str = "",
) -> Table:
    return Table(name, grain, path or f"tables/{name}/{{dataset}}.parquet", key, columns, open_fields, wide, made_by)


INTERACTIONS = _table(
    "interactions", "one rating of an item by a user", ("user_id", "item_id"), {**_INTERACTION, **_MOMENT}
)
ITEMS = _table("items", "one catalogue item", ("item_id",), {"item_id": TEXT, "title": TEXT}, open_fields=True)
USERS = _table("users", "one user", ("user_id",), {"user_id": TEXT}, open_fields=True)
REJECTED_ROWS = _table(
    "rejected_rows",
    "one raw row that `table` did not take",
    (),
    {"table": TEXT, "file": TEXT, "line": pl.Int64, "reason": TEXT, "text": TEXT},
)
CORE_INTERACTIONS = _table(
    "core_interactions", "one rating within the k-core, in global time order", ("user_id", "item_id"), _INTERACTION
)
CORE_ITEMS = _table(
    "core_items", "one item of the k-core", ("item_id",), {"item_id": TEXT, "title": TEXT}, open_fields=True
)
SAMPLES = _table(
    "samples",
    "one rating to predict; its history is the user's first `history_length` core interactions",
    ("sample_id",),
    _SAMPLE | {"timestamp": pl.Int64, "history_length": pl.Int32},
)
ITEM_DESCRIPTIONS = _table(
    "item_descriptions",
    "one item of the k-core",
    ("item_id",),
    {"item_id": TEXT, "description": TEXT, "status": TEXT, "attempts": pl.Int8, **PROVENANCE},
)
NEW_ITEM_DESCRIPTIONS = _table(
    "new_item_descriptions",
    "one item outside the core that can be recommended",
    ("item_id",),
    ITEM_DESCRIPTIONS.columns,
)
NEW_ITEM_VECTORS = _table(
    "new_item_vectors",
    "one item outside the core that can be recommended",
    ("item_id",),
    {"item_id": TEXT, "title_vector": FLOATS, "item_vector": FLOATS, "input_hash": TEXT},
    "embeddings/new_item/{dataset}.parquet",
    made_by="new_item_embeddings",
)
FITTED_INTERACTIONS = _table(
    "fitted_interactions",
    "one training interaction that the collaborative embeddings were fitted on",
    ("user_id", "item_id"),
    {"user_id": TEXT, "item_id": TEXT, "timestamp": pl.Int64},
    "embeddings/collaborative/{dataset}.fitted.parquet",
    made_by="collaborative_embeddings",
)
EXPECTED_RATINGS = _table(
    "expected_ratings",
    "one core interaction, or sampled negative",
    ("user_id", "item_id"),
    {"user_id": TEXT, "item_id": TEXT, "expected": FLOAT},
)

RETRIEVED_HISTORIES = _table(
    "retrieved_histories",
    "one sample that a prompt is made of, as one retriever sees it",
    ("sample_id", "retriever"),
    _SAMPLE
    | {
        "retriever": TEXT,
        "recent": TEXTS,
        "recent_ratings": FLOATS,
        "relevant": TEXTS,
        "relevant_ratings": FLOATS,
        "relevant_scores": FLOATS,
        "sequential": TEXTS,
        "sequential_ratings": FLOATS,
        "reranked": TEXTS,
        "reranked_ratings": FLOATS,
    },
)

PROMPT_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    **_SAMPLE,
    "prompt_form": TEXT,
    "answer_form": TEXT,
    "prompt": TEXT,
    "answer": TEXT,
    "answer_offsets": pl.List(pl.Int32),
}


def prompts_table(split: str) -> Table:
    """Prompts of `split` (`tuning` or `evaluation`)."""
    return _table(
        f"{split}_prompts",
        "one rendered prompt",
        ("sample_id", "retriever", "facts", "titles", "prompt_form", "answer_form"),
        {**PROMPT_COLUMNS, "retriever": TEXT, "facts": TEXT, "titles": pl.Boolean},
        f"prompts/{split}/{{dataset}}.parquet",
    )


def embeddings_table(kind: str) -> Table:
    """Item vectors of `kind` (`title`, `description`, `text`, `collaborative`, `aligned`, `item`)."""
    return _table(
        f"{kind}_embeddings",
        "one item",
        ("item_id",),
        {"item_id": TEXT, "vector": pl.Array(pl.Float32, 0), **PROVENANCE},
        f"embeddings/{kind}/{{dataset}}.parquet",
        wide="vector",
    )


def predictions_table(method: str) -> Table:
    """P(yes) of `method` on validation and test rows; `probabilities` is over the answers."""
    return _table(
        f"predictions_{method}",
        "one scored sample",
        ("sample_id",),
        {"sample_id": pl.Int64, "split": TEXT, "label": pl.Int8, "p_yes": pl.Float64, "probabilities": pl.List(FLOAT)},
        f"predictions/{method}/{{dataset}}.parquet",
        made_by="predictions",
    )


_ASKED_ROW = {"sample_id": pl.Int64, "split": TEXT, "label": pl.Int8, "method": TEXT}
REASONING_PROMPTS = _table(
    "reasoning_prompts",
    "one prompt of the reasoner",
    ("method", "sample_id"),
    {**_ASKED_ROW, "answer_form": TEXT, "plain": TEXT, "prompt": TEXT, "told": TEXT},
    "prompts/reasoning/{dataset}.parquet",
    made_by="reasoning_traces",
)
TRACES = _table(
    "reasoning_traces",
    "one response of the reasoner",
    ("method", "sample_id", "trace"),
    {
        **_ASKED_ROW,
        "trace": pl.Int32,
        "thought": TEXT,
        "answer": TEXT,
        "mark": TEXT,
        "tokens": pl.Int64,
        "seconds": pl.Float64,
        "input_hash": TEXT,
        "model_fingerprint": TEXT,
        "run_id": TEXT,
        "created_at": TEXT,
    },
)
TRACE_PREDICTIONS = _table(
    "trace_predictions",
    "one response of the reasoner, read; one without a trace is the answer without a thought",
    ("method", "sample_id", "trace"),
    {**_ASKED_ROW, "trace": pl.Int32, "p_raw": pl.Float64, "p_yes": pl.Float64, "input_hash": TEXT},
    made_by="reasoned_predictions",
)
REASONED_ROWS = _table(
    "reasoned_rows",
    "one sample that the reasoner was asked about",
    ("method", "sample_id"),
    {
        **_ASKED_ROW,
        "p_raw": pl.Float64,
        "p_yes": pl.Float64,
        "variance": pl.Float64,
        "traces": pl.Int32,
        "unanswered": pl.Int32,
        "tokens": pl.Float64,
        "seconds": pl.Float64,
    },
    made_by="reasoned_predictions",
)
CASCADES = _table(
    "cascades",
    "one sample of a cascade",
    ("method", "sample_id"),
    {**_ASKED_ROW, "expert": pl.Float64, "dear": pl.Float64, "order": pl.Float64, "asked": pl.Boolean},
    made_by="merged_predictions",
)

CONSISTENCIES = _table(
    "consistencies",
    "one sample of a merge by consistency (eq. 10)",
    ("method", "sample_id"),
    {
        **_ASKED_ROW,
        "general": pl.Float64,
        "general_variance": pl.Float64,
        "reasoned": pl.Float64,
        "reasoned_variance": pl.Float64,
    },
    made_by="merged_predictions",
)

RECOMMENDATIONS = _table(
    "recommendations",
    "one recommended item of a user",
    ("user_id", "rank"),
    {
        "user_id": TEXT,
        "rank": pl.Int32,
        "item_id": TEXT,
        "p_yes": pl.Float64,
        "because": TEXTS,
        "sources": TEXTS,
        "method": TEXT,
        "fit": TEXT,
        "model_fingerprint": TEXT,
        "input_hash": TEXT,
    },
)
RESCORED_CANDIDATES = _table(
    "rescored_candidates",
    "one candidate that the method in force was asked about for a user of the report",
    ("user_id", "history_length", "item_id"),
    {"user_id": TEXT, "history_length": pl.Int32, "item_id": TEXT, "p_yes": pl.Float64},
    made_by="recommendations",
)


COLUMNS: dict[str, str] = {
    "user_id": "The user, as the raw files name it.",
    "item_id": "The item, as the raw files name it.",
    "rating": "What the user gave the item, on the dataset's scale.",
    "timestamp": "When the rating was given: seconds since 1970 (UTC); null where the source has no times.",
    "microsecond": "Of the second `timestamp`; only the order of ratings needs it.",
    "sample_id": "Number of the sample, one per rating to predict.",
    "split": "train, valid or test.",
    "label": "1 if the user likes the item, by the dataset's rule; 0 if not.",
    "history_length": "How many of the user's core interactions lie before the sample.",
    "title": "The item's title.",
    "table": "The table that did not take the row.",
    "file": "The raw file of the row.",
    "line": "Its line in that file, the first is 1.",
    "reason": "Why the row was not taken.",
    "text": "The row as it stands in the file.",
    "description": "What the LLM wrote about the item, or a text from its fields.",
    "status": "written, retried (at the second attempt) or template (the LLM wrote nothing usable).",
    "attempts": "How often the LLM was asked.",
    "vector": "The item's vector; of one length within a table.",
    "title_vector": "The vector of the item's title and basic fields.",
    "item_vector": "The item's place in the mixture of the core's items (eq. 7); its collaborative part is zero.",
    "recent": "The last items of the user's history, oldest first.",
    "recent_ratings": "Ratings of `recent`, in its order.",
    "relevant": "Items of the history that are most like the target, the best first.",
    "relevant_ratings": "Ratings of `relevant`, in its order.",
    "relevant_scores": "Similarity of `relevant` to the target, in its order.",
    "sequential": "The items of `relevant`, oldest first.",
    "sequential_ratings": "Ratings of `sequential`, in its order.",
    "reranked": "Items chosen by similarity and recency together (eq. 8), the best first.",
    "reranked_ratings": "Ratings of `reranked`, in its order.",
    "expected": "What the user is expected to rate, by earlier ratings.",
    "retriever": "Name of the retriever, which says by which vectors the relevant history was chosen.",
    "facts": "Names of the statistics that the prompt states.",
    "titles": "Whether the prompt shows the titles of items, or replaces them all.",
    "prompt_form": "Which history the prompt shows.",
    "answer_form": "What the prompt asks for: yes or no, or a rating.",
    "prompt": "The text that the LLM reads.",
    "answer": "The true answer.",
    "answer_offsets": "At which characters of the prompt the ratings of its history stand; empty in the yes-no form.",
    "p_yes": "Probability that the user likes the item.",
    "probabilities": "Probability of each answer, in the order of the answers; null for methods without an LLM.",
    "input_hash": "Hash of the fields that the row was made from.",
    "template_version": "Version of the template or code that made the row.",
    "model_fingerprint": "The model that made the row.",
    "data_version": "Hash of the row's content.",
    "method": "The method that gave the probability, the reasoner's way of being asked, or the merge.",
    "plain": "The prompt of the predictor that the reasoner's was made of.",
    "told": "What the prompt tells of another model's answer; empty where it tells none.",
    "trace": "Number of the response to its prompt, the first is 0; null for the answer without a thought.",
    "thought": "What the reasoner wrote before its answer.",
    "mark": "What is wrong with the response: empty, repeats, cut off or no answer; empty text where nothing is.",
    "tokens": "New tokens of a response; of a sample the mean over its responses.",
    "seconds": "Seconds of a response, as it was written; of a sample the mean over its responses.",
    "p_raw": "Probability that the user likes the item, before the calibration.",
    "variance": "Variance of `p_raw` over the responses; null where there is none.",
    "traces": "Responses to the prompt.",
    "unanswered": "Those of them that give no answer in words.",
    "general": "P(yes) of the tuned LLM.",
    "general_variance": "Variance of `general` over its runs.",
    "reasoned": "P(yes) of the reasoner.",
    "reasoned_variance": "Variance of `reasoned` over its responses; null where there is none.",
    "expert": "P(yes) of the cheap model.",
    "dear": "P(yes) of the model that is asked where that pays.",
    "order": "How soon the row is asked: the highest first.",
    "asked": "Whether the dear model is asked about the row.",
    "rank": "Place of the item among those recommended to the user; the first is 1.",
    "because": "What a prompt about this item shows of the user's history, liked or not, as retrieval chooses it.",
    "sources": "What proposed the item: index, expert, popularity or new.",
    "fit": "Whether the method was fitted with ratings of the item: with this item, or before this item.",
    "run_id": "The run that made the row.",
    "created_at": "When the row was made.",
}
"""What each column holds; a name means the same in every table."""
OPEN_FIELD = "A field of the raw files, as the dataset's TOML file names it."
