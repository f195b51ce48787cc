"""The report on the reasoner: its methods and merges beside their members and the strongest expert."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from rallrec_pipeline.evaluation.measures.metrics import area_under_roc
from rallrec_pipeline.evaluation.measures.row_facts import row_facts
from rallrec_pipeline.evaluation.pages.markdown import picture
from rallrec_pipeline.evaluation.plots.overview import CAPTION, overview_png
from rallrec_pipeline.evaluation.reports.study import StudyContext, build_study
from rallrec_pipeline.inference.methods import merges, reasoned_methods
from rallrec_pipeline.lake import tables
from rallrec_pipeline.pipeline.context import Made, Markdown, StageRun
from rallrec_pipeline.pipeline.reporting.report_files import write_study
from rallrec_pipeline.pipeline.reporting.responses import reasoning_parts
from rallrec_pipeline.pipeline.reporting.scored import WITHOUT_LLM, figures_shown, made_by, scored_by
from rallrec_pipeline.settings import Settings

TITLE = "Reasoning, and what merging makes of it"
NOTE = """The reasoner is asked several times about each row, and P(yes) is read after each of its thoughts. Merges \
are chosen and fitted on validation rows. The reference is the strongest method without an LLM by validation AUC."""
ONE = "one"


def reasoning_report(run: StageRun) -> Made:
    """Every way to ask the reasoner and every merge, with paired differences to the strongest expert."""
    reference = strongest_expert(run)
    names = dict.fromkeys([reference, *_members(run.settings), *(m.name for m in reasoned_methods(run.settings))])
    names |= dict.fromkeys(merges(run.settings))
    scored = {name: scored_by(name, run.given(made_by(name, run.settings)), run) for name in names}
    fingerprints = {stage: record.fingerprint for stage, record in run.inputs.items()}
    origin = {
        "run_id": run.run_id,
        "command": f"rallrec run {run.dataset} --select reasoning_report --profile {run.settings.profile}",
        "study": {"variants": {}},
        "variants": {ONE: fingerprints},
        "results": len(fingerprints),
        "distinct_results": len(fingerprints),
        "computed_now": [],
    }
    context = StudyContext(
        "reasoning_report",
        TITLE,
        NOTE,
        run.dataset,
        run.spec.title,
        run.settings.profile,
        reference,
        run.seeds.data,
        origin,
        responses={ONE: reasoning_parts(run)},
    )
    facts = row_facts(run.read(tables.CORE_INTERACTIONS), run.read(tables.SAMPLES))
    report = build_study(context, scored, run.settings.scoring.bootstrap, facts)
    files = write_study(run.out / "reports" / run.dataset, "reasoning", report)
    told = report["responses"][ONE]
    shown: dict[str, Any] = dict(figures_shown(report))
    shown |= {f"tokens_per_response_{name}": one["tokens_per_response"] for name, one in told["responses"].items()}
    shown |= {f"knee_{name}": one["knee"] for name, one in told["cascades"].items()}
    shown["picture"] = Markdown(picture(CAPTION, overview_png(report)))
    return Made(files, {name: value for name, value in shown.items() if value is not None})


def strongest_expert(run: StageRun) -> str:
    """The method without an LLM with the highest AUC on validation rows; the first where none has one."""
    auc = {}
    for stage in WITHOUT_LLM:
        for name in run.given(stage).metadata["seconds"]:
            rows = run.read(tables.predictions_table(name)).filter(pl.col("split") == "valid")
            found = area_under_roc(rows["label"].to_numpy(), rows["p_yes"].to_numpy()) if rows.height else np.nan
            auc[name] = found if np.isfinite(found) else 0.0
    return max(auc, key=lambda name: auc[name])


def _members(settings: Settings) -> list[str]:
    """What is merged, each once, without merges themselves."""
    found = dict.fromkeys(member for merge in merges(settings).values() for member in merge.members)
    return [name for name in found if name not in settings.merges]
