"""Loss within users: of two rows of one user the liked one is to have the higher logit of being liked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.language_models.answers import AnswerTrie
from rallrec_pipeline.tuning.examples import Example


@dataclass(frozen=True)
class PairLoss:
    """Mean of -log sigmoid(logit of the liked row - logit of the other) over the pairs of a batch, times `weight`.

    A row's logit is log P(liked) - log P(not liked) at the first token of its answer; `liked` and `others` are the
    tokens that begin answers of either kind.
    """

    weight: float
    liked: tuple[int, ...]
    others: tuple[int, ...]

    @classmethod
    def of(cls, trie: AnswerTrie, is_liked: Sequence[bool], weight: float) -> PairLoss:
        """For answers of which `is_liked` says the kind. Raises ModelError where the first token does not tell it."""
        first = [path[0][1] for path in trie.paths]
        kinds = [
            {child for child, kind in zip(first, is_liked, strict=True) if kind is wanted} for wanted in (True, False)
        ]
        if kinds[0] & kinds[1]:
            raise ModelError(
                "with this tokenizer the first token of an answer does not tell whether it means liking: "
                "set tuning.pair_weight to 0 for this model, or take another label rule or answer form"
            )
        tokens = trie.choices[0].children
        liked, others = (tuple(tokens[child] for child in sorted(kind)) for kind in kinds)
        return cls(weight, liked, others)

    def logits(self, hidden: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
        """Logits (n,) float32 of rows whose answers are begun by `hidden` (n, d); `head` is (vocabulary, d)."""
        sides = (hidden.float() @ head[list(tokens)].float().T for tokens in (self.liked, self.others))
        liked, others = (side.logsumexp(dim=1) for side in sides)
        return liked - others

    def gradient(self, logits: torch.Tensor, pairs: torch.Tensor) -> tuple[float, torch.Tensor]:
        """The loss of `pairs` (p, 2), p above 0, of a liked and another row of `logits` (n,), and its gradient (n,)."""
        leaf = logits.detach().requires_grad_()
        margins = leaf[pairs[:, 0]] - leaf[pairs[:, 1]]
        loss = -self.weight * torch.nn.functional.logsigmoid(margins).mean()
        (gradient,) = torch.autograd.grad(loss, leaf)
        return loss.item(), gradient


def user_pairs(examples: Sequence[Example]) -> torch.Tensor:
    """Places (p, 2) of a liked and another example of one user, all of them."""
    by_user: dict[str, tuple[list[int], list[int]]] = {}
    for place, example in enumerate(examples):
        by_user.setdefault(example.user, ([], []))[not example.is_liked].append(place)
    pairs = [(one, other) for liked, others in by_user.values() for one in liked for other in others]
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
