"""The foot of a page: the command that makes it, and its tables as CSV."""

from __future__ import annotations

from typing import Any

from rallrec_pipeline.evaluation.pages.csv_tables import methods_csv, slices_csv
from rallrec_pipeline.evaluation.pages.page import data_uri
from rallrec_pipeline.evaluation.reports.wording import Report

BESIDE = {"dataset.html": "the dataset", "alignment_report.html": "the alignment of the vectors"}
"""Pages that lie in the same folder of the lake, with what they are about."""


def files_told(report: Report) -> dict[str, Any]:
    """`command`, under `csv` what each table is called, its file's name and its data URI, and pages `beside` this."""
    name = f"study_{report['study']}" if "study" in report else "evaluation"
    made_by = f"rallrec run {report['dataset']} --profile {report['profile']}"
    tables = {"methods": methods_csv(report), "slices": slices_csv(report)}
    return {
        "command": report["provenance"].get("command", made_by),
        "beside": BESIDE,
        "csv": {
            f"{table} as CSV": {"file": f"{name}_{table}.csv", "src": data_uri("text/csv;charset=utf-8", text.encode())}
            for table, text in tables.items()
        },
    }
