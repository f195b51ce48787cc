"""Tables and claims of a study as its page tells them: figures beside the published ones, verdicts in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rallrec_pipeline.evaluation.reports.papers import PAPER_DATASETS, PAPER_TITLES
from rallrec_pipeline.evaluation.reports.wording import Report, direction, measure_title, stands_out

VERDICTS = {
    "holds": "told apart, in favour of the claim",
    "refuted": "told apart, against the claim",
    "open": "cannot be told apart on these rows",
}
_PAPERS = {"rallrec": "RALLRec", "rallrec_plus": "RALLRec+"}


def tables_told(report: Report) -> Iterator[dict[str, Any]]:
    """Each table with its rows; `source` is None where nothing published stands beside it."""
    for table in report["tables"].values():
        source, best = _source(table), winner(report, table)
        yield {
            "title": table["title"],
            "note": table["note"],
            "reference": report["methods"][table["reference"]]["title"],
            "source": source,
            "caveat": _caveat(report, table, source),
            "main": best,
            "rows": [_row(report, row, best) for row in table["rows"]],
        }


def claims_told(report: Report) -> Iterator[dict[str, Any]]:
    """Each claim with its difference and its verdict in words."""
    for claim in report["claims"]:
        found = claim["paired"][claim["by"]]
        undefined = found["difference"] is None
        yield {
            "says": claim["says"],
            "better": report["methods"][claim["better"]]["title"],
            "than": report["methods"][claim["than"]]["title"],
            "measure": measure_title(claim["by"]),
            "verdict": claim["verdict"],
            "words": "the difference is not defined" if undefined else VERDICTS[claim["verdict"]],
            "difference": found,
        }


def winner(report: Report, table: Mapping[str, Any]) -> str | None:
    """The row of the best AUC, where it is known to differ from the next.

    That is known where the whole study's best is told apart from its next, or where one of the two is the reference.
    """
    auc = {row["row"]: report["methods"][row["row"]]["auc"] for row in table["rows"]}
    if len(auc) < 2 or None in auc.values():
        return None
    best, following = sorted(auc, key=lambda row: -auc[row])[:2]
    if stands_out(report, best):
        return best
    paired = {row["row"]: row["paired"] for row in table["rows"]}
    with_reference = {best: following, following: best}.get(table["reference"])
    return best if with_reference and direction(paired[with_reference]["auc"]) else None


def _row(report: Report, row: Mapping[str, Any], best: str | None) -> dict[str, Any]:
    return {
        "figures": report["methods"][row["row"]],
        "published_as": row["published_as"]
        and PAPER_TITLES.get(row["published_as"], row["published_as"].replace("_", " ")),
        "published": row["published"],
        "difference": row["paired"] and row["paired"]["auc"],
        "main": row["row"] == best,
    }


def _source(table: Mapping[str, Any]) -> dict[str, str] | None:
    """The paper's table and dataset."""
    if not table["published_dataset"]:
        return None
    known = re.match(r"(rallrec(?:_plus)?)_table_(\d+)", table["published_table"])
    told = f"{_PAPERS[known[1]]}, table {known[2]}" if known else table["published_table"]
    return {"table": told, "dataset": PAPER_DATASETS.get(table["published_dataset"], table["published_dataset"])}


def _caveat(report: Report, table: Mapping[str, Any], source: Mapping[str, str] | None) -> str | None:
    if source is not None:
        return (
            f"Published: {source['table']}, on {source['dataset']}, with the paper's own models, split and samples."
            f" This run is on {report['dataset_title']}: the figures stand beside each other for orientation."
        )
    if table["published_table"]:
        return f"The papers report no dataset near {report['dataset_title']}, so nothing published stands beside it."
    return None
