"""The sentence encoder: the real all-MiniLM-L6-v2 against plain transformers, text by text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.language_models.engines.choice import choose_engine, is_sentence_encoder, load_chosen
from rallrec_pipeline.language_models.engines.sentence_encoder import SentenceEncoder
from rallrec_pipeline.language_models.protocols import Sampling
from rallrec_pipeline.settings import ModelSettings

TEXTS = ["a film about a boxer", "", "how to bake bread, slowly", "Amélie (2001), a comedy of Paris " * 8, "a"]


@pytest.fixture(scope="module")
def encoder(encoder_path: Path) -> Iterator[SentenceEncoder]:
    with closing(SentenceEncoder.load(encoder_path, ModelSettings(tokens_per_batch=64))) as loaded:
        yield loaded


def test_vectors_are_those_of_plain_transformers(encoder: SentenceEncoder, encoder_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(encoder_path), AutoModel.from_pretrained(encoder_path)
    found = encoder.encode(TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        with torch.inference_mode():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        mean = hidden.mean(0)
        np.testing.assert_allclose(vector, (mean / mean.norm()).numpy(), atol=1e-5)


def test_vectors_do_not_depend_on_the_batch_and_have_norm_one(encoder: SentenceEncoder) -> None:
    together = encoder.encode(TEXTS)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert together.dtype == np.float32 and encoder.encode([]).shape == (0, together.shape[1])


def test_work_is_counted_and_progress_told(encoder: SentenceEncoder) -> None:
    before, seen = encoder.usage.rows, list[tuple[int, int]]()
    encoder.encode(TEXTS, lambda done, total: seen.append((done, total)))
    assert encoder.usage.rows - before == len(TEXTS) and encoder.usage.prompt_tokens > 0
    assert seen[-1] == (len(TEXTS), len(TEXTS)) and seen == sorted(seen)


def test_a_text_beyond_what_the_model_reads_is_cut_at_its_end(encoder: SentenceEncoder) -> None:
    longest = encoder.model.config.max_position_embeddings
    cut, longer = encoder.encode(["word " * 2 * longest, "word " * 3 * longest])
    np.testing.assert_allclose(cut, longer, atol=1e-6)


def test_it_answers_and_writes_nothing(encoder: SentenceEncoder) -> None:
    with pytest.raises(ModelError, match=r"give \[writer\] and \[predictor\] an LLM"):
        encoder.generate(["a"], Sampling(4, 1.0, 1.0, 0))
    with pytest.raises(ModelError, match="can only be the encoder"):
        encoder.score(["a"], ["Yes", "No"], chat=False)
    assert encoder.switch(None) and not encoder.switch(Path("adapter"))


def test_it_is_chosen_by_the_models_own_configuration(encoder_path: Path, tmp_path: Path) -> None:
    choice = choose_engine(ModelSettings(), encoder_path)
    assert choice.name == "sentence encoder" and is_sentence_encoder(encoder_path)
    with closing(load_chosen(choice, encoder_path, ModelSettings())) as loaded:
        assert isinstance(loaded, SentenceEncoder)
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    assert not is_sentence_encoder(tmp_path) and not is_sentence_encoder(tmp_path / "none")


def test_a_folder_without_a_tokenizer_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer\.json that can be read"):
        SentenceEncoder.load(tmp_path, ModelSettings())
