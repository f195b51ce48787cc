"""What all runs of the harness have tried and lost: `docs/faults.json`, to which each run adds its figures.

Whoever mends what a run has lost writes by hand into the entry of the fault in that run what that was, as `mended`: the
loss stays, and is told as one of before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rallrec_pipeline.lake.files import read_json, write_json
from rallrec_pipeline.language_models.sizing.hardware import machine_name
from rallrec_pipeline.pipeline.origin import code_commit
from rallrec_pipeline_tests.pipeline.tiny import REPOSITORY

KEPT = REPOSITORY / "docs" / "faults.json"
LOSSES = ("rows_lost", "unnamed", "half_visible", "temporary", "not_healed")


@dataclass
class Tried:
    """How often a fault was tried in lakes of one LLM, and what was lost."""

    fault: str
    promise: str
    llm: str = ""
    times: int = 0
    rows_lost: int = 0
    """Finished rows of the LLM that were gone or made a second time."""
    unnamed: int = 0
    """Damaged files that nobody named."""
    half_visible: int = 0
    """Results or rows that were not what was written, though they had a name."""
    temporary: int = 0
    """Temporary files that were left after the next run."""
    not_healed: int = 0
    """Rounds after which the next run did not end as an undisturbed one."""

    def __add__(self, other: Tried) -> Tried:
        """Both together."""
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in ("times", *LOSSES)})

    @property
    def losses(self) -> int:
        """All of them."""
        return sum(getattr(self, name) for name in LOSSES)


def add(found: Sequence[Tried], seconds: float, path: Path = KEPT, started: str = "", cpu_seconds: float = 0) -> None:
    """Add the figures of a run to those of all runs before it; what was not tried is left out.

    A run that adds them after each round has its time of start (ISO 8601, UTC), by which they take the place of those
    that it added before. `cpu_seconds` are those of all its processes.
    """
    runs = read_json(path)["runs"] if path.exists() else []
    own = {
        "day": datetime.now(UTC).date().isoformat(),
        "started": started,
        "commit": code_commit(),
        "processor": machine_name(),
        "seconds": round(seconds),
        "cpu_seconds": round(cpu_seconds),
        "faults": [asdict(one) for one in found if one.times],
    }
    earlier = [run for run in runs if not started or run.get("started") != started]
    write_json(path, {"runs": [*earlier, own]})


def totals(path: Path = KEPT) -> list[dict[str, Any]]:
    """Of each fault and LLM what all runs together have tried and lost, as they came first; its latest promise.

    `mended` of the `losses` were seen before what they showed was mended.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for run in read_json(path)["runs"]:
        for one in run["faults"]:
            address = {"fault": one["fault"], "llm": one.get("llm", "")}
            known = found.setdefault((one["fault"], address["llm"]), address | {"times": 0, "losses": 0, "mended": 0})
            lost = sum(one[name] for name in LOSSES)
            known["promise"] = one["promise"]
            known["times"] += one["times"]
            known["losses"] += lost
            known["mended"] += lost if "mended" in one else 0
    return list(found.values())


def mended(path: Path = KEPT) -> list[str]:
    """What runs have shown that was mended since, in words."""
    return [
        f"{run['day']}, commit {run['commit']}: {one['mended']}"
        for run in read_json(path)["runs"]
        for one in run["faults"]
        if "mended" in one
    ]
