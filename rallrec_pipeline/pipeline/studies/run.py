"""A study under way: the stages of its variants, each distinct result once, and the report of them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rallrec_pipeline.errors import ConfigError, DataError
from rallrec_pipeline.evaluation.measures.row_facts import row_facts
from rallrec_pipeline.evaluation.pages.markdown import picture, plain, table
from rallrec_pipeline.evaluation.plots.overview import CAPTION, overview_png
from rallrec_pipeline.evaluation.reports.evaluation_report import Scored
from rallrec_pipeline.evaluation.reports.responses import ReasoningParts
from rallrec_pipeline.evaluation.reports.study import StudyContext, build_study
from rallrec_pipeline.evaluation.reports.study_parts import StudyParts
from rallrec_pipeline.evaluation.reports.wording import number, rows_told, with_error
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.store import Record, publish_links, read_ref
from rallrec_pipeline.pipeline.checks.catalog import CHECKS
from rallrec_pipeline.pipeline.checks.verdict import failure
from rallrec_pipeline.pipeline.context import Made, Markdown, StageRun
from rallrec_pipeline.pipeline.origin import NO_OVERLAY, differing
from rallrec_pipeline.pipeline.reporting.report_files import write_study
from rallrec_pipeline.pipeline.reporting.responses import READ, reasoning_parts
from rallrec_pipeline.pipeline.reporting.scored import figures_shown, made_by, scored_by, title_of
from rallrec_pipeline.pipeline.stage import (
    Graph,
    Outcome,
    Stage,
    plan_with,
    put_result,
    run_stage,
    upstream,
)
from rallrec_pipeline.pipeline.status.study_cost import study_cost
from rallrec_pipeline.pipeline.studies.definition import Study, load_study, row_name, study_variants
from rallrec_pipeline.settings import OF_STUDIES, Settings

FACTS = ("core_interactions", "samples")
"""What a report knows of its test rows, which are the same in all variants."""
Laid = Mapping[str, Any]
"""Settings by dotted name."""
VERSION = "4"


@dataclass(frozen=True)
class Row:
    """A row of the report: a method of a variant, whose settings say how it is made."""

    variant: str
    method: str
    settings: Settings

    @property
    def title(self) -> str:
        """What it is called, without its variant."""
        return title_of(self.method, self.settings)


@dataclass
class Shared:
    """What the variants of a study have made and have in common: fingerprints by stage, by variant."""

    fingerprints: dict[str, dict[str, str]] = field(default_factory=dict)
    worked: list[str] = field(default_factory=list)
    """`variant: stage` of each stage that had to be computed."""
    llm: Counter[str] = field(default_factory=Counter)
    """Rows and tokens that went through the LLM now."""
    checked: set[tuple[str, ...]] = field(default_factory=set)
    """Checks that held, each with the fingerprints of what it read."""

    def as_metadata(self) -> dict[str, Any]:
        """Variants with their fingerprints, how many results they name, and how many of these are distinct."""
        named = [(stage, f) for found in self.fingerprints.values() for stage, f in found.items()]
        return {
            "variants": self.fingerprints,
            "results": len(named),
            "distinct_results": len(set(named)),
            "computed_now": self.worked,
            "llm": {name: self.llm[name] for name in ("rows", "prompt_tokens", "new_tokens")},
        }


def stage_name(study: str) -> str:
    """The asset of a study."""
    return f"study_{study}"


def run_study(run: StageRun, graph: Graph, name: str, profile: str | None, overrides: Path | None = None) -> Outcome:
    """Bring every variant of the study up to its predictions, check them, and report on all of them together.

    A result that several variants need is computed once. Raises ConfigError for a study that cannot be, DataError when
    a check does not hold.
    """
    study = load_study(name, run.lake)
    variants = study_variants(name, study, profile, run.lake, overrides)
    laid = _laid_over(name, study, profile, run.lake, variants)
    shared, given = Shared(), dict[str, Record]()
    needed = [(settings, _needed(graph, _compared(study, settings))) for settings in variants.values()]
    for line in study_cost(run, graph, needed) or ["nothing is left to ask the LLM"]:
        run.log(f"study {name}: {line}")
    for variant, settings in variants.items():
        own = replace(run, settings=settings, publish=False)
        run.log(f"study {name}, variant {variant}")
        records = _up_to_predictions(own, graph, variant, study, shared)
        given |= {_input(variant, stage): record for stage, record in records.items() if stage not in FACTS}
        facts = {stage: records[stage] for stage in FACTS}
    asked = {
        row_name(variant, name, study): Row(variant, name, settings)
        for variant, settings in variants.items()
        for name in study.methods
    }
    first = next(iter(variants.values()))
    stage = Stage(
        stage_name(name),
        "studies",
        (*given, *facts),
        study.title,
        lambda own: _report(own, name, study, run.settings.profile, asked, shared, laid),
        lambda s, d: {
            "study": study.told(),
            "profile": run.settings.profile,
            **({"laid_over": laid} if laid else {}),
            "title": d.title,
            "titles": {row: (place.variant, place.method, place.title) for row, place in asked.items()},
            "seed": s.seeds.data,
            "resamples": s.scoring.bootstrap,
        },
        sections=("seeds", "scoring"),
        code_version=VERSION,
    )
    # A study has a ref of its own: what is in force for the profile stays.
    called = replace(
        run, settings=first.model_copy(update={"profile": f"{OF_STUDIES}{run.settings.profile}-{name}"}), publish=False
    )
    had = read_ref(called.lake, called.dataset, called.settings.profile)
    outcome = put_result(called, plan_with(called, stage, given | facts, [], had, verify=True))
    publish_links(run.lake, outcome.record)
    return outcome


def _input(variant: str, stage: str) -> str:
    """What a study calls a stage of one of its variants."""
    return f"{variant}: {stage}"


def _up_to_predictions(run: StageRun, graph: Graph, variant: str, study: Study, shared: Shared) -> dict[str, Record]:
    """Records of what the report reads, after all stages before were made and checked."""
    compared = _compared(study, run.settings)
    records: dict[str, Record] = {}
    for name in _needed(graph, compared):
        outcome = run_stage(run, graph, name)
        records[name] = outcome.record
        if outcome.worked:
            shared.worked.append(f"{variant}: {name}")
            shared.llm.update(outcome.record.metadata.get("llm", {}))
        _check(replace(run, inputs=records), name, variant, shared)
    shared.fingerprints[variant] = {name: record.fingerprint for name, record in records.items()}
    return {name: record for name, record in records.items() if name in compared or name in FACTS}


def _compared(study: Study, settings: Settings) -> set[str]:
    """The stages that make what a study compares."""
    compared = {made_by(method, settings) for method in study.methods}
    return compared if compared.isdisjoint(READ) else compared | {"reasoning_traces", "reasoned_predictions"}


def _needed(graph: Graph, compared: Set[str]) -> list[str]:
    """Stages up to those in `compared`, and what the checks of these read besides, in the graph's order."""
    made = upstream(graph, list(compared))
    read = {name for check in CHECKS if check.blocking and check.asset in made for name in check.also_reads}
    wanted = made | upstream(graph, list(read))
    return [name for name in graph if name in wanted]


def _check(run: StageRun, name: str, variant: str, shared: Shared) -> None:
    """What must hold of an asset must hold of it in a study too, whichever run made it.

    A check is asked when `name` is the last of what it reads, and once for the same results.
    """
    for check in CHECKS:
        reads = (check.asset, *check.also_reads)
        if not check.blocking or name not in reads or not set(reads) <= run.inputs.keys():
            continue
        asked = (check.name, *(run.inputs[stage].fingerprint for stage in reads))
        if asked in shared.checked:
            continue
        verdict = check.judge(run)
        if not verdict.passed:
            raise DataError(f"variant {variant}: {failure(check, verdict, run.dataset)}")
        shared.checked.add(asked)


def _laid_over(name: str, study: Study, profile: str | None, lake: Path, variants: Mapping[str, Settings]) -> Laid:
    """What the command alone would not give: settings of RALLREC_SETTINGS that the study itself does not set."""
    try:
        alone = study_variants(name, study, profile, lake, NO_OVERLAY)
    except ConfigError:  # one that only these settings make whole
        return {}
    return {key: value for variant, own in variants.items() for key, value in differing(own, alone[variant]).items()}


def _report(
    run: StageRun,
    name: str,
    study: Study,
    profile: str,
    asked: Mapping[str, Row],
    shared: Shared,
    laid: Laid,
) -> Made:
    scored = {row: _scored(run, place, study) for row, place in asked.items()}
    reference = next(row for row, place in asked.items() if place.method == study.reference)
    context = StudyContext(
        name,
        study.title,
        study.note,
        run.dataset,
        run.spec.title,
        profile,
        reference,
        run.seeds.data,
        {
            "run_id": run.run_id,
            "command": f"rallrec run {run.dataset} --study {name} --profile {profile}",
            "study": study.told(),
            **({"laid_over": laid} if laid else {}),
            **shared.as_metadata(),
        },
        _parts(study, run.spec.paper_dataset),
        _responses(run, asked),
        study.beside,
    )
    facts = row_facts(run.read(tables.CORE_INTERACTIONS), run.read(tables.SAMPLES))
    report = build_study(context, scored, run.settings.scoring.bootstrap, facts)
    files = write_study(run.out / "reports" / run.dataset, stage_name(name), report)
    metadata = {"rows": report["n_test"], **figures_shown(report), **shared.as_metadata()}
    metadata |= {"methods": Markdown(_table(report)), "picture": Markdown(picture(CAPTION, overview_png(report)))}
    return Made(files, metadata)


def _parts(study: Study, paper_dataset: str | None) -> StudyParts:
    """The tables, figures and claims that the study's file asks for."""
    return StudyParts(
        {name: table.model_dump(exclude_none=True) for name, table in study.tables.items()},
        {name: figure.model_dump() for name, figure in study.figures.items()},
        [claim.model_dump() for claim in study.claims],
        paper_dataset,
    )


def _scored(run: StageRun, row: Row, study: Study) -> Scored:
    """A row of the report, from what its variant has made."""
    record = run.given(_input(row.variant, made_by(row.method, row.settings)))

    def made(stage: str) -> Record | None:
        return run.inputs.get(_input(row.variant, stage))

    found = scored_by(row.method, record, replace(run, settings=row.settings), made)
    return replace(found, title=f"{row.variant}: {found.title}") if study.variants else found


def _responses(run: StageRun, asked: Mapping[str, Row]) -> dict[str, ReasoningParts]:
    """By variant, what is told of the reasoner, where the study asks one."""
    found = {}
    for variant, settings in {row.variant: row.settings for row in asked.values()}.items():
        known = {stage: run.inputs.get(_input(variant, stage)) for stage in (*READ, "predictions")}
        own = {stage: record for stage, record in known.items() if record is not None}
        if "reasoned_predictions" in own:
            inputs = own | {stage: run.given(stage) for stage in FACTS}
            found[variant] = reasoning_parts(replace(run, settings=settings, inputs=inputs))
    return found


def _table(report: Mapping[str, Any]) -> str:
    """The study as a table in Markdown."""
    rows = []
    for method, figures in report["methods"].items():
        found = report["paired"].get(method, {}).get("auc", {})
        errors = (with_error(figures[name], figures[f"{name}_se"], 4) for name in ("auc", "uauc"))
        told = number(found.get("difference"), 4, sign=True), number(found.get("p_holm"), 3)
        rows.append([plain(figures["title"]), *errors, *(number(figures[m], 4) for m in ("log_loss", "ece")), *told])
    lines = table(["method", "AUC", "UAUC", "log loss", "ECE", "to the reference", "p"], rows, figures=True)
    return "\n".join([f"{rows_told(report)}; ± over users", "", *lines])
