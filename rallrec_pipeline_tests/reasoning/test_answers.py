"""Responses as reasoners write them: with and without think tags, cut off, empty, repeating, in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallrec_pipeline.reasoning.answers import MARKS, read_response, repeats

YES_NO = ("Yes", "No")
SCALE = ("1", "2", "3", "4", "5")


@pytest.mark.parametrize(
    ("text", "ended", "thought", "answer", "mark"),
    [
        ("They like war films.\n</think>\n\nYes", True, "They like war films.", "Yes", ""),
        ("<think>They like war films.</think>No.", True, "They like war films.", "No", ""),
        ("Yes or no? I think they do.</think>I cannot say.", True, "Yes or no? I think they do.", "", "no answer"),
        ("They like it, so yes", True, "They like it, so yes", "Yes", ""),
        ("First no, later YES.", True, "First no, later YES.", "Yes", ""),
        ("I have no idea whether this fits.", True, "I have no idea whether this fits.", "", "no answer"),
        ("Answer: No. It has no war in it at all", True, "Answer: No. It has no war in it at all", "No", ""),
        ("<think>They like it. Yes", False, "They like it. Yes", "", "cut off"),
        ("They like it very", False, "They like it very", "", "cut off"),
        ("thought</think>Yes, since", False, "thought", "Yes", "cut off"),
        ("", True, "", "", "empty"),
        ("  \n", False, "", "", "empty"),
        ("</think>", True, "", "", "empty"),
        ("again and again " * 40, False, ("again and again " * 40).strip(), "", "repeats"),
        ("na-" * 12, False, "na-" * 12, "", "repeats"),
        ("Nothing is known.", True, "Nothing is known.", "", "no answer"),
    ],
)
def test_yes_no_responses(text: str, ended: bool, thought: str, answer: str, mark: str) -> None:
    assert read_response(text, ended, "yes_no", YES_NO) == (thought, answer, mark)


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("4", "4"),
        ("I give it 4.0 of 5 stars, so 4", "4"),
        ("a 3.5", ""),
        ("3.5, say 4", "4"),
        ("17 of 20", ""),
        ("five", ""),
        ("They saw 3 films like it", ""),
        ("Rating: 4 out of 5", "4"),
        ("4/5", "4"),
        ("from 1 to 5 stars I cannot say", ""),
    ],
)
def test_the_last_number_of_the_scale_is_the_answer(said: str, answer: str) -> None:
    assert read_response(f"thought</think>{said}", True, "rating", SCALE).answer == answer


@given(st.text(), st.booleans())
def test_any_text_is_taken_apart(text: str, ended: bool) -> None:
    for form, answers in (("yes_no", YES_NO), ("rating", SCALE)):
        found = read_response(text, ended, form, answers)  # type: ignore[arg-type]
        assert found.answer in ("", *answers) and found.mark in ("", *MARKS)
        assert found.answer or found.mark


def test_a_long_text_of_new_words_does_not_repeat() -> None:
    assert not repeats(" ".join(f"word{n}" for n in range(300)))
    assert repeats("I think that they like it. " * 30) and repeats("ha " * 9) and not repeats("Great film!!!")


def test_a_model_that_thinks_answers_behind_its_thought_only() -> None:
    assert read_response("They like it. Yes", True, "yes_no", YES_NO, thinks=True).mark == "no answer"
    assert read_response("They like it.</think>Yes", True, "yes_no", YES_NO, thinks=True).answer == "Yes"
