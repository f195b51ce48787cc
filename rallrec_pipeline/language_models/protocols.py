"""What the stages ask of a language model, whatever engine runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Progress = Callable[[int, int], None]
"""Called with (done, total) as work goes on."""

CANDIDATES = 64
"""Sampling looks at this many most likely tokens: the whole vocabulary is never sorted."""


@dataclass
class Usage:
    """Work that an LLM has done; a prefix that prompts share is computed once and counted once."""

    rows: int = 0
    """Texts written, encoded or scored."""
    prompt_tokens: int = 0
    new_tokens: int = 0


@dataclass(frozen=True)
class Sampling:
    """How text is sampled."""

    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int


@dataclass(frozen=True)
class Written:
    """A text that was sampled."""

    text: str
    tokens: int
    """New tokens, without the one that ends it."""
    ended: bool
    """False where it was cut off at the most tokens."""


def part_of(progress: Progress | None, start: int, total: int) -> Progress | None:
    """Progress over the part of a list that begins at `start`, as progress over all `total` entries."""
    return None if progress is None else lambda done, _: progress(start + done, total)


class TextGenerator(Protocol):
    """Writes texts."""

    def generate(self, prompts: Sequence[str], sampling: Sampling, progress: Progress | None = None) -> list[str]:
        """One text per chat prompt, in order."""

    def write(
        self, prompts: Sequence[str], sampling: Sampling, thinks: bool = False, progress: Progress | None = None
    ) -> list[Written]:
        """One text per chat prompt, in order; equal prompts get different texts and share the reading of the prompt.

        An engine that writes them side by side calls `progress` with the texts that the work so far would make.

        With `thinks` a model whose template opens a thought goes on with it; without, it gets an empty one.
        """


class TextEncoder(Protocol):
    """Turns texts into vectors."""

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Mean-pooled last hidden states, shape (n, hidden), float32."""


class AnswerScorer(Protocol):
    """Reads answers off a prompt without generating."""

    def score(
        self,
        prompts: Sequence[str],
        answers: Sequence[str],
        chat: bool,
        progress: Progress | None = None,
        said: Sequence[str] | None = None,
    ) -> NDArray[np.float64]:
        """P(answer | prompt) among `answers`, shape (n, len(answers)), rows sum to one.

        `said` (n,) is what the assistant has said after each chat prompt before it answers, thoughts included.
        """


class Engine(TextGenerator, TextEncoder, AnswerScorer, Protocol):
    """A loaded model that does all three; `engines/choice.py` says which one a stage gets.

    Its prompts may be of any length up to the model's context; a longer one raises ModelError before any work is done.
    """

    usage: Usage
    """What it has done; whoever loads an engine may put a Usage of its own here, to count over several."""

    def switch(self, adapter: Path | None) -> bool:
        """Go on with another LoRA adapter, or with none; False where that needs the model to be loaded anew."""

    def close(self) -> None:
        """Free the weights and end the processes; may be called twice, and after a failure. No use after it."""
