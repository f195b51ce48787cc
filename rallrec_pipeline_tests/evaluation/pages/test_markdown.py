"""Text from data in Markdown stays text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rallrec_pipeline.evaluation.pages.markdown import code, plain, short, table

HOSTILE = "a|b `c` <img src=x onerror=alert(1)> [d](http://e)\n# f \\| *g*"


def test_hostile_text_is_one_cell_of_one_line() -> None:
    assert plain("a|b <i>\n# *c*") == r"a\|b &lt;i&gt; \# \*c\*"
    assert code("a|b `c`\nd") == "`a¦b 'c' d`" and code(None) == code("") == "`–`"
    lines = table(["one", "two"], [[plain(HOSTILE), code(HOSTILE)]])
    assert len(lines) == 3 and lines[2].replace("\\|", "").count("|") == 3
    assert "<" not in plain(HOSTILE) and code(HOSTILE).count("`") == 2


def test_only_long_values_are_cut() -> None:
    assert short("x" * 24) == f"`{'x' * 24}`" and short("x" * 25) == f"`{'x' * 12}…`" and short(None) == "`–`"


@given(st.text())
def test_any_text_stays_on_its_line(text: str) -> None:
    assert len(plain(text).splitlines()) <= 1 and len(code(text).splitlines()) == 1
