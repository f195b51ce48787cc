"""Reports of studies: those of the lake, and those that are kept as files after a lake is gone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rallrec_pipeline.evaluation.reports.kept import kept_form, require_kept
from rallrec_pipeline.evaluation.reports.wording import Report
from rallrec_pipeline.lake.files import read_json, write_json
from rallrec_pipeline.lake.sound import require_sound
from rallrec_pipeline.lake.store import read_record
from rallrec_pipeline.pipeline.origin import code_commit

_RESULT = 4  # parts of `results/<dataset>/<stage>/<fingerprint>`


def lake_studies(lake: Path) -> list[Report]:
    """The reports of all studies in the lake, each with its origin. Raises DamagedError for a damaged one."""
    return [_with_origin(file, lake) for file in sorted((lake / "reports").glob("*/study_*.json"))]


def kept_studies(folder: Path) -> list[Report]:
    """The kept reports in `folder`. Raises DataError for a file that is none."""
    return [require_kept(read_json(file), str(file)) for file in sorted(folder.glob("*.json"))]


def keep_studies(reports: Sequence[Report], folder: Path) -> list[Path]:
    """Write each report as `<dataset>-<study>.json`, one that is there is replaced; returns the files."""
    files = []
    for report in reports:
        kept = kept_form(report)
        kept["provenance"]["made"]["commit"] = code_commit()
        files.append(folder / f"{report['dataset']}-{report['study']}.json")
        write_json(files[-1], kept)
    return files


def _with_origin(file: Path, lake: Path) -> Report:
    require_sound([file])
    report: dict[str, Any] = read_json(file)
    return report | {"provenance": report["provenance"] | {"made": _origin(file, report, lake)}}


def _origin(file: Path, report: Report, lake: Path) -> dict[str, Any]:
    """When a report was made (None where no record says so) and the machines that its LLM stages ran on."""
    parts = Path(os.path.realpath(file)).relative_to(os.path.realpath(lake)).parts
    record = read_record(lake, *parts[1:_RESULT]) if parts[0] == "results" else None
    machines = set()
    for stages in report["provenance"].get("variants", {}).values():
        for stage, fingerprint in stages.items():
            made = read_record(lake, report["dataset"], stage, fingerprint)
            machines |= {made.metadata["machine"]} if made and "machine" in made.metadata else set()
    return {"at": record and record.created_at, "machines": sorted(machines)}
