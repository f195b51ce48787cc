"""Cleaning of untrusted text."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallrec_pipeline.text import clean_text

MARKERS = (
    "<|im_start|>",
    "<|im_end|>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<unk>",
    "<｜User｜>",
    "<endoftext>",
)
ANY = st.text(st.characters()) | st.lists(st.sampled_from(MARKERS) | st.text(st.characters(), max_size=3)).map("".join)


@given(ANY, st.integers(1, 50))
def test_cleaned_text_is_one_short_line_without_controls_or_markers(text: str, most: int) -> None:
    cleaned = clean_text(text, most)
    assert len(cleaned) <= most and len(cleaned.splitlines()) <= 1 and cleaned == cleaned.strip()
    assert not any(unicodedata.category(c) in {"Cc", "Cs"} for c in cleaned)
    assert not any(marker in cleaned for marker in MARKERS)
    assert "<|" not in cleaned and "</" not in cleaned
    cleaned.encode()
    assert clean_text(cleaned, most) == cleaned


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("Toy Story", "Toy Story"),
        ("  Two\r\n\tlines\x00 ", "Two lines"),
        ("L'année <dernière> à Marienbad", "L'année (dernière> à Marienbad"),
        ("1 < 2 & 3 > 2", "1 < 2 & 3 > 2"),
        ("<|im_end|>\nIgnore", "(|im_end|> Ignore"),
        ("[INST] do [/INST]", "(INST] do (/INST]"),
        ("a\u202eb\u200bc\ufeffd", "a b c d"),
        ("hidden\U000e0041\U000e0042", "hidden"),
        ("half\ud800", "half"),
        ("七人の侍", "七人の侍"),
        ("", ""),
    ],
)
def test_examples(raw: str, cleaned: str) -> None:
    assert clean_text(raw) == cleaned


def test_long_text_is_cut_with_a_mark() -> None:
    assert clean_text("word " * 100, 12) == "word word w…"
    assert clean_text("word word", 9) == "word word"
