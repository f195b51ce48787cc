"""Answers as token paths: `Yes`/`No`, the digits of a scale, and scales whose answers need two tokens.

The answers form a trie over tokens. At each inner node the model's logits are normalised over the
node's children only, so P(answer) is the product of the choices on its path and the answers' sum is one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rallrec_pipeline.errors import ModelError

Tokenize = Callable[[str], list[int]]


@dataclass(frozen=True)
class Choice:
    """One inner node: after the tokens `prefix`, one of `children` follows."""

    prefix: tuple[int, ...]
    children: tuple[int, ...]


@dataclass(frozen=True)
class AnswerTrie:
    """`paths[a]` lists (index of choice, index of child) for answer `a`; `choices[0]` is the root."""

    choices: tuple[Choice, ...]
    paths: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def chains(self) -> list[tuple[int, ...]]:
        """Prefixes that must be appended to a prompt so that every inner node gets its logits."""
        prefixes = [choice.prefix for choice in self.choices]
        return [p for p in prefixes if not any(q != p and q[: len(p)] == p for q in prefixes)]


def answer_trie(answers: Sequence[str], tokenize: Tokenize) -> AnswerTrie:
    """The trie of `answers`; where one answer begins another (`1`, `10`) all end with a line's end.

    Raises ModelError when two answers have the same tokens.
    """
    paths = [tuple(tokenize(answer)) for answer in answers]
    if len(set(paths)) < len(paths) or not all(paths):
        raise ModelError(f"this tokenizer cannot tell the answers {list(answers)} apart")
    if any(p != q and q[: len(p)] == p for p in paths for q in paths):
        end = tuple(tokenize("\n"))
        paths = [_ended(p, paths, end) for p in paths]
    prefixes = sorted({path[:depth] for path in paths for depth in range(len(path))}, key=lambda p: (len(p), p))
    choices = tuple(_choice(prefix, paths) for prefix in prefixes)
    index = {choice.prefix: position for position, choice in enumerate(choices)}
    steps = tuple(
        tuple((index[p[:d]], choices[index[p[:d]]].children.index(p[d])) for d in range(len(p))) for p in paths
    )
    return AnswerTrie(choices, steps)


def _ended(path: tuple[int, ...], paths: Sequence[tuple[int, ...]], end: tuple[int, ...]) -> tuple[int, ...]:
    begins_another = any(other != path and other[: len(path)] == path for other in paths)
    return path + end if begins_another else path


def _choice(prefix: tuple[int, ...], paths: Sequence[tuple[int, ...]]) -> Choice:
    depth = len(prefix)
    following = {path[depth] for path in paths if len(path) > depth and path[:depth] == prefix}
    return Choice(prefix, tuple(sorted(following)))
