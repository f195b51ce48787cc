"""Loss within users: its gradient is that of the whole batch, however it is cut up, and it orders a user's rows."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.language_models.answers import AnswerTrie, Choice
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.settings import TuningSettings
from rallrec_pipeline.tuning.batches import micro_batches
from rallrec_pipeline.tuning.examples import Example, Target
from rallrec_pipeline.tuning.loss import Accumulated, accumulate_gradient
from rallrec_pipeline.tuning.pairs import PairLoss, user_pairs
from rallrec_pipeline.tuning.train import _drawn_order, tune
from rallrec_pipeline_tests.tuning.tiny import TRIE, gradients, losses_by_hand, tiny_engine, tiny_examples

LIKED = (False, True, True)  # of the answers of TRIE, of which the last two begin alike
WHOLE = 10_000
Gradients = dict[str, torch.Tensor]


def of_users(examples: list[Example], users: int = 3) -> list[Example]:
    """The examples as rows of a few users, every other one liked, each answered at its last place."""
    return [
        replace(e, user=f"u{n % users}", is_liked=n % 2 == 0, answer_at=len(e.tokens) - 1)
        for n, e in enumerate(examples)
    ]


EXAMPLES = of_users(tiny_examples(13))
PAIR_LOSS = PairLoss.of(TRIE, LIKED, 0.7)


def gradient(
    engine: TransformersEngine, budget: int, pack: bool, pair_loss: PairLoss | None = PAIR_LOSS
) -> tuple[Accumulated, Gradients]:
    engine.model.zero_grad()
    done = accumulate_gradient(engine, EXAMPLES, TRIE, budget, pack, pair_loss)
    return done, gradients(engine)


def by_hand(engine: TransformersEngine) -> tuple[float, Gradients]:
    """One example at a time through the model as it is, and all pairs of one user in a double loop."""
    engine.model.zero_grad()
    losses, weights, rows = list[torch.Tensor](), 0.0, []
    for example in EXAMPLES:
        logits, own, weight = losses_by_hand(engine, example)
        losses, weights = losses + own, weights + weight
        other, liked = logits[example.answer_at, [3, 4]]  # tokens of the root
        rows.append((example, liked - other))
    pairs = [
        -torch.nn.functional.logsigmoid(one - other)
        for first, one in rows
        for second, other in rows
        if first.user == second.user and first.is_liked and not second.is_liked
    ]
    loss = torch.stack(losses).sum() / weights + 0.7 * torch.stack(pairs).mean()
    loss.backward()
    return loss.item(), gradients(engine)


@pytest.fixture(scope="module")
def tiny() -> TransformersEngine:
    engine = tiny_engine(TuningSettings(dropout=0.0))
    engine.model.train()
    return engine


@pytest.mark.parametrize(("budget", "pack"), [(WHOLE, False), (60, False), (WHOLE, True), (100, True), (20, True)])
def test_the_gradient_is_that_of_all_pairs_though_the_rows_lie_in_different_passes(
    tiny: TransformersEngine, budget: int, pack: bool
) -> None:
    loss, wanted = by_hand(tiny)
    done, found = gradient(tiny, budget, pack)
    assert done.loss == pytest.approx(loss, rel=1e-5) and done.pairs == len(user_pairs(EXAMPLES)) == 14
    assert found.keys() == wanted.keys()
    for name, grad in wanted.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-4, atol=1e-6 * float(grad.abs().max()))
    _, without = gradient(tiny, budget, pack, None)
    assert any((without[name] - grad).abs().max() > 1e-3 for name, grad in found.items()), "pairs count"


def test_both_passes_draw_the_same_dropout() -> None:
    """The logits of the first pass are those of the second, so one pass with a gradient by hand gives the same."""
    engine = tiny_engine(TuningSettings(dropout=0.4))
    engine.model.train()
    torch.manual_seed(5)
    done, found = gradient(engine, WHOLE, pack=False)
    engine.model.zero_grad()
    torch.manual_seed(5)
    plain = accumulate_gradient(engine, EXAMPLES, TRIE, WHOLE, pack=False)
    pulled = {n: found[n] - p.grad for n, p in engine.model.named_parameters() if p.grad is not None}
    engine.model.zero_grad()
    torch.manual_seed(5)
    (batch,) = micro_batches(EXAMPLES, WHOLE, pack=False)
    hidden = engine.backbone(input_ids=torch.from_numpy(batch.ids), use_cache=False).last_hidden_state.flatten(0, 1)
    logits = PAIR_LOSS.logits(hidden[batch.answers], engine.model.get_output_embeddings().weight)
    pairs = user_pairs(batch.examples)
    loss = -0.7 * torch.nn.functional.logsigmoid(logits[pairs[:, 0]] - logits[pairs[:, 1]]).mean()
    loss.backward()
    assert done.loss == pytest.approx(plain.loss + loss.item(), rel=1e-4)
    for name, parameter in engine.model.named_parameters():
        if parameter.grad is not None:
            scale = float(parameter.grad.abs().max())
            torch.testing.assert_close(pulled[name], parameter.grad, rtol=1e-3, atol=1e-4 * scale)


def test_without_a_pair_nothing_is_added_and_nothing_is_computed_twice(tiny: TransformersEngine) -> None:
    alone = [replace(e, user=f"u{n}") for n, e in enumerate(EXAMPLES)]
    found = []
    for pair_loss in (None, PAIR_LOSS):
        tiny.model.zero_grad()
        done = accumulate_gradient(tiny, alone, TRIE, WHOLE, True, pair_loss)
        found.append((done, {n: p.grad.clone() for n, p in tiny.model.named_parameters() if p.grad is not None}))
    (plain, before), (paired, after) = found
    assert plain == paired and paired.pairs == 0
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_pairs_are_of_one_user_a_liked_row_and_another() -> None:
    rows = [("a", True), ("b", False), ("a", False), ("b", False), ("a", True), ("c", True)]
    examples = [Example((1,), (), 0, user, liked) for user, liked in rows]
    assert user_pairs(examples).tolist() == [[0, 2], [4, 2]]
    assert user_pairs([]).shape == (0, 2)


def test_the_logit_is_that_of_the_probability_of_a_liked_answer() -> None:
    """Five answers of one token each, the last two of them liked."""
    trie = AnswerTrie((Choice((), (3, 4, 5, 6, 7)),), tuple(((0, n),) for n in range(5)))
    pair_loss = PairLoss.of(trie, (False, False, False, True, True), 1.0)
    rng = torch.Generator().manual_seed(0)
    hidden, head = torch.randn(6, 8, generator=rng), torch.randn(20, 8, generator=rng)
    p_liked = torch.softmax(hidden @ head[3:8].T, dim=1)[:, 3:].sum(dim=1)
    torch.testing.assert_close(pair_loss.logits(hidden, head), torch.logit(p_liked))


def test_answers_whose_first_token_says_nothing_are_refused() -> None:
    with pytest.raises(ModelError, match=r"tuning\.pair_weight"):
        PairLoss.of(TRIE, (False, True, False), 1.0)
    assert (PAIR_LOSS.liked, PAIR_LOSS.others) == ((4,), (3,))


def test_the_rows_of_a_user_come_one_after_another_and_each_once() -> None:
    examples = of_users(tiny_examples(40), users=7)
    orders = [_drawn_order(examples, np.random.default_rng(seed), users_together=True) for seed in (1, 2)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(40))
        users = [examples[place].user for place in order]
        assert 1 + sum(one != other for one, other in pairwise(users)) == 7
    assert orders[0].tolist() != orders[1].tolist()
    plain = _drawn_order(examples, np.random.default_rng(1), users_together=False)
    assert (plain == np.random.default_rng(1).permutation(40)).all(), "without pairs the order is what it was"


def test_tuning_with_pairs_sets_the_liked_row_of_a_user_above_the_other() -> None:
    """Supervised places that say nothing of liking: only pairs can tell the rows apart."""
    examples = [replace(e, targets=(Target(5, 0, 0, 1.0),)) for e in of_users(tiny_examples(12), users=3)]
    shares = []
    for weight in (0.0, 2.0):
        settings = TuningSettings(
            epochs=8, batch_size=6, dropout=0.0, patience=8, learning_rate=2e-2, tokens_per_batch=64, checkpoint_every=0
        )
        engine = tiny_engine(settings)
        pair_loss = PairLoss.of(TRIE, LIKED, weight) if weight else None
        result = tune(engine, examples, TRIE, iter(range(8)).__next__, settings, 1, pair_loss=pair_loss)
        assert (result.pairs > 0) == bool(weight) and result.best_epoch == 8
        engine.model.eval()
        with torch.no_grad():
            logits = [engine.model(input_ids=torch.tensor([e.tokens])).logits[0, e.answer_at] for e in examples]
        likings = torch.stack([row[4] - row[3] for row in logits])
        pairs = user_pairs(examples)
        shares.append(float((likings[pairs[:, 0]] > likings[pairs[:, 1]]).float().mean()))
    assert shares[1] > 0.9 > shares[0]
