"""What the reasoner is asked, and what leads from its thought to the answer."""

from __future__ import annotations

import pytest

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.reasoning.prompts import answer_position, opinion, reasoning_prompt

LIST = "Movie ratings of one user from 1 to 5.\nHeat:4\nAlien:"
ASKED = 'Movies: Heat (4 stars).\nJudging by this, will the user like the movie "Alien"?\nAnswer with Yes or No only.'


def test_a_list_of_ratings_is_asked_for_its_last_one(spec: DatasetSpec) -> None:
    prompt = reasoning_prompt(LIST, "rating", spec, "Think about the {items} like this {item} first.", "A hint.")
    assert (
        prompt.startswith(LIST + " ?\n") and "from 1 to 5?\nA hint.\nThink about the movies like this movie" in prompt
    )
    noted = LIST.replace("Alien:", "Note: A hint. They like it.\nAlien:")
    assert answer_position(LIST, prompt, "A hint.", "They\nlike it.", "rating", thinks=False) == (noted, None)
    assert answer_position(LIST, prompt, "", "", "rating", thinks=False) == (LIST, None)
    said = "They like it.\n</think>\n\nAlien:"
    assert answer_position(LIST, prompt, "A hint.", "They like it.", "rating", thinks=True) == (prompt, said)


def test_a_question_of_yes_and_no_asks_for_a_thought_instead(spec: DatasetSpec) -> None:
    prompt = reasoning_prompt(ASKED, "yes_no", spec, "Think first.")
    assert "only" not in prompt and prompt.endswith("Think first. End with Yes or No.")
    assert answer_position(ASKED, prompt, "", "So yes.", "yes_no", thinks=False) == (prompt, "So yes.\n\nAnswer:\n")
    assert answer_position(ASKED, prompt, "", " ", "yes_no", thinks=True) == (prompt, "</think>\n\n")


@pytest.mark.parametrize(
    ("p_yes", "says"),
    [
        (0.9, "is sure that this user likes"),
        (0.35, "finds it likely that this user does not like"),
        (0.45, "is not sure"),
    ],
)
def test_an_answer_is_told_in_graded_words(p_yes: float, says: str, spec: DatasetSpec) -> None:
    assert says in opinion(p_yes, spec)
