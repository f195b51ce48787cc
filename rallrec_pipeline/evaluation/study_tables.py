"""Parts of a study's report: tables beside the published figures, and curves over a setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rallrec_pipeline.evaluation.metrics import METRICS
from rallrec_pipeline.evaluation.published import published_rows


def table_entry(
    spec: Mapping[str, Any],
    methods: Mapping[str, Mapping[str, Any]],
    compared: Mapping[str, Mapping[str, Any]],
    paper_dataset: str | None,
) -> dict[str, Any]:
    """One table: its rows with our figures, the published ones and the paired difference to the table's reference.

    `spec` has `title`, `note`, `rows` (row -> key of the published row, or an empty text), `published` (key of the
    paper's table) and `reference`. `methods` are the figures of the report by row, `compared` the paired
    differences of rows to the reference. `published` of a row is None where the paper has no such row or dataset.
    """
    paper = published_rows(spec["published"]) if spec["published"] and paper_dataset else {}
    rows = []
    for row, key in spec["rows"].items():
        found = paper.get(key, {}).get(paper_dataset or "") if key else None
        rows.append(
            {"row": row, "title": methods[row]["title"], "paired": compared.get(row)}
            | {"published_as": key or None, "published": dict(zip(METRICS, found, strict=True)) if found else None}
        )
    return {
        "title": spec["title"],
        "note": spec["note"],
        "reference": spec["reference"],
        "published_table": spec["published"] or None,
        "published_dataset": paper_dataset if paper else None,
        "rows": rows,
    }


def figure_entry(spec: Mapping[str, Any], methods: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One figure: of each line its points, by the x as the study names it: row, AUC and its interval."""
    lines = {name: [_point(x, row, methods[row]) for x, row in line.items()] for name, line in spec["lines"].items()}
    return {"title": spec["title"], "x": spec["x"], "lines": lines}


def _point(x: str, row: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    return {"x": x, "row": row} | {key: figures.get(key) for key in ("auc", "auc_se", "auc_ci", "uauc", "log_loss")}


def numeric(values: Sequence[str]) -> list[float] | None:
    """The values as numbers, or None where one of them is none: then they are names beside one another."""
    try:
        return [float(value) for value in values]
    except ValueError:
        return None
