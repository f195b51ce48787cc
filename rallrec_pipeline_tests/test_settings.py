"""Settings: profiles, overrides, and one line for a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.settings import PROFILES, load_settings


@pytest.fixture(autouse=True)
def built_in_settings_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of the shared slice, or of the shell, must not lie over the profiles tested here."""
    for name in ("RALLREC_SETTINGS", "RALLREC_PROFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_every_profile_is_valid(profile: str) -> None:
    assert load_settings(profile).profile == profile


def test_the_paper_profile_holds_the_papers_settings() -> None:
    paper = load_settings("paper")
    assert (paper.tuning.rank, paper.tuning.alpha, paper.tuning.dropout) == (8, 16, 0.05)
    assert paper.tuning.modules == ("q_proj", "v_proj") and paper.tuning.batch_size == 256
    assert paper.retrieval.history_length == 30 and paper.prompts.answer_form == "yes_no" and not paper.prompts.facts
    assert paper.model.load_in_8bit and paper.collaborative.graph == "binary"
    assert (paper.mixture.text, paper.mixture.collaborative, paper.mixture.aligned) == (1, 1, 1)
    assert not paper.mixture.search and paper.descriptions.max_words == 80


def test_a_file_is_laid_over_the_profile_table_by_table(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[retrieval]\nhistory_length = 4\n", encoding="utf-8")
    mine, demo = load_settings("demo", file), load_settings("demo")
    assert mine.retrieval.history_length == 4 and mine.prompts == demo.prompts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[retrieval]\nhistory_length = 0\n", "retrieval.history_length"),
        ("[nothing]\na = 1\n", "nothing"),
        (
            "[retrieval]\nhistory_lenght = 4\n",
            "retrieval.history_lenght: there is no such key, did you mean history_length?",
        ),
        ("a = ", "mine.toml"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_settings("demo", file)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="demo, full, paper"):
        load_settings("tiny")
