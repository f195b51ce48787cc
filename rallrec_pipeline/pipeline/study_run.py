"""A study under way: the stages of its variants, each distinct result once, and the report of them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from rallrec_pipeline.baselines.common_sense import COMMON_SENSE
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.evaluation.study import StudyContext, build_study, study_csv
from rallrec_pipeline.evaluation.study_page import render_study, study_plots
from rallrec_pipeline.evaluation.study_tables import figure_entry, table_entry
from rallrec_pipeline.evaluation.wording import number
from rallrec_pipeline.inference.methods import methods
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.files import atomic_path, write_json
from rallrec_pipeline.lake.parquet import read_table
from rallrec_pipeline.lake.store import Record, publish_links
from rallrec_pipeline.pipeline.checks.catalog import CHECKS
from rallrec_pipeline.pipeline.context import Made, Markdown, StageRun
from rallrec_pipeline.pipeline.markdown import picture, plain
from rallrec_pipeline.pipeline.stage import (
    Graph,
    Outcome,
    Stage,
    plan_with,
    put_result,
    run_stage,
    upstream,
)
from rallrec_pipeline.pipeline.studies import Study, load_study, row_name, study_variants
from rallrec_pipeline.settings import OF_STUDIES, Settings

LLM, BASELINES = "predictions", "baseline_predictions"
VERSION = "2"


def made_by(method: str) -> str:
    """The stage that makes the predictions of a method."""
    return BASELINES if method in COMMON_SENSE else LLM


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
    shared, given = Shared(), dict[str, Record]()
    for variant, settings in variants.items():
        own = replace(run, settings=settings, publish=False)
        run.log(f"study {name}, variant {variant}")
        records = _up_to_predictions(own, graph, variant, {made_by(method) for method in study.methods}, shared)
        given |= {_input(variant, stage): record for stage, record in records.items()}
    titles = {
        row_name(variant, method, study): (variant, method, title)
        for variant, settings in variants.items()
        for method, title in _titles(study, settings).items()
    }
    first = next(iter(variants.values()))
    stage = Stage(
        stage_name(name),
        "studies",
        tuple(given),
        study.title,
        lambda own: _report(own, name, study, run.settings.profile, titles, shared),
        lambda s, d: {
            "study": study.model_dump(mode="json"),
            "profile": run.settings.profile,
            "title": d.title,
            "titles": titles,
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
    outcome = put_result(called, plan_with(called, stage, given, []))
    publish_links(run.lake, outcome.record)
    return outcome


def _input(variant: str, stage: str) -> str:
    """What a study calls a stage of one of its variants."""
    return f"{variant}:{stage}"


def _titles(study: Study, settings: Settings) -> dict[str, str]:
    """Titles of the study's methods under one variant, in the study's order."""
    known = COMMON_SENSE | {method.name: method.title for method in methods(settings)}
    return {method: known[method] for method in study.methods}


def _up_to_predictions(
    run: StageRun, graph: Graph, variant: str, compared: Set[str], shared: Shared
) -> dict[str, Record]:
    """Records of the stages in `compared`, which make predictions, after all before them were made and checked."""
    records: dict[str, Record] = {}
    for name in _needed(graph, compared):
        outcome = run_stage(run, graph, name)
        records[name] = outcome.record
        if outcome.worked:
            shared.worked.append(f"{variant}: {name}")
            shared.llm.update(outcome.record.metadata.get("llm", {}))
        _check(replace(run, inputs=records), name, variant, shared)
    shared.fingerprints[variant] = {name: record.fingerprint for name, record in records.items()}
    return {name: record for name, record in records.items() if name in compared}


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
            figures = ", ".join(f"{figure} {value}" for figure, value in verdict.figures.items())
            raise DataError(
                f"variant {variant}: check {check.name} of {check.asset} failed: {figures} (docs/operate.md says what "
                "to do)"
            )
        shared.checked.add(asked)


def _report(
    run: StageRun,
    name: str,
    study: Study,
    profile: str,
    titles: Mapping[str, tuple[str, str, str]],
    shared: Shared,
) -> Made:
    predictions = {row: _predictions(run, variant, method) for row, (variant, method, _) in titles.items()}
    reference = next(row for row, (_, method, _) in titles.items() if method == study.reference)
    told = {row: title if not study.variants else f"{variant}: {title}" for row, (variant, _, title) in titles.items()}
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
            "study": study.model_dump(mode="json"),
            **shared.as_metadata(),
        },
    )
    report = build_study(context, predictions, told, run.settings.scoring.bootstrap)
    report |= _parts(study, report, run.spec.paper_dataset)
    plots = study_plots(report)
    file = run.out / "reports" / run.dataset / stage_name(name)
    json_file, csv_file, html_file = (file.with_suffix(f".{kind}") for kind in ("json", "csv", "html"))
    write_json(json_file, report)
    for path, text in ((csv_file, study_csv(report)), (html_file, render_study(report, plots))):
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    figures = {
        f"{metric}_{row.replace('/', '_')}": figures[metric]
        for row, figures in report["methods"].items()
        for metric in ("auc", "log_loss")
    }
    pictures = "\n\n".join(picture(caption, png) for caption, png in plots.items())
    metadata = {"rows": report["n_test"], **figures, **shared.as_metadata()}
    metadata |= {"methods": Markdown(_table(report)), "picture": Markdown(pictures)}
    return Made([json_file, csv_file, html_file], metadata)


def _parts(study: Study, report: Mapping[str, Any], paper_dataset: str | None) -> dict[str, Any]:
    """The tables and figures that the study's file asks for, from the figures of its rows."""
    of_study = {"reference": report["reference"]}
    tables_of = {name: of_study | table.model_dump(exclude_none=True) for name, table in study.tables.items()}
    figures_of = {name: figure.model_dump() for name, figure in study.figures.items()}
    methods_of, paired = report["methods"], report["paired"]
    return {
        "tables": {name: table_entry(spec, methods_of, paired, paper_dataset) for name, spec in tables_of.items()},
        "figures": {name: figure_entry(spec, methods_of) for name, spec in figures_of.items()},
    }


def _predictions(run: StageRun, variant: str, method: str) -> pl.DataFrame:
    rows = read_table(tables.predictions_table(method), run.folder(_input(variant, made_by(method))), run.dataset)
    return rows.filter(pl.col("split") == "test")


def _table(report: Mapping[str, Any]) -> str:
    """The study as a table in Markdown."""
    lines = ["| method | AUC | ± | to the reference | p | log loss |", "|---|---:|---:|---:|---:|---:|"]
    for method, figures in report["methods"].items():
        found = report["paired"].get(method, {}).get("auc", {})
        told = number(found.get("difference"), 4, sign=True), number(found.get("p_value"), 3)
        cells = plain(figures["title"]), number(figures["auc"], 4), number(figures["auc_se"], 4), *told
        lines.append(f"| {' | '.join(cells)} | {number(figures['log_loss'], 4)} |")
    return "\n".join(lines)
