"""A random Llama of a few thousand weights, and examples for it: what does not depend on the weights needs no more."""

from __future__ import annotations

import numpy as np
import torch

from rallrec_pipeline.language_models.answers import AnswerTrie, Choice
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.settings import TuningSettings
from rallrec_pipeline.tuning.examples import Example, Target
from rallrec_pipeline.tuning.lora import add_adapter
from rallrec_pipeline_tests.language_models.small_llama import LLAMA_3_1, byte_tokenizer, random_llama

PREFIX = tuple(range(40, 52))
"""Tokens that all examples begin with."""
# Three answers; the second and third begin alike.
TRIE = AnswerTrie((Choice((), (3, 4)), Choice((4,), (6, 7))), (((0, 0),), ((0, 1), (1, 0)), ((0, 1), (1, 1))))


def tiny_engine(settings: TuningSettings) -> TransformersEngine:
    """Grouped queries, three layers, an adapter whose every matrix is random."""
    sizes = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 6}
    engine = TransformersEngine(random_llama(LLAMA_3_1 | sizes, seed=3), byte_tokenizer(), 64)
    add_adapter(engine, settings, seed=1)
    for name, parameter in engine.model.named_parameters():
        if "lora_B" in name:  # a fresh one is zero, which would hide half of the gradients
            torch.nn.init.normal_(parameter, std=0.2)
    return engine


def losses_by_hand(engine: TransformersEngine, example: Example) -> tuple[torch.Tensor, list[torch.Tensor], float]:
    """Logits of an example alone through the model as it is, losses of its targets, and the sum of their weights."""
    logits, losses = engine.model(input_ids=torch.tensor([example.tokens])).logits[0], []
    for target in example.targets:
        children = list(TRIE.choices[target.choice].children)
        losses.append(-target.weight * torch.log_softmax(logits[target.position, children], 0)[target.child])
    return logits, losses, sum(target.weight for target in example.targets)


def gradients(engine: TransformersEngine) -> dict[str, torch.Tensor]:
    """A copy of each gradient that there is, by the parameter's name."""
    return {n: p.grad.clone() for n, p in engine.model.named_parameters() if p.grad is not None}


def tiny_examples(n: int) -> list[Example]:
    """Examples of 17 to 40 tokens, supervised within the prefix, in the middle and at the end."""
    rng = np.random.default_rng(0)
    return [_example(rng) for _ in range(n)]


def _example(rng: np.random.Generator) -> Example:
    tokens = PREFIX + tuple(int(token) for token in rng.integers(8, 64, rng.integers(5, 29)))
    ends = (5, len(tokens) - 4, len(tokens) - 1)
    targets = [Target(at, c, int(rng.integers(2)), w) for at, c, w in zip(ends, (0, 1, 0), (0.3, 0.5, 1), strict=True)]
    return Example(tokens, tuple(targets))
