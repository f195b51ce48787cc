"""Answers as token paths, on the real tokenizer."""

from __future__ import annotations

import numpy as np
import pytest

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.language_models.answers import answer_trie
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine

SCALE_10 = [str(n) for n in range(1, 11)]


def by_letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def test_single_token_answers_need_one_choice() -> None:
    trie = answer_trie(["a", "b"], by_letters)
    assert len(trie.choices) == 1 and trie.chains == [()]
    assert trie.choices[0].children == (97, 98)


def test_an_answer_that_begins_another_ends_with_the_terminator() -> None:
    trie = answer_trie(["1", "2", "10"], by_letters)
    one, _, ten = trie.paths
    assert [trie.choices[c].prefix for c, _ in one] == [(), (ord("1"),)]
    assert trie.choices[one[1][0]].children == tuple(sorted((ord("0"), ord("\n"))))
    assert one[0] == ten[0] and one[1] != ten[1]
    assert trie.chains == [(ord("1"),)]


def test_equal_answers_are_refused() -> None:
    with pytest.raises(ModelError, match="apart"):
        answer_trie(["a", "a"], by_letters)


def test_probabilities_of_a_ten_point_scale_follow_the_chain_rule(engine: TransformersEngine) -> None:
    """Against a plain forward pass per answer, node by node."""
    import torch

    prompt = "Book ratings from 1 to 10:\nDune:9\nEmma:"
    found = engine.score([prompt], SCALE_10, chat=False)[0]
    assert found.sum() == pytest.approx(1.0, abs=1e-5)
    trie = engine.trie(SCALE_10)
    expected = []
    for path in trie.paths:
        log = 0.0
        for node, child in path:
            choice = trie.choices[node]
            ids = torch.tensor([engine.tokenize(prompt) + list(choice.prefix)])
            with torch.inference_mode():
                logits = engine.model(ids).logits[0, -1].float()
            log += torch.log_softmax(logits[list(choice.children)], -1)[child].item()
        expected.append(np.exp(log))
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-5)
