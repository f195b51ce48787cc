"""Tokens of texts by the model's own tokenizer, without loading transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.readiness import fetched_model

SAMPLE = 200  # texts that a mean is taken from
CHARACTERS_PER_TOKEN = 4.0
CHAT_TOKENS = 8  # a chat template puts so many behind each prompt, and before it where that part is not shared
MIN_SHARED = 8  # a shorter prefix is not computed once for all


@dataclass(frozen=True)
class Length:
    """Means over texts, in tokens."""

    whole: float = 0.0
    own: float = 0.0
    """Without the prefix that all share, which the engine computes once."""


def mean_length(run: StageRun, texts: Sequence[str], chat: bool = False) -> Length:
    """Mean tokens of a sample of `texts`; without a tokenizer a token has `CHARACTERS_PER_TOKEN` characters."""
    sample = [text for text in texts[:: max(1, len(texts) // SAMPLE)] if text][:SAMPLE]
    if not sample:
        return Length()
    added = CHAT_TOKENS if chat else 0
    tokens = _tokenized(run, sample)
    if tokens is None:
        whole = sum(map(len, sample)) / len(sample) / CHARACTERS_PER_TOKEN + added
        return Length(whole, whole)
    whole = sum(map(len, tokens)) / len(tokens)
    shared = _shared(tokens)
    return Length(whole + added, whole + added - (shared if shared >= MIN_SHARED else 0))


def _tokenized(run: StageRun, texts: Sequence[str]) -> list[list[int]] | None:
    folder = fetched_model(run.lake, run.settings)
    tokenizer = _tokenizer(folder / "tokenizer.json") if folder is not None else None
    if tokenizer is None:
        return None
    return [encoded.ids for encoded in tokenizer.encode_batch(list(texts), add_special_tokens=False)]


@lru_cache(maxsize=4)
def _tokenizer(file: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(file))
    except Exception:  # the library raises plain Exception, for a file that is not there too
        return None


def _shared(tokens: Sequence[Sequence[int]]) -> int:
    """Leading tokens that all texts share, at least one of each left over."""
    if len(tokens) < 2:
        return 0
    shortest = min(map(len, tokens))
    same = next((at for at in range(shortest) if len({text[at] for text in tokens}) > 1), shortest)
    return max(0, min(same, shortest - 1))
