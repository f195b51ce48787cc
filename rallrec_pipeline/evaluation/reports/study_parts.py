"""Parts of a study's report: tables beside the published figures, curves over a setting, and claims held against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rallrec_pipeline.evaluation.measures.comparisons import claims as claimed
from rallrec_pipeline.evaluation.measures.comparisons import table
from rallrec_pipeline.evaluation.measures.measured import Measured
from rallrec_pipeline.evaluation.measures.metrics import HIGHER_IS_BETTER, METRICS
from rallrec_pipeline.evaluation.reports.papers import published_rows

Spec = Mapping[str, Any]
FIGURE_MEASURES = ("auc", "uauc", "log_loss")
"""What a figure may draw; the first where it names none."""


@dataclass(frozen=True)
class StudyParts:
    """What a study's file asks for besides the list of its rows.

    A table has `title`, `note`, `rows` (row -> key of the published row, or an empty text), `published` (key of the
    paper's table) and perhaps a `reference`; a figure `title`, `x`, `lines` (name -> x -> row) and perhaps a `measure`;
    a claim `says`, `better`, `than` (rows) and `by` (a measure). `paper_dataset` is the nearest dataset of the papers,
    or None.
    """

    tables: Mapping[str, Spec] = field(default_factory=dict)
    figures: Mapping[str, Spec] = field(default_factory=dict)
    claims: Sequence[Spec] = ()
    paper_dataset: str | None = None


def parts_told(parts: StudyParts, reference: str, measured: Measured, methods: Mapping[str, Spec]) -> dict[str, Any]:
    """`tables`, `figures` and `claims` of the report; `methods` are the figures by row."""
    return {
        "tables": {
            name: _table({"reference": reference} | dict(spec), measured, methods, parts.paper_dataset)
            for name, spec in parts.tables.items()
        },
        "figures": {name: _figure(spec, methods) for name, spec in parts.figures.items()},
        "claims": _claims(parts.claims, measured),
    }


def _table(spec: Spec, measured: Measured, methods: Mapping[str, Spec], paper_dataset: str | None) -> dict[str, Any]:
    """Rows with the published figures and the paired differences to the reference, corrected over this table."""
    reference = spec["reference"]
    paired = table(measured, {row: (row, reference) for row in spec["rows"] if row != reference})
    paper = published_rows(spec["published"]) if spec["published"] and paper_dataset else {}
    rows = []
    for row, key in spec["rows"].items():
        found = paper.get(key, {}).get(paper_dataset or "") if key else None
        told = {"row": row, "title": methods[row]["title"], "paired": paired.get(row), "published_as": key or None}
        rows.append(told | {"published": dict(zip(METRICS, found, strict=True)) if found else None})
    return {
        "title": spec["title"],
        "note": spec["note"],
        "reference": reference,
        "published_table": spec["published"] or None,
        "published_dataset": paper_dataset if paper else None,
        "rows": rows,
    }


def _figure(spec: Spec, methods: Mapping[str, Spec]) -> dict[str, Any]:
    """Of each line its points, by the x as the study names it: row, and figures with their intervals over users."""
    keys = [f"{name}{part}" for name in FIGURE_MEASURES for part in ("", "_se", "_ci")]
    lines = {
        name: [{"x": x, "row": row} | {key: methods[row].get(key) for key in keys} for x, row in line.items()]
        for name, line in spec["lines"].items()
    }
    return {"title": spec["title"], "x": spec["x"], "measure": spec.get("measure", FIGURE_MEASURES[0]), "lines": lines}


def _claims(claims: Sequence[Spec], measured: Measured) -> list[dict[str, Any]]:
    """Each claim with its paired difference, the better row minus the other, and whether it `holds`.

    It holds where the difference, by its own measure, is in its favour and significant after Holm's correction over all
    claims of the study, is `refuted` where it is significant the other way, and is `open` where nothing can be told.
    """
    asked = [(str(claim["better"]), str(claim["than"]), str(claim["by"])) for claim in claims]
    told = []
    for claim, found in zip(claims, claimed(measured, asked), strict=True):
        sign = 1 if claim["by"] in HIGHER_IS_BETTER else -1
        favours = found["difference"] * sign > 0
        verdict = "open" if not found["significant"] else "holds" if favours else "refuted"
        told.append(dict(claim) | {"verdict": verdict, "paired": {claim["by"]: found}})
    return told
