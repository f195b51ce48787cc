"""The files of a report, of whatever kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rallrec_pipeline.lake.files import write_json, write_text


def write_report(json_file: Path, report: Mapping[str, Any], texts: Mapping[Path, str]) -> list[Path]:
    """Write figures as JSON and the pages and CSV tables `texts` by path; returns all the files, JSON first."""
    write_json(json_file, report)
    for path, text in texts.items():
        write_text(path, text)
    return [json_file, *texts]
