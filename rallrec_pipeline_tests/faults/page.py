"""Write what all runs of the harness have tried into docs/operate.md: python -m rallrec_pipeline_tests.faults.page"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rallrec_pipeline_tests.faults.kept import totals
from rallrec_pipeline_tests.pipeline.tiny import REPOSITORY

PAGE = REPOSITORY / "docs" / "operate.md"
BEGIN, END = "<!-- of the harness: begin -->", "<!-- of the harness: end -->"


def table(faults: Sequence[dict[str, Any]]) -> str:
    """Fault, promise, times tried and losses, in Markdown."""
    lines = ["| fault | promise | times tried | losses |", "|---|---|---:|---:|"]
    lines += [f"| {one['fault']} | {one['promise']} | {one['times']:,} | {one['losses']:,} |" for one in faults]
    return "\n".join(lines)


def with_table(page: str, faults: Sequence[dict[str, Any]]) -> str:
    """The page with the table between its marks."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{table(faults)}\n{END}{rest.split(END)[1]}"


def write_page() -> None:
    """Bring docs/operate.md up to docs/faults.json."""
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), totals()), encoding="utf-8")


if __name__ == "__main__":
    write_page()
