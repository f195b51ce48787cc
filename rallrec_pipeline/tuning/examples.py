"""Prompts as supervised token sequences: which positions answer, which answer is right, with what weight."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import polars as pl

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.language_models.answers import AnswerTrie
from rallrec_pipeline.settings import TuningSettings

if TYPE_CHECKING:
    from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine


@dataclass(frozen=True)
class Target:
    """The hidden state at `position` must choose `child` among the children of `choice`."""

    position: int
    choice: int
    child: int
    weight: float


@dataclass(frozen=True)
class Example:
    """Token ids of a prompt with its answer, and its supervised positions; whose row it is, and whether it is liked.

    The hidden state at `answer_at` chooses the first token of the answer.
    """

    tokens: tuple[int, ...]
    targets: tuple[Target, ...]
    answer_at: int = 0
    user: str = ""
    is_liked: bool = False


def make_example(
    engine: TransformersEngine,
    trie: AnswerTrie,
    answers: Sequence[str],
    prompt: str,
    answer: str,
    answer_offsets: Sequence[int],
    chat: bool,
    history_weight: float,
) -> Example:
    """The example of one prompt: weight 1 on the answer, `history_weight` on each of the history's.

    Raises ModelError when the tokenizer merges a history answer with the text before it.
    """
    path = trie.paths[list(answers).index(answer)]
    history: list[Target] = []
    if history_weight > 0 and answer_offsets and not chat:
        encoding = engine.tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
        begin = engine.begin_tokens  # which `prompt_tokens` puts before the text
        ids = [*begin, *encoding["input_ids"]]
        starts = [-1] * len(begin) + [start for start, _ in encoding["offset_mapping"]]
        for offset in answer_offsets:
            history += _history_targets(trie, ids, starts, offset, history_weight)
    tokens = engine.prompt_tokens(prompt, chat)
    end = len(tokens) - 1
    final = [Target(end + depth, choice, child, 1.0) for depth, (choice, child) in enumerate(path)]
    taken = [trie.choices[choice].children[child] for choice, child in path[:-1]]
    return Example((*tokens, *taken), (*history, *final), end)


def _history_targets(
    trie: AnswerTrie, ids: Sequence[int], starts: Sequence[int], offset: int, weight: float
) -> list[Target]:
    """Targets of the answer that stands at character `offset`; `starts` are the tokens' offsets, ascending."""
    position = bisect_left(starts, offset)
    merged = ModelError(
        "this tokenizer merges a rating with the text around it: set tuning.history_weight to 0 for this model"
    )
    if position == 0 or position == len(starts) or starts[position] != offset:
        raise merged
    targets = []
    node: tuple[int, ...] = ()
    by_prefix = {choice.prefix: index for index, choice in enumerate(trie.choices)}
    while node in by_prefix:
        choice = trie.choices[by_prefix[node]]
        token = ids[position + len(node)] if position + len(node) < len(ids) else None
        if token not in choice.children:
            raise merged
        targets.append(Target(position + len(node) - 1, by_prefix[node], choice.children.index(token), weight))
        node += (token,)
    return targets


def make_examples(
    engine: TransformersEngine,
    trie: AnswerTrie,
    answers: Sequence[str],
    prompts: pl.DataFrame,
    chat: bool,
    settings: TuningSettings,
) -> list[Example]:
    """The examples of a prompts table. Raises ModelError when a prompt exceeds `cutoff_tokens`."""
    columns = ("prompt", "answer", "answer_offsets", "user_id", "label")
    examples = [
        replace(
            make_example(engine, trie, answers, prompt, answer, offsets, chat, settings.history_weight),
            user=user,
            is_liked=label == 1,
        )
        for prompt, answer, offsets, user, label in prompts.select(columns).iter_rows()
    ]
    longest = max((len(example.tokens) for example in examples), default=0)
    if longest > settings.cutoff_tokens:
        raise ModelError(
            f"a tuning prompt has {longest} tokens, more than tuning.cutoff_tokens={settings.cutoff_tokens}: "
            "raise it or lower retrieval.history_length"
        )
    return examples
