"""The files of a report, of whatever kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rallrec_pipeline.evaluation.pages.csv_tables import methods_csv, slices_csv
from rallrec_pipeline.evaluation.pages.study_page import render_study
from rallrec_pipeline.evaluation.plots.report_plots import study_plots
from rallrec_pipeline.lake.files import write_json, write_text


def write_report(json_file: Path, report: Mapping[str, Any], texts: Mapping[Path, str]) -> list[Path]:
    """Write figures as JSON and the pages and CSV tables `texts` by path; returns all the files, JSON first."""
    write_json(json_file, report)
    for path, text in texts.items():
        write_text(path, text)
    return [json_file, *texts]


def write_study(folder: Path, name: str, report: Mapping[str, Any]) -> list[Path]:
    """Write a report of `build_study` as JSON, its page, and its tables as CSV; returns the files, JSON first."""
    texts = {
        folder / f"{name}.csv": methods_csv(report),
        folder / f"{name}_slices.csv": slices_csv(report),
        folder / f"{name}.html": render_study(report, study_plots(report)),
    }
    return write_report(folder / f"{name}.json", report, texts)
