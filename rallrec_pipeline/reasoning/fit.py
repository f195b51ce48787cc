"""Thoughts that fit the model's context: one that is too long loses its beginning and keeps what it concludes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rallrec_pipeline.lake.files import read_json
from rallrec_pipeline.language_models.tokens import TokenizedModel, load_tokenizer
from rallrec_pipeline.reasoning.prompts import AnswerPosition

ANSWER_TOKENS = 16
"""Kept free for the answer itself."""
_TEMPLATE_BYTES = 1024  # more than a chat template adds


class Fitted(NamedTuple):
    """Where an answer is read, and whether its thought was cut for that."""

    position: AnswerPosition
    cut: bool


def reading_model(folder: Path) -> TokenizedModel:
    """The tokenizer of the model in `folder`, with its context. Raises ModelError as `load_tokenizer` does."""
    context = int(read_json(folder / "config.json")["max_position_embeddings"])
    return TokenizedModel(load_tokenizer(folder), context, None)


def fit_thought(make: Callable[[str], AnswerPosition], thought: str, model: TokenizedModel) -> Fitted:
    """What `make` makes of `thought`, or of as much of its end as fits the context with everything else.

    Where nothing of it fits, the position is that without a thought: whether the prompt itself fits, its engine says.
    """
    position, kept = make(thought), thought
    while kept and (excess := _tokens(position, model) + ANSWER_TOKENS - model.context_tokens) > 0:
        ids = model.tokenize(kept)[excess:]
        shorter = model.decode([ids])[0].lstrip("\ufffd")  # half of a character is none
        kept = shorter if len(shorter) < len(kept) else kept[1:]
        position = make(kept)
    return Fitted(position, kept != thought)


def _tokens(position: AnswerPosition, model: TokenizedModel) -> int:
    """Tokens of a position; 0 where even one a byte would fit, which needs no tokenizer."""
    text = position.prompt + (position.said or "")
    if len(text.encode(errors="replace")) + _TEMPLATE_BYTES + ANSWER_TOKENS <= model.context_tokens:
        return 0
    said = None if position.said is None else [position.said]
    return len(model.prompts_tokens([position.prompt], said is not None, said)[0])
