"""From texts to token ids, the same for every engine: chat template, beginning of text, ends, longest sequence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.language_models.answers import AnswerTrie, answer_trie

ENCODED_TOKENS = 8192
"""Longest text that is encoded; the rest is cut off."""
THINKING, THOUGHT = "<think>", "</think>"
"""What opens and what closes the thought of a model that reasons."""
SHORTEST = 3  # a model may take "!" for its end, which a title may have
TAG = re.compile(r"[<\[]\S+[>\]]")
PROBE = "Ratings of one user:\nHeat (3.7): 4\n"
"""Spaces, a line end, figures and signs as prompts have them."""


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
        self._own = own_tokens(tokenizer)
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

    def harmless(self, text: str) -> str:
        """`text` of the same length, in which nothing is one of the tokenizer's own tokens, as the end of a turn is.

        Titles are cleaned before they come into a prompt; this holds for whatever a prompt is made of, and for every
        tokenizer. A text without such tokens stays as it is.
        """
        return self._own.sub(lambda found: "(" + found[0][1:], text) if self._own is not None else text

    def text_tokens(self, text: str) -> list[int]:
        """Token ids of a text that is encoded: at least one, at most `ENCODED_TOKENS` and the model's context."""
        tokens = [*self.begin_tokens, *self.tokenize(self.harmless(text))] or [self.fill]
        return tokens[: min(self.context_tokens, ENCODED_TOKENS)]

    def prompt_tokens(self, prompt: str, chat: bool, thinks: bool = False) -> list[int]:
        """Token ids of a prompt; a chat prompt goes through the model's own template, which brings its BOS token."""
        prompt = self.harmless(prompt)
        if chat and self.tokenizer.chat_template is not None:
            return self.tokenize(self.chat_text(prompt, thinks))
        return [*self.begin_tokens, *self.tokenize(self.chat_text(prompt) if chat else prompt)]

    def chat_text(self, prompt: str, thinks: bool = False) -> str:
        """`prompt` as the user's turn, up to where the assistant begins.

        A template that lets the assistant think first gets an empty thought: what follows is the answer. With `thinks`
        the thought is left open.
        """
        if self.tokenizer.chat_template is None:
            return prompt + "\n"
        turn = [{"role": "user", "content": prompt}]
        text = str(self.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))
        opened = text.rstrip().endswith(THINKING)
        return f"{text.rstrip()}\n\n{THOUGHT}\n\n" if opened and not thinks else text

    def prompts_tokens(self, prompts: Sequence[str], chat: bool, said: Sequence[str] | None = None) -> list[list[int]]:
        """Token ids of prompts; `said` follows each chat prompt as the assistant's own words."""
        if said is None:
            return [self.prompt_tokens(prompt, chat) for prompt in prompts]
        return [
            [*self.prompt_tokens(prompt, chat=True, thinks=True), *self.tokenize(words)]
            for prompt, words in zip(prompts, said, strict=True)
        ]

    def trie(self, answers: Sequence[str]) -> AnswerTrie:
        """Token paths of `answers`."""
        return answer_trie(answers, self.answer_tokens)

    def answer_tokens(self, text: str) -> list[int]:
        """Token ids of `text` behind a prompt: without the space that some tokenizers put before a text of its own."""
        before, whole = self.tokenize("\n"), self.tokenize("\n" + text)
        return whole[len(before) :] if whole[: len(before)] == before else self.tokenize(text)

    def decode(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """Texts of generated tokens."""
        return [str(text) for text in self.tokenizer.batch_decode(sequences, skip_special_tokens=True)]

    def check_context(self, sequences: Sequence[Sequence[int]], more: int = 0) -> None:
        """Raise ModelError if a sequence, with `more` tokens to come, is longer than the model's context."""
        longest = max(map(len, sequences), default=0)
        if longest + more > self.context_tokens:
            room = f" with room for {more} more" if more else ""
            raise ModelError(
                f"a prompt of {longest} tokens{room} exceeds the model's context of {self.context_tokens}: "
                "lower retrieval.history_length"
            )


def opens_thought(folder: Path) -> bool:
    """Whether the chat template of the model in `folder` lets the assistant begin with a thought."""
    model = TokenizedModel(load_tokenizer(folder), 0, None)
    return model.chat_text("", thinks=True).rstrip().endswith(THINKING)


def own_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    """What a tokenizer reads as one token of its own wherever it stands: special tokens, and tags as `<think>`."""
    added = tokenizer.added_tokens_decoder.values()
    names = {str(token) for token in added if token.special or TAG.fullmatch(str(token))} | set(
        tokenizer.all_special_tokens
    )
    longest_first = sorted((name for name in names if len(name) >= SHORTEST and name.strip()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def begin_tokens(tokenizer: Any) -> list[int]:
    """The BOS token that `tokenizer` puts before a text, as a list; empty where it puts none."""
    plain, whole = (list(tokenizer("a", add_special_tokens=add)["input_ids"]) for add in (False, True))
    begin = tokenizer.bos_token_id
    return [int(begin)] if begin is not None and whole[:1] == [begin] != plain[:1] else []


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder. Raises ModelError when there is no model, or none that can be read."""
    from transformers import AutoTokenizer

    if not (folder / "config.json").exists():
        raise ModelError(f"no model in {folder}: run `rallrec run DATASET --select writer,encoder,predictor` first")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        return tokenizer if _reads_as_saved(tokenizer, folder) else _as_saved(folder)
    except (OSError, ValueError) as error:
        raise unreadable(folder, error) from error


def _reads_as_saved(tokenizer: Any, folder: Path) -> bool:
    """Whether `tokenizer` gives the ids of the folder's own tokenizer.json.

    The class that a model names may read otherwise: DeepSeek-R1-Distill-Llama names that of Llama 2, which in
    transformers 5 puts its own pre-tokenizer in the place of the file's, and loses spaces and line ends.
    """
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.exists():
        return True
    saved = Tokenizer.from_file(str(file)).encode(PROBE, add_special_tokens=False).ids
    return list(tokenizer(PROBE, add_special_tokens=False)["input_ids"]) == list(saved)


def _as_saved(folder: Path) -> Any:
    """The tokenizer of tokenizer.json. Raises ModelError when it still reads otherwise."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    if not _reads_as_saved(tokenizer, folder):
        raise ModelError(f"the tokenizer in {folder} does not read as its tokenizer.json says: save it again")
    return tokenizer


def unreadable(folder: Path, error: Exception) -> ModelError:
    """A model or adapter that could not be loaded, in one line."""
    lines = str(error).strip().splitlines()
    return ModelError(f"cannot load the model in {folder}: {lines[0] if lines else type(error).__name__}")
