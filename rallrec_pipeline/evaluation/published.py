"""The papers' figures, as published (`paper_tables.json`)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def paper_tables() -> dict[str, Any]:
    """All tables of both papers by key; those of figures: row -> dataset -> AUC, log loss, accuracy."""
    text = Path(__file__).with_name("paper_tables.json").read_text(encoding="utf-8")
    tables: dict[str, Any] = json.loads(text)
    return tables


def published_rows(table: str) -> dict[str, dict[str, list[float]]]:
    """Rows of one table: row -> dataset -> AUC, log loss, accuracy. Raises ValueError for a table that is none."""
    found = paper_tables().get(table)
    if not _has_figures(found):
        known = ", ".join(name for name, content in paper_tables().items() if _has_figures(content))
        raise ValueError(f"the papers have no table {table!r}: there are {known}")
    rows: dict[str, dict[str, list[float]]] = found  # type: ignore[assignment]
    return rows


def _has_figures(content: object) -> bool:
    rows = list(content.values()) if isinstance(content, dict) else []
    return bool(rows) and all(isinstance(row, dict) and all(isinstance(v, list) for v in row.values()) for row in rows)
