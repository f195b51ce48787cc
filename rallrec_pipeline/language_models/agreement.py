"""Whether two engines give the same answers: on P(yes), on its ranking, and on vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.language_models.protocols import Engine, Progress

MAX_DIFFERENCE = 0.02
MIN_RANK_CORRELATION = 0.99
MIN_COSINE = 0.999


@dataclass(frozen=True)
class Questions:
    """Prompts of one form; `liked` says which of `answers` mean liking."""

    prompts: Sequence[str]
    answers: Sequence[str]
    liked: Sequence[bool]
    chat: bool


@dataclass(frozen=True)
class Reading:
    """What an engine makes of prompts and texts."""

    p_yes: Sequence[NDArray[np.float64]]
    """Of each form of questions, shape (prompts,)."""
    vectors: NDArray[np.float32]
    """Shape (texts, hidden)."""


@dataclass(frozen=True)
class Agreement:
    """How far two engines are apart on the same prompts and texts."""

    prompts: int
    max_difference: float
    """Largest |ΔP(yes)|."""
    mean_difference: float
    rank_correlation: float
    """Spearman's, of P(yes) among prompts of one form; the lowest of all forms."""
    texts: int
    min_cosine: float
    """Smallest cosine between the two vectors of one text."""

    def __str__(self) -> str:
        return (
            f"{self.prompts} prompts: largest |ΔP(yes)| {self.max_difference:.5f}, mean {self.mean_difference:.5f}, "
            f"rank correlation {self.rank_correlation:.5f}; {self.texts} texts: least cosine {self.min_cosine:.6f}"
        )

    @property
    def problems(self) -> list[str]:
        """What is out of bounds, in words; nothing where the engines agree."""
        found = []
        if self.max_difference > MAX_DIFFERENCE:
            found.append(f"P(yes) differs by up to {self.max_difference:.4f}, more than {MAX_DIFFERENCE}")
        if self.rank_correlation < MIN_RANK_CORRELATION:
            found.append(f"the rankings correlate by {self.rank_correlation:.4f}, less than {MIN_RANK_CORRELATION}")
        if self.min_cosine < MIN_COSINE:
            found.append(f"vectors have a cosine of {self.min_cosine:.5f}, less than {MIN_COSINE}")
        return found


def read_engine(
    engine: Engine,
    forms: Sequence[Questions],
    texts: Sequence[str],
    progress: Callable[[str], Progress | None] = lambda what: None,
) -> Reading:
    """P(yes) of all questions and the vectors of all texts; `progress("prompts")` is told how far it is."""
    p_yes = [_p_yes(engine, form, progress("prompts")) for form in forms]
    return Reading(p_yes, engine.encode(texts, progress("texts")))


def compare(left: Reading, right: Reading) -> Agreement:
    """Agreement of two engines on the same questions and texts; what is not finite counts as the worst."""
    pairs = list(zip(left.p_yes, right.p_yes, strict=True))
    differences = np.concatenate([np.nan_to_num(np.abs(a - b), nan=np.inf) for a, b in pairs])
    return Agreement(
        prompts=len(differences),
        max_difference=float(differences.max()),
        mean_difference=float(differences.mean()),
        rank_correlation=min(_spearman(a, b) for a, b in pairs),
        texts=len(left.vectors),
        min_cosine=float(np.nan_to_num(_cosines(left.vectors, right.vectors), nan=-1.0).min()),
    )


def _p_yes(engine: Engine, form: Questions, progress: Progress | None) -> NDArray[np.float64]:
    found = engine.score(form.prompts, form.answers, form.chat, progress)
    return np.asarray(found[:, np.array(form.liked)].sum(axis=1))


def _spearman(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    from scipy.stats import spearmanr

    return float(np.nan_to_num(spearmanr(left, right).statistic, nan=0.0))


def _cosines(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    a, b = left.astype(np.float64), right.astype(np.float64)
    with np.errstate(invalid="ignore"):  # a vector of zeros has no cosine
        return np.asarray((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))
