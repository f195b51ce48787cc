"""A thought that is too long for the model's context loses its beginning, and nothing else is touched."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.language_models.tokens import TokenizedModel
from rallrec_pipeline.reasoning.fit import ANSWER_TOKENS, fit_thought, reading_model
from rallrec_pipeline.reasoning.prompts import AnswerPosition, answer_position
from rallrec_pipeline_tests.language_models.small_llama import NARROW, TEMPLATE, write_llama

PLAIN = "The user has rated films.\nHeat (5)\nWill the user like Alien?\nAnswer with Yes or No only."
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=300)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TokenizedModel:
    """A tokenizer of bytes whose template opens a thought, with a context of 320 tokens."""
    folder = write_llama(tmp_path_factory.mktemp("thinker"), NARROW, template=TEMPLATE + "<think>", begins=False)
    return TokenizedModel(reading_model(folder).tokenizer, 320, None)


def asked(thought: str) -> AnswerPosition:
    return answer_position(PLAIN, PLAIN, "", thought, "yes_no", thinks=True)


def length(position: AnswerPosition, model: TokenizedModel) -> int:
    return len(model.prompts_tokens([position.prompt], True, [position.said or ""])[0])


def test_a_thought_that_fits_is_left_as_it_is(model: TokenizedModel) -> None:
    assert fit_thought(asked, "He likes it.", model) == (asked("He likes it."), False)
    assert fit_thought(asked, "", model) == (asked(""), False)


def test_a_long_thought_keeps_its_end(model: TokenizedModel) -> None:
    thought = "I wonder about it. " * 60 + "So he likes it."
    found = fit_thought(asked, thought, model)
    assert found.cut
    said = (found.position.said or "").split("</think>")[0].strip()
    assert said.endswith("So he likes it.") and thought.endswith(said) and 0 < len(said) < len(thought)
    assert length(found.position, model) + ANSWER_TOKENS <= model.context_tokens


@settings(max_examples=40)
@given(TEXTS, st.integers(1, 12))
def test_whatever_is_thought_fits(model: TokenizedModel, text: str, times: int) -> None:
    found = fit_thought(asked, text * times, model)
    assert length(found.position, model) + ANSWER_TOKENS <= model.context_tokens


def test_a_prompt_that_does_not_fit_by_itself_is_left_to_its_engine(model: TokenizedModel) -> None:
    narrow = TokenizedModel(model.tokenizer, 20, None)
    found = fit_thought(asked, "A thought.", narrow)
    assert found == (asked(""), True)


def test_a_note_in_a_list_of_ratings_is_cut_too(model: TokenizedModel) -> None:
    lines = "Ratings of one user:\nHeat (3.7): 4\nAlien (4.1):"
    make = partial(answer_position, lines, lines, "", form="rating", thinks=False)
    found = fit_thought(make, "a b c d e f g " * 40, model)
    assert found.cut and found.position.said is None and "Note: " in found.position.prompt
    tokens = len(model.prompts_tokens([found.position.prompt], False)[0])
    assert tokens + ANSWER_TOKENS <= model.context_tokens


def test_the_context_is_that_of_the_models_configuration(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "model", NARROW)
    assert reading_model(folder).context_tokens == NARROW["max_position_embeddings"]
