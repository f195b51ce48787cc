"""Pages: whatever sends a reader to one finds its heading, and the README leads to all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rallrec_pipeline.pipeline.checks.advice import ADVICE
from rallrec_pipeline.pipeline.checks.catalog import CHECKS
from rallrec_pipeline.pipeline.checks.verdict import PAGE, Verdict, advice, failure, row_told
from rallrec_pipeline_tests.conftest import REPOSITORY

PAGES = sorted([REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").glob("*.md")])
CODE = sorted((REPOSITORY / "rallrec_pipeline").rglob("*.py"))


def headings(page: Path) -> set[str]:
    """The anchors of a page, as they are made of its headings."""
    told = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in told}


def test_every_check_has_advice_and_a_heading_that_it_sends_to() -> None:
    names = {check.name for check in CHECKS}
    assert names <= ADVICE.keys() <= headings(REPOSITORY / PAGE)
    for check in CHECKS:
        assert advice(check, "shop").endswith(f"({PAGE}#{check.name})") and "{" not in advice(check, "shop")


def test_a_failure_says_figures_what_to_do_and_rows() -> None:
    rows = [row_told("a\n[b].csv\x1b", 3, "off"), row_told("y" * 999, None, "off")]
    told = failure(CHECKS[0], Verdict(False, {"share": 0.123456, "n": 3}, rows), "shop").splitlines()
    assert len(told) == 3 and told[0].startswith(f"check {CHECKS[0].name} of interactions failed (share 0.1235, n 3): ")
    assert told[1] == "  - a [b].csv, line 3: off" and len(told[2]) < 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in headings(other), f"{page.name}: {target}"


def test_messages_name_pages_and_headings_that_there_are() -> None:
    named = {
        (file.name, page, anchor)
        for file in CODE
        for page, anchor in re.findall(r"(docs/[\w-]+\.md)(?:#([\w-]+))?", file.read_text(encoding="utf-8"))
    }
    assert len(named) > 10
    for file, page, anchor in named:
        assert (REPOSITORY / page).exists(), f"{file}: {page}"
        assert not anchor or anchor in headings(REPOSITORY / page), f"{file}: {page}#{anchor}"


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = set(), [REPOSITORY / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        links = re.findall(r"\]\(([^)#\s]+\.md)", page.read_text(encoding="utf-8"))
        waiting += [path for link in links if (path := (page.parent / link).resolve()) not in reached and path.exists()]
    assert set(PAGES) <= reached
