"""Sizes from config.json against the real weights and the published figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import safe_open

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.language_models.sizing.architecture import (
    KNOWN,
    LLAMA_8B,
    architecture_of,
    find_architecture,
    read_config,
)
from rallrec_pipeline.settings import ModelSettings, load_settings
from rallrec_pipeline_tests.language_models.small_llama import LLAMA_3_1

SMALL = ModelSettings().source


def test_the_small_llms_sizes_are_those_of_its_weights(model_path: Path) -> None:
    found = architecture_of(read_config(model_path))
    assert found == KNOWN[SMALL]
    with safe_open(model_path / "model.safetensors", "np") as weights:
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118
    stored = sum(shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in shapes)
    assert found.parameters == stored


def test_the_papers_models_have_their_published_sizes(built_in_settings_only: None) -> None:
    assert LLAMA_8B.parameters == 8_030_261_248
    assert KNOWN[load_settings("paper").model.source] == KNOWN["deepseek-ai/DeepSeek-R1-Distill-Llama-8B"] == LLAMA_8B


def test_what_a_config_leaves_out_follows_from_the_rest_or_is_named(tmp_path: Path) -> None:
    config = {k: v for k, v in LLAMA_3_1.items() if k != "num_key_value_heads"} | {"vocab_size": 100}
    found = architecture_of(config)
    assert (found.key_heads, found.head_width, found.is_tied) == (8, 8, False)
    assert architecture_of({"text_config": config, "vision_config": {}}) == found
    with pytest.raises(ModelError, match="num_hidden_layers"):
        architecture_of({**config, "num_hidden_layers": None})
    with pytest.raises(ModelError, match="no model in"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    assert find_architecture(tmp_path, SMALL) == KNOWN[SMALL] and find_architecture(tmp_path, "no/such") is None
