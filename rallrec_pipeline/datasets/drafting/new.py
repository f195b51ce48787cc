"""`rallrec new`: from files to a TOML file that a check finds ready, or that says what a person has to decide."""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

from rallrec_pipeline.datasets.catalog import NAME, NAME_RULE
from rallrec_pipeline.datasets.checking.report import CheckReport, check_dataset
from rallrec_pipeline.datasets.drafting.draft import Draft
from rallrec_pipeline.datasets.drafting.roles import plan_of
from rallrec_pipeline.datasets.drafting.samples import read_sample, tables_in
from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.lake.files import atomic_path

CORES = (5, 3, 2, 1)
MOST_REJECTED = 0.2  # share of refused ratings that a draft may allow by itself
ROUNDS = 8


@dataclass(frozen=True)
class NewDataset:
    """What was written where, what a check of it says, and what a person has to decide."""

    path: Path
    report: CheckReport
    decisions: list[str]


def new_dataset(files: list[Path], out: Path, lake: Path, seed: int = 0) -> NewDataset:
    """Write the TOML file `out` of a dataset in `files`, and check it.

    What a check finds is mended where a setting mends it: smaller cores, a split by user, unknown items, refused rows.
    Raises ConfigError and DataError when the files or the place cannot be used.
    """
    if out.suffix != ".toml" or not NAME.fullmatch(out.stem):
        raise ConfigError(f"{out.name}: {NAME_RULE} and end in .toml")
    if out.exists():
        raise ConfigError(f"{out} is there already: delete it, or give another name")
    paths = tables_in([Path(os.path.abspath(file)) for file in files])
    base = Path(os.path.commonpath([path.parent for path in paths]))
    plan = plan_of([read_sample(path, base) for path in paths])
    if isinstance(plan, str):
        raise ConfigError(f"to decide: {plan}; then write the TOML file by hand (docs/datasets.md)")
    draft = Draft(plan, Path(os.path.abspath(out)), base)
    report = _settled(draft, lake, seed)
    with atomic_path(out) as temporary:
        temporary.write_text(draft.text(), encoding="utf-8")
    return NewDataset(out, report, [*plan.questions, *draft.decisions])


def _settled(draft: Draft, lake: Path, seed: int) -> CheckReport:
    """The report of the draft after the settings that a check asks for."""
    with TemporaryDirectory(prefix="rallrec-") as scratch:
        path = Path(scratch) / draft.out.name

        def checked() -> CheckReport:
            path.write_text(draft.text(path.parent), encoding="utf-8")
            return check_dataset(path, lake, seed)

        report = checked()
        for _ in range(ROUNDS):
            if not report.problems or draft.decisions or not _mended(draft, report):
                break
            report = checked()
        if report.problems and draft.core < CORES[0]:  # nothing has helped: as it was it tells most
            draft.core, draft.split = CORES[0], "time"
            report = checked()
    report.warnings[:] = [line for line in report.warnings if "starts at the file's own folder" not in line]
    return report


def _mended(draft: Draft, report: CheckReport) -> bool:
    """Whether one setting of the draft was changed for what the report has found."""
    problems = report.problems
    if any("does not list" in line for line in problems) and not draft.keep_unknown:
        draft.keep_unknown = True
        return True
    if any("max_rejected" in line for line in problems) and not draft.max_rejected:
        refused = {name: count for name, count in report.figures["refused"].items() if name.startswith("interactions")}
        total = report.figures["rows"]["interactions"]
        is_implicit = draft.scale is None or not draft.scale.steps
        harmless = ("where", "repeated") if is_implicit else ("where",)
        bad = sum(count for name, count in refused.items() if not any(word in name for word in harmless))
        share = ceil(100 * bad / max(1, total) + 1) / 100
        draft.max_rejected = share if share <= MOST_REJECTED else 0.0
        return bool(draft.max_rejected)
    if not any(line.startswith("protocol ") for line in problems):
        return False
    if draft.split == "time" and any("split has" in line for line in problems) and draft.time is not None:
        draft.split = "user"
        return True
    smaller = [core for core in CORES if core < draft.core]
    if smaller:
        draft.core, draft.split = smaller[0], "time"
    return bool(smaller)
