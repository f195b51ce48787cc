"""Which settings, model, numbers and code a run works with: told in its tags, in metadata and on the report's page."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.language_models.dtypes import fetched_dtype, resolve_dtype
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.decisive import is_reported
from rallrec_pipeline.pipeline.readiness import model_record
from rallrec_pipeline.pipeline.stage import flat
from rallrec_pipeline.settings import Role, Settings, load_settings

NO_OVERLAY = Path(os.devnull)
PREFIX = "rallrec/"
SOURCE = Path(__file__).resolve().parents[2]
"""Where the package lies: the repository, if it was not installed elsewhere."""
GIT_S = 10


def origin_of(run: StageRun, role: Role) -> dict[str, str]:
    """Name of the profile or variant, of the model of `role`, and its number type."""
    settings = run.settings.in_role(role)
    dtype = resolve_dtype(fetched_dtype(settings.model, model_record(run.lake, settings)))
    return {"profile": run.settings.profile, "model": settings.model.name, "dtype": dtype}


def run_tags(run: StageRun) -> dict[str, str]:
    """The same of the model that is tuned and asked, and the lake, as tags of a run: they tell, and decide nothing."""
    told = origin_of(run, "predictor") | {"lake": str(run.lake)}
    return {f"{PREFIX}{name}": value for name, value in told.items()}


def provenance_of(run: StageRun, section: str) -> dict[str, Any]:
    """What a report is made from: the run, the settings of `section`, and every input by its versions."""
    stages = {
        name: {"data_version": record.data_version, "fingerprint": record.fingerprint, "run_id": record.run_id}
        for name, record in sorted(run.inputs.items())
    }
    settings = getattr(run.settings, section).model_dump(mode="json")
    return {"run_id": run.run_id, section: settings, "stages": stages}


def laid_over(run: StageRun) -> dict[str, Any]:
    """Settings of a run, by dotted name, that its profile or variant does not have by itself: of RALLREC_SETTINGS.

    What changes no figure of the report is left out.
    """
    try:
        alone = load_settings(run.settings.profile, lake=run.lake, overrides=NO_OVERLAY)
    except ConfigError:  # a variant of a study, or one whose file is gone
        return {}
    return differing(run.settings, alone)


def differing(settings: Settings, alone: Settings) -> dict[str, Any]:
    """What `settings` have otherwise than `alone` has it, by dotted name, of what changes a figure of the report."""
    seen, known = (flat(found.model_dump(mode="json")) for found in (settings, alone))
    return {name: value for name, value in seen.items() if known.get(name) != value and is_reported(name)}


def code_origin() -> str:
    """`rallrec-pipeline 0.1.0, commit 1a2b3c4d5e`; without a commit the version stands alone."""
    commit = code_commit()
    return f"rallrec-pipeline {version('rallrec-pipeline')}" + (f", commit {commit}" if commit else "")


@cache
def code_commit(folder: Path = SOURCE) -> str:
    """`1a2b3c4d5e`; `-dirty` follows where files were edited since. Empty without git, or without a repository."""
    if not (folder / ".git").exists():  # a repository further up is that of another project
        return ""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=GIT_S)
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()
