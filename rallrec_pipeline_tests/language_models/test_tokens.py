"""The beginning-of-text token: where the tokenizer puts one, and never twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.language_models.protocols import Sampling
from rallrec_pipeline.language_models.tokens import TokenizedModel, load_tokenizer
from rallrec_pipeline.tuning.examples import make_example
from rallrec_pipeline_tests.language_models.small_llama import BEGIN, NARROW, TEMPLATE, byte_tokenizer, random_llama

RATINGS = "Heat: 4\nAlien: 5\nBig:"


def llama_engine(template: str | None = TEMPLATE) -> TransformersEngine:
    """A random Llama that reads BOS."""
    model = random_llama(NARROW | {"max_position_embeddings": 512})
    return TransformersEngine(model, byte_tokenizer(template), tokens_per_batch=256)


def test_plain_prompts_and_encoded_texts_begin_with_bos() -> None:
    engine = llama_engine()
    begin = engine.tokenizer.bos_token_id
    assert engine.begin_tokens == [begin]
    for tokens in (engine.prompt_tokens(RATINGS, chat=False), engine.text_tokens(RATINGS)):
        assert tokens == [begin, *engine.tokenize(RATINGS)] and tokens.count(begin) == 1
    assert engine.text_tokens("") == [begin]
    assert begin not in engine.tokenize("5")  # an answer stands in the middle of a text


def test_a_chat_prompt_has_the_bos_of_its_template_only() -> None:
    engine = llama_engine()
    begin = engine.tokenizer.bos_token_id
    tokens = engine.prompt_tokens("Hi", chat=True)
    assert tokens[0] == begin and tokens.count(begin) == 1
    assert engine.decode([tokens]) == ["[user]Hi[assistant]"]
    without = llama_engine(template=None)
    assert without.prompt_tokens("Hi", chat=True) == [begin, *without.tokenize("Hi\n")]


def test_a_tokenizer_without_bos_is_left_alone(engine: TransformersEngine) -> None:
    """SmolLM2 names a BOS token and does not put it before a text."""
    assert engine.begin_tokens == [] and engine.tokenizer.bos_token_id is not None
    assert engine.prompt_tokens(RATINGS, chat=False) == engine.text_tokens(RATINGS) == engine.tokenize(RATINGS)


def test_scores_and_vectors_are_those_of_the_text_with_bos() -> None:
    engine = llama_engine()
    ids = torch.tensor([[engine.tokenizer.bos_token_id, *engine.tokenize(RATINGS)]])
    with torch.inference_mode():
        output = engine.model(ids, output_hidden_states=True)
    digits = [engine.tokenize(answer)[0] for answer in "12345"]
    expected = torch.softmax(output.logits[0, -1, digits], -1).numpy()
    np.testing.assert_allclose(engine.score([RATINGS], list("12345"), chat=False)[0], expected, atol=1e-5)
    np.testing.assert_allclose(engine.encode([RATINGS])[0], output.hidden_states[-1][0].mean(0).numpy(), atol=1e-5)


def test_a_history_answer_is_supervised_at_its_place_behind_bos() -> None:
    engine = llama_engine()
    answers = list("12345")
    trie = engine.trie(answers)
    offsets = [RATINGS.index("4"), RATINGS.index("5")]
    example = make_example(engine, trie, answers, RATINGS, "3", offsets, chat=False, history_weight=0.1)
    assert example.tokens[0] == engine.tokenizer.bos_token_id
    first, second, final = example.targets
    for target, answer in ((first, "4"), (second, "5")):
        following = example.tokens[target.position + 1]
        assert [following] == engine.tokenize(answer)
        assert trie.choices[target.choice].children[target.child] == following
    assert final.position == len(example.tokens) - 1


def test_a_text_is_cut_at_the_context_and_a_prompt_is_refused() -> None:
    engine = llama_engine()
    assert len(engine.text_tokens("x" * 600)) == 512
    with pytest.raises(ModelError, match="context of 512"):
        engine.score(["x" * 512], ["1", "2"], chat=False)


def test_several_end_tokens_are_known_once() -> None:
    tokenizer = byte_tokenizer()
    end = tokenizer.eos_token_id
    assert TokenizedModel(tokenizer, 8, [7, end]).end_tokens == [7, end]
    assert TokenizedModel(tokenizer, 8, None).end_tokens == [end]


def test_a_broken_tokenizer_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="cannot load the model") as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("named", ["LlamaTokenizerFast", "PreTrainedTokenizerFast"])
def test_a_tokenizer_reads_as_its_file_says_whatever_class_is_named(named: str, tmp_path: Path) -> None:
    """DeepSeek-R1-Distill-Llama names the class of Llama 2, which puts its own pre-tokenizer in the file's place."""
    byte_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"tokenizer_class": named}), encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path)
    model = TokenizedModel(tokenizer, 512, None)
    assert model.decode([model.tokenize(RATINGS)]) == [RATINGS]
    assert model.begin_tokens == [tokenizer.convert_tokens_to_ids(BEGIN)]
    assert model.chat_text("Heat?") == f"{BEGIN}[user]Heat?[assistant]"


def test_a_model_that_thinks_first_gets_an_empty_thought() -> None:
    model = TokenizedModel(byte_tokenizer(TEMPLATE + "<think>\n"), 512, None)
    assert model.chat_text("Heat?").endswith("[assistant]<think>\n\n</think>\n\n")


def test_what_is_to_be_written_must_fit_too() -> None:
    engine = llama_engine()
    prompt = "long " * 90
    assert len(engine.generate([prompt], Sampling(4, 0.8, 0.9, seed=1))) == 1
    with pytest.raises(ModelError, match="with room for 100 more exceeds"):
        engine.generate([prompt], Sampling(100, 0.8, 0.9, seed=1))


def test_answers_are_read_as_they_stand_behind_a_prompt() -> None:
    """Llama 2 and Mistral put a space before a text of its own; behind a colon there is none."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {letter: number for number, letter in enumerate("▁\n:0123456789HeatYsNo")}
    tokenizer = Tokenizer(models.BPE(letters, []))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    model = TokenizedModel(PreTrainedTokenizerFast(tokenizer_object=tokenizer), 512, None)
    assert model.tokenize("4")[0] == letters["▁"]
    assert model.answer_tokens("4") == [letters["4"]] == model.tokenize("Heat:4")[-1:]
    first = model.trie(["1", "2", "10"]).choices[0]
    assert set(first.children) == {letters["1"], letters["2"]}
