"""Write what all runs of the harness have tried into docs/operate.md: python -m rallrec_pipeline_tests.faults.page"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rallrec_pipeline_tests.faults.kept import mended, totals
from rallrec_pipeline_tests.pipeline.tiny import REPOSITORY

PAGE = REPOSITORY / "docs" / "operate.md"
BEGIN, END = "<!-- of the harness: begin -->", "<!-- of the harness: end -->"


def table(faults: Sequence[dict[str, Any]]) -> str:
    """Fault, promise, LLM of the lakes, times tried and losses, in Markdown."""
    lines = ["| fault | promise | LLM | times tried | losses | of these mended since |", "|---|---|---|---:|---:|---:|"]
    for one in faults:
        figures = " | ".join(f"{one[name]:,}" for name in ("times", "losses", "mended"))
        lines.append(f"| {one['fault']} | {one['promise']} | {one['llm']} | {figures} |")
    return "\n".join(lines)


def with_table(page: str, faults: Sequence[dict[str, Any]], notes: Sequence[str] = ()) -> str:
    """The page with the table between its marks, and below it what was mended."""
    before, rest = page.split(BEGIN)
    shown = "\n\n".join([table(faults), *notes])
    return f"{before}{BEGIN}\n{shown}\n{END}{rest.split(END)[1]}"


def write_page() -> None:
    """Bring docs/operate.md up to docs/faults.json."""
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), totals(), mended()), encoding="utf-8")


if __name__ == "__main__":
    write_page()
