"""What the papers published (`paper_tables.json`)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.evaluation.measures.metrics import METRICS

PAPER_DATASETS = {"bookcrossing": "BookCrossing", "movielens-1m": "MovieLens-1M", "amazon-movies": "Amazon-Movies"}
PAPER_TITLES = {
    "deepfm": "DeepFM",
    "xdeepfm": "xDeepFM",
    "dcn": "DCN",
    "autoint": "AutoInt",
    "llama3.1": "Llama-3.1-8B zero-shot",
    "rella": "ReLLa",
    "hybrid_score": "Hybrid-Score",
    "rallrec": "RALLRec",
    "rallrec_plus": "RALLRec+",
    "llama-3.1-8b-instruct": "Llama-3.1-8B-Instruct",
    "deepseek-r1-distill-llama-8b": "DeepSeek-R1-Distill-Llama-8B",
    "without_kp_without_cm": "neither told nor merged by consistency",
    "without_kp_with_cm": "merged by consistency, not told",
    "with_kp_without_cm": "told, not merged by consistency",
    "with_kp_with_cm": "told and merged by consistency",
}
_PAPER_TABLES = (
    ("rallrec", "rallrec_table_1_main", "table 1"),
    ("rallrec_plus", "rallrec_plus_table_4_main", "table 4"),
)


def paper_figures(paper_dataset: str | None) -> dict[str, Any]:
    """Published figures for `paper_dataset`: `rows` of RALLRec's table 1 and RALLRec+'s table 4; empty for None.

    Raises DataError for a name that is in no table.
    """
    if paper_dataset is None:
        return {"dataset": None, "title": None, "rows": []}
    if paper_dataset not in PAPER_DATASETS:
        raise DataError(f"the papers have no dataset {paper_dataset!r}: choose one of {', '.join(PAPER_DATASETS)}")
    tables = _paper_tables()
    rows = [
        {"paper": paper, "source": tables["sources"][paper], "table": number, "method": method}
        | {"title": PAPER_TITLES[method]}
        | dict(zip(METRICS, values[paper_dataset], strict=True))
        for paper, table, number in _PAPER_TABLES
        for method, values in tables[table].items()
    ]
    return {"dataset": paper_dataset, "title": PAPER_DATASETS[paper_dataset], "rows": rows}


def published_rows(table: str) -> dict[str, dict[str, list[float]]]:
    """Rows of one table: row -> dataset -> AUC, log loss, accuracy. Raises ValueError for a table that is none."""
    found = _paper_tables().get(table)
    if not _has_figures(found):
        known = ", ".join(name for name, content in _paper_tables().items() if _has_figures(content))
        raise ValueError(f"the papers have no table {table!r}: there are {known}")
    rows: dict[str, dict[str, list[float]]] = found  # type: ignore[assignment]
    return rows


def published_tokens(paper_dataset: str | None) -> float | None:
    """Table 7 of RALLRec+: tokens of a response on that dataset; None where no paper is near."""
    found: dict[str, float] = _paper_tables()["rallrec_plus_table_7_tokens_per_response"]
    return found.get(paper_dataset or "")


@cache
def _paper_tables() -> dict[str, Any]:
    text = Path(__file__).with_name("paper_tables.json").read_text(encoding="utf-8")
    tables: dict[str, Any] = json.loads(text)
    return tables


def _has_figures(content: object) -> bool:
    rows = list(content.values()) if isinstance(content, dict) else []
    return bool(rows) and all(isinstance(row, dict) and all(isinstance(v, list) for v in row.values()) for row in rows)
