"""A random Llama of a few thousand weights, and examples for it: what does not depend on the weights needs no more."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rallrec_pipeline.language_models.answers import AnswerTrie, Choice
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.language_models.tokens import load_tokenizer
from rallrec_pipeline.settings import TuningSettings
from rallrec_pipeline.tuning.examples import Example, Target
from rallrec_pipeline.tuning.lora import add_adapter

PREFIX = tuple(range(40, 52))
"""Tokens that all examples begin with."""
# Three answers; the second and third begin alike.
TRIE = AnswerTrie((Choice((), (3, 4)), Choice((4,), (6, 7))), (((0, 0),), ((0, 1), (1, 0)), ((0, 1), (1, 1))))


def tiny_engine(model_path: Path, settings: TuningSettings) -> TransformersEngine:
    """Grouped queries, three layers, an adapter whose every matrix is random, the tokenizer of the small LLM."""
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        attn_implementation="sdpa",
    )
    engine = TransformersEngine(LlamaForCausalLM(config), _tokenizer(model_path), 64)
    add_adapter(engine, settings, seed=1)
    for name, parameter in engine.model.named_parameters():
        if "lora_B" in name:  # a fresh one is zero, which would hide half of the gradients
            torch.nn.init.normal_(parameter, std=0.2)
    return engine


def tiny_examples(n: int) -> list[Example]:
    """Examples of 17 to 40 tokens, supervised within the prefix, in the middle and at the end."""
    rng = np.random.default_rng(0)
    return [_example(rng) for _ in range(n)]


@functools.cache
def _tokenizer(model_path: Path) -> Any:
    return load_tokenizer(model_path)


def _example(rng: np.random.Generator) -> Example:
    tokens = PREFIX + tuple(int(token) for token in rng.integers(8, 64, rng.integers(5, 29)))
    ends = (5, len(tokens) - 4, len(tokens) - 1)
    targets = [Target(at, c, int(rng.integers(2)), w) for at, c, w in zip(ends, (0, 1, 0), (0.3, 0.5, 1), strict=True)]
    return Example(tokens, tuple(targets))
