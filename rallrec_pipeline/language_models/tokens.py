"""From texts to token ids, the same for every engine: chat template, beginning of text, ends, longest sequence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.language_models.answers import AnswerTrie, answer_trie

ENCODED_TOKENS = 8192
"""Longest text that is encoded; the rest is cut off."""


class TokenizedModel:
    """The part of an engine that knows the model's tokenizer; `tokenizer` is that of transformers."""

    def __init__(self, tokenizer: Any, context_tokens: int, end_tokens: int | Sequence[int] | None) -> None:
        self.tokenizer = tokenizer
        self.context_tokens = context_tokens
        """Longest sequence that the model reads."""
        configured = [end_tokens] if isinstance(end_tokens, int) else list(end_tokens or ())
        own = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        self.end_tokens: list[int] = list(dict.fromkeys(map(int, [*configured, *own])))
        """Tokens that end a generated text."""
        self.begin_tokens = begin_tokens(tokenizer)
        """What stands before a text that goes through no chat template: the tokenizer's BOS token, if it adds one."""

    @property
    def fill(self) -> int:
        """Token that stands where there is none."""
        for token in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        return 0

    def tokenize(self, text: str) -> list[int]:
        """Token ids of `text` with nothing added."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def text_tokens(self, text: str) -> list[int]:
        """Token ids of a text that is encoded: at least one, at most `ENCODED_TOKENS` and the model's context."""
        tokens = [*self.begin_tokens, *self.tokenize(text)] or [self.fill]
        return tokens[: min(self.context_tokens, ENCODED_TOKENS)]

    def prompt_tokens(self, prompt: str, chat: bool) -> list[int]:
        """Token ids of a prompt; a chat prompt goes through the model's own template, which brings its BOS token."""
        if chat and self.tokenizer.chat_template is not None:
            return self.tokenize(self.chat_text(prompt))
        return [*self.begin_tokens, *self.tokenize(self.chat_text(prompt) if chat else prompt)]

    def chat_text(self, prompt: str) -> str:
        """`prompt` as the user's turn, up to where the assistant begins."""
        if self.tokenizer.chat_template is None:
            return prompt + "\n"
        turn = [{"role": "user", "content": prompt}]
        return str(self.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))

    def trie(self, answers: Sequence[str]) -> AnswerTrie:
        """Token paths of `answers`."""
        return answer_trie(answers, self.tokenize)

    def decode(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """Texts of generated tokens."""
        return [str(text) for text in self.tokenizer.batch_decode(sequences, skip_special_tokens=True)]

    def check_context(self, sequences: Sequence[Sequence[int]]) -> None:
        """Raise ModelError if a sequence is longer than the model's context."""
        longest = max(map(len, sequences), default=0)
        if longest > self.context_tokens:
            raise ModelError(
                f"a prompt of {longest} tokens exceeds the model's context of {self.context_tokens}: "
                "lower retrieval.history_length"
            )


def begin_tokens(tokenizer: Any) -> list[int]:
    """The BOS token that `tokenizer` puts before a text, as a list; empty where it puts none."""
    plain, whole = (list(tokenizer("a", add_special_tokens=add)["input_ids"]) for add in (False, True))
    begin = tokenizer.bos_token_id
    return [int(begin)] if begin is not None and whole[:1] == [begin] != plain[:1] else []


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder. Raises ModelError when there is no model, or none that can be read."""
    from transformers import AutoTokenizer

    if not (folder / "config.json").exists():
        raise ModelError(f"no model in {folder}: run `rallrec run DATASET --select base_model` first")
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise unreadable(folder, error) from error


def unreadable(folder: Path, error: Exception) -> ModelError:
    """A model or adapter that could not be loaded, in one line."""
    lines = str(error).strip().splitlines()
    return ModelError(f"cannot load the model in {folder}: {lines[0] if lines else type(error).__name__}")
