"""What is fresh, stale or missing, why, and what catching up would cost.

It only looks: it does no work and holds no lock. The LLM runs for some seconds where a calibration is asked for
(`speeds.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rallrec_pipeline.datasets.catalog import get_dataset
from rallrec_pipeline.errors import RallrecError, StaleArtefactError
from rallrec_pipeline.finite import finite
from rallrec_pipeline.lake.increments import Increment
from rallrec_pipeline.lake.locks import LLM, lock_holder
from rallrec_pipeline.lake.store import all_records, recorded_datasets
from rallrec_pipeline.pipeline.adoption import OLD, adopt_dataset
from rallrec_pipeline.pipeline.context import SHARED, StageRun
from rallrec_pipeline.pipeline.graph import EVERY_STAGE, STAGES
from rallrec_pipeline.pipeline.reporting.step_costs import step_costs, step_to_come
from rallrec_pipeline.pipeline.stage import ALL, Plan, everything, looking, plan_stages
from rallrec_pipeline.pipeline.status.cost import UNKNOWN, Estimate, estimate_llm, estimate_whole, total
from rallrec_pipeline.pipeline.status.pending import Pending, pending_rows
from rallrec_pipeline.pipeline.status.planned import planned_rows
from rallrec_pipeline.pipeline.status.speeds import Speeds
from rallrec_pipeline.pipeline.status.stage_memory import llm_memory, table_memory
from rallrec_pipeline.pipeline.status.verify import Verified
from rallrec_pipeline.recommendation.batch import CANDIDATES, CATALOGUE
from rallrec_pipeline.settings import Settings, essential

State = Literal["fresh", "stale", "missing"]


@dataclass(frozen=True)
class AssetStatus:
    """One asset of one dataset.

    `reasons` say what has changed; `waits_for` names inputs that are not fresh, so that the asset may yet turn out
    unchanged. `increment` is known for row-level stages with fresh inputs.
    """

    asset: str
    state: State
    reasons: list[str]
    waits_for: list[str]
    increment: Increment | None
    cost: Estimate
    memory: int | None = None
    """About how many bytes the stage takes; None where that is not known, or there is nothing to do."""


@dataclass(frozen=True)
class DatasetStatus:
    """All assets of a dataset, or the `error` that hides them; `held` names the process at work by what it holds."""

    dataset: str
    assets: list[AssetStatus]
    held: dict[str, str]
    error: str | None = None
    steps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What a million predictions take at each step of the cascade (`step_costs.py`)."""

    @property
    def total(self) -> Estimate:
        """Cost of making everything fresh."""
        return total(asset.cost for asset in self.assets)

    @property
    def memory(self) -> int | None:
        """Memory of the stage that takes most, since stages run one after another."""
        return max((asset.memory for asset in self.assets if asset.memory is not None), default=None)


def made_datasets(lake: Path) -> list[str]:
    """Datasets of which anything was ever made."""
    old = (path.name for path in (lake / OLD).glob("*") if path.is_dir())
    return sorted(name for name in {*recorded_datasets(lake), *old} if not name.startswith("_"))


def dataset_status(
    lake: Path, dataset: str, settings: Settings, speeds: Speeds | None = None, verify: bool = False
) -> DatasetStatus:
    """The status of one dataset under `settings`; an error in its TOML file or protocol is part of it.

    `speeds` may measure the model; without it only a calibration that is stored is used. `verify` has the bytes of all
    results looked at, not only their sizes and times.
    """
    speeds = speeds or Speeds(lake, settings)
    names = (dataset, SHARED, LLM)
    held = {name: holder for name in names if (holder := lock_holder(lake, name)) is not None}
    run = looking(lake, dataset, settings)
    try:
        get_dataset(dataset, lake, settings.protocol)
    except RallrecError as error:
        return DatasetStatus(dataset, [], held, str(error))
    adopt_dataset(run, STAGES)
    plans = plan_stages(run, EVERY_STAGE, verified=ALL if verify else None)
    plans = {name: plan for name, plan in plans.items() if name in STAGES or plan.record is not None}
    run = everything(run, plans)
    assets = [_asset_status(plan, run, speeds) for plan in plans.values()]
    return DatasetStatus(dataset, assets, held, steps=_steps(run) | _to_come(assets))


def _steps(run: StageRun) -> dict[str, dict[str, Any]]:
    """What each step took; of a variant that has recommended nothing yet, its expert's steps as another had them."""
    found = step_costs(run.inputs, run.settings)
    if "recommendations" in run.inputs:
        return found
    expert = _expert(essential(run.settings.recommendations))
    made = all_records(run.lake, run.dataset, "recommendations")
    newest = [one for one in made if _expert(one.settings.get("recommendations", {})) == expert][:1]
    others = [step_costs({"recommendations": one}, run.settings) for one in newest]
    return {name: one[name] for one in others for name in (CATALOGUE, CANDIDATES) if name in one} | found


def _expert(chosen: Mapping[str, Any]) -> Any:
    """The expert of `[recommendations]` without its defaults; None is the default."""
    return chosen.get("expert")


def _to_come(assets: Sequence[AssetStatus]) -> dict[str, dict[str, Any]]:
    """What a million predictions of the LLM for users will take, where they are not made yet."""
    late = next((one.cost.at_most for one in assets if one.asset == "recommendations" and one.state != "fresh"), None)
    return step_to_come(late.rows, late.tokens, late.seconds) if late is not None else {}


def status_as_json(found: Sequence[DatasetStatus], speeds: Speeds, verified: Verified | None = None) -> str:
    """One JSON document: datasets and their assets by name; rows, tokens, minutes and memory are estimates."""
    lake, settings = speeds.lake, speeds.settings
    datasets = {status.dataset: _dataset_as_json(status) for status in found}
    document = {"lake": str(lake), "profile": settings.profile, "datasets": datasets, "notes": speeds.notes}
    if verified is not None:
        document["verified"] = asdict(verified)
    return json.dumps(document, indent=2, ensure_ascii=False)


def _asset_status(plan: Plan, run: StageRun, speeds: Speeds) -> AssetStatus:
    name, waits = plan.stage.name, plan.waits_for
    if plan.is_fresh:
        return AssetStatus(name, "fresh", [], [], None, Estimate())
    state: State = "stale" if plan.record is not None else "missing"
    increment, cost, memory = _cost(plan, replace(run, previous=plan.before), speeds)
    return AssetStatus(name, state, plan.reasons, waits, increment, cost, memory)


def _cost(plan: Plan, run: StageRun, speeds: Speeds) -> tuple[Increment | None, Estimate, int | None]:
    stage = plan.stage
    if not stage.uses_llm:
        whole = estimate_whole(run.lake, plan.dataset, stage.name, bool(plan.reasons), not plan.waits_for)
        files = [path for record in plan.inputs.values() for path in record.paths(run.lake)]
        return None, whole, table_memory(stage, files)
    pending, cost = llm_cost(plan, run, speeds)
    if pending is None:
        return None, cost, None
    own = speeds.of(stage.role) if stage.role else speeds
    return pending.increment, cost, llm_memory(stage.name, pending, own) if pending.at_most else None


def llm_cost(plan: Plan, run: StageRun, speeds: Speeds) -> tuple[Pending | None, Estimate]:
    """What a stage would ask of the LLM, and what that costs; None where it cannot be counted."""
    stage, waits = plan.stage, plan.waits_for
    if stage.role:
        run, speeds = run.in_role(stage.role), speeds.of(stage.role)
    is_exact = not waits
    try:
        pending = pending_rows(stage.name, run, waits)
    except StaleArtefactError:  # a table that rows are counted in was never made
        pending, is_exact = planned_rows(stage.name, run), False
    except RallrecError:  # what the rows are made of is damaged
        pending = None
    return pending, UNKNOWN if pending is None else estimate_llm(run.dataset, stage.name, pending, is_exact, speeds)


def _dataset_as_json(status: DatasetStatus) -> dict[str, Any]:
    if status.error is not None:
        return {"error": status.error, "held": status.held}
    return {
        "held": status.held,
        "assets": {asset.asset: _asset_as_json(asset) for asset in status.assets},
        "total": _cost_as_json(status.total) | {"memory_bytes": status.memory},
        "steps": finite(status.steps),
    }


def _asset_as_json(asset: AssetStatus) -> dict[str, Any]:
    return {
        "state": asset.state,
        "reasons": asset.reasons,
        "waits_for": asset.waits_for,
        "rows": asdict(asset.increment) if asset.increment else None,
        "cost": _cost_as_json(asset.cost) | {"basis": asset.cost.basis, "memory_bytes": asset.memory},
    }


def _cost_as_json(cost: Estimate) -> dict[str, Any]:
    def amount(name: str) -> dict[str, Any]:
        found = getattr(cost, name)
        minutes = None if found.seconds is None else round(found.seconds / 60, 2)
        return {"rows": found.rows, "tokens": found.tokens, "minutes": minutes}

    return {"now": amount("now"), "at_most": amount("at_most"), "exact": cost.is_exact}
