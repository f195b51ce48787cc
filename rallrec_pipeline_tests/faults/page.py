"""Write what the harness has tried into docs/operate.md: python -m rallrec_pipeline_tests.faults.page RESULTS.json"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


if __name__ == "__main__":
    found = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), found["faults"]), encoding="utf-8")
