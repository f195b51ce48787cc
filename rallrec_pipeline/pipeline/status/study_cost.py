"""What a study will ask of the LLM, in words, before its first stage.

What is kept is not counted, and what variants share is counted once. Where its inputs are still to be made, a result is
told from others by all that decides it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace

from rallrec_pipeline.evaluation.reports.wording import counted, duration
from rallrec_pipeline.inference.methods import methods
from rallrec_pipeline.lake.provenance import stable_hash
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.stage import Graph, Plan, everything, plan_stages
from rallrec_pipeline.pipeline.status.cost import OTHERS, THIS_DATASET, Estimate, total
from rallrec_pipeline.pipeline.status.pending import Pending
from rallrec_pipeline.pipeline.status.speeds import CALIBRATED, Speeds
from rallrec_pipeline.pipeline.status.status import llm_cost
from rallrec_pipeline.settings import Settings

ASKED = {
    "description": ("to write", ("item_descriptions",)),
    "text": ("to encode", ("title_embeddings", "description_embeddings")),
    "adapter": ("to tune", ("lora_adapter",)),
    "prompt": ("to score", ("predictions",)),
    "response": ("to sample", ("reasoning_traces",)),
    "answer": ("to read", ("reasoned_predictions",)),
}
"""What is counted: how it is asked for, and by which stages."""
MEASURED = (CALIBRATED, THIS_DATASET, OTHERS)
"""Where a speed is from that was measured on this machine."""
Cost = tuple[Pending | None, Estimate]


def study_cost(run: StageRun, graph: Graph, variants: Iterable[tuple[Settings, Sequence[str]]]) -> list[str]:
    """A line for each kind of work that is left to do; nothing where all is kept.

    `variants` are the settings of each and the stages that it needs. A line tells seconds where the speed of its stages
    was measured on this machine.
    """
    costs: dict[str, list[Cost]] = {}
    seen: set[str] = set()
    for settings, stages in variants:
        own = replace(run, settings=settings, log=lambda _: None)
        plans = plan_stages(own, graph, stages)
        own, speeds, addresses = everything(own, plans), Speeds(run.lake, settings), _addresses(plans)
        for name, plan in plans.items():
            if not plan.stage.uses_llm or plan.is_fresh:
                continue
            asked = _unseen_methods(own, plan, addresses, seen) if name == "predictions" else own
            if asked is not None and addresses[name] not in seen:
                costs.setdefault(name, []).append(llm_cost(plan, replace(asked, previous=plan.before), speeds))
            seen.add(addresses[name])
    return [line for kind in ASKED for line in _told(kind, costs)]


def _addresses(plans: Mapping[str, Plan]) -> dict[str, str]:
    """What tells a result from others: its content, else all that decides it."""
    found: dict[str, str] = {}
    for name, plan in plans.items():
        given = [found[one] for one in plan.stage.inputs]
        known = plan.result.data_version if plan.is_fresh and plan.result is not None else ""
        found[name] = known or stable_hash(name, plan.stage.code_version, plan.settings, given)
    return found


def _unseen_methods(run: StageRun, plan: Plan, addresses: Mapping[str, str], seen: set[str]) -> StageRun | None:
    """`run` with the methods that no variant before asks in the same way of the same adapter; None without any."""
    names = []
    for method in methods(run.settings):
        how = {key: value for key, value in asdict(method).items() if key not in ("name", "title")}
        inputs = [addresses[n] for n in plan.stage.inputs if n != "lora_adapter" or method.adapter is not None]
        key = stable_hash(how, inputs, {k: v for k, v in plan.settings.items() if k != "methods"})
        names += [method.name] if key not in seen else []
        seen.add(key)
    return replace(run, settings=run.settings.model_copy(update={"only_methods": tuple(names)})) if names else None


def _told(kind: str, costs: Mapping[str, Sequence[Cost]]) -> list[str]:
    verb, stages = ASKED[kind]
    left = [cost for stage in stages for cost in costs.get(stage, ())]
    known = [(pending, cost) for pending, cost in left if pending is not None and pending.at_most]
    lines = [f"{kind}s {verb}: how many is not known yet"] if any(pending is None for pending, _ in left) else []
    if not known:
        return lines
    whole = total(cost for _, cost in known)
    rows = sum(pending.at_most for pending, _ in known)
    count = f"{counted(rows, kind)} {verb}"
    if kind == "adapter":
        count = f"{counted(sum(pending.loads for pending, _ in known), kind)} {verb}, on {counted(rows, 'example')}"
    is_measured = all(cost.basis in MEASURED for _, cost in known)
    seconds = f", about {duration(whole.at_most.seconds)} on this machine" if is_measured else ""
    return [f"{'' if whole.is_exact else 'at most '}{count}{seconds}", *lines]
