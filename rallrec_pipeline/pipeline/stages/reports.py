"""Group `reports`: the profile of the dataset and the evaluation report, as JSON, HTML and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rallrec_pipeline.datasets.profile import Profile, profile_dataset
from rallrec_pipeline.evaluation.measures.row_facts import row_facts
from rallrec_pipeline.evaluation.pages.csv_tables import methods_csv, slices_csv
from rallrec_pipeline.evaluation.pages.dataset_page import render_dataset_page
from rallrec_pipeline.evaluation.pages.evaluation_page import render_html
from rallrec_pipeline.evaluation.pages.markdown import picture, plain, table
from rallrec_pipeline.evaluation.plots.dataset_plots import dataset_plots
from rallrec_pipeline.evaluation.plots.overview import CAPTION, overview_png
from rallrec_pipeline.evaluation.plots.report_plots import report_plots
from rallrec_pipeline.evaluation.reports.evaluation_report import ReportContext, build_report
from rallrec_pipeline.evaluation.reports.wording import LAID_OVER, measure_title, number, ranked, rows_told, with_error
from rallrec_pipeline.inference.methods import methods
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.provenance import now
from rallrec_pipeline.language_models.dtypes import dtype_told
from rallrec_pipeline.pipeline.context import Made, Markdown, StageRun
from rallrec_pipeline.pipeline.origin import code_origin, laid_over
from rallrec_pipeline.pipeline.reporting.report_files import write_report
from rallrec_pipeline.pipeline.reporting.scored import WITHOUT_LLM, figures_shown, scored_by_llm, scored_without_llm
from rallrec_pipeline.settings import MIXTURE

PROFILED = ("interactions", "rejected_rows", "items", "core_interactions", "core_items", "samples")


def dataset_report(run: StageRun) -> Made:
    """What the dataset holds, and where its ratings went on the way to the samples."""
    profile = _profile(run)
    plots = dataset_plots(profile)
    origin = {"run_id": run.run_id, "protocol": run.spec.protocol.model_dump(mode="json")}
    origin |= {"stages": {stage: _origin(run, stage) for stage in PROFILED}}
    json_file, html_file = dataset_report_files(run.out, run.dataset)
    pages = {html_file: render_dataset_page(profile, plots, origin)}
    caption, png = next(iter(plots.items()))
    core = profile["core"]
    shown = {
        "raw_ratings": profile["raw"]["read"],
        "refused": profile["raw"]["refused"],
        "equal_times": profile["raw"]["equal_times"],
        "interactions": core["interactions"],
        "users": core["users"],
        "items": core["items"],
        "density": core["density"],
        "samples": {split: figures["rows"] for split, figures in profile["samples"]["splits"].items()},
        "funnel": Markdown(_funnel(profile)),
        "picture": Markdown(picture(caption, png)),
    }
    return Made(write_report(json_file, profile | {"provenance": origin}, pages), shown)


def evaluation_report(run: StageRun) -> Made:
    llm = run.given("predictions")
    scored = {method.name: scored_by_llm(method, llm, run.lake, run.spec) for method in methods(run.settings)}
    for stage in WITHOUT_LLM:
        record = run.given(stage)
        scored |= {method: scored_without_llm(method, record, run.lake) for method in record.metadata["seconds"]}
    facts = row_facts(run.read(tables.CORE_INTERACTIONS), run.read(tables.SAMPLES))
    report = build_report(_context(run), scored, facts, run.settings.scoring.bootstrap)
    json_file, html_file = report_files(run.out, run.dataset)
    csv_file, slices_file = json_file.with_suffix(".csv"), json_file.with_name("slices.csv")
    texts = {
        html_file: render_html(report, report_plots(report)),
        csv_file: methods_csv(report),
        slices_file: slices_csv(report),
    }
    shown = {**figures_shown(report), "methods": Markdown(_summary(report))}
    shown["picture"] = Markdown(picture(CAPTION, overview_png(report)))
    return Made(write_report(json_file, report, texts), shown)


def report_files(root: Path, dataset: str) -> tuple[Path, Path]:
    """JSON and HTML of the evaluation report, within a result or in the lake."""
    folder = root / "reports" / dataset
    return folder / "evaluation.json", folder / "evaluation.html"


def dataset_report_files(root: Path, dataset: str) -> tuple[Path, Path]:
    """JSON and HTML of the dataset's profile."""
    folder = root / "reports" / dataset
    return folder / "dataset.json", folder / "dataset.html"


def _profile(run: StageRun) -> Profile:
    # Of the large tables only the columns that are looked at stay in memory.
    ratings = ("user_id", "item_id", "rating", "timestamp")
    return profile_dataset(
        run.read(tables.INTERACTIONS).select(*ratings, "microsecond"),
        run.read(tables.REJECTED_ROWS).select("table", "reason"),
        run.read(tables.CORE_INTERACTIONS).select(ratings),
        run.read(tables.CORE_ITEMS).select("title"),
        run.read(tables.SAMPLES).select("split", "label", "rating", "timestamp", "history_length"),
        run.read(tables.ITEMS).select("item_id", *run.spec.protocol.require),
        run.spec,
    )


def _funnel(profile: Profile) -> str:
    keys = ("rows_in", "dropped", "added", "rows_out")
    rows = ([plain(step["step"]), *(f"{step[key]:,}" for key in keys)] for step in profile["funnel"])
    return "\n".join(table(["step", *(key.replace("_", " ") for key in keys)], rows, figures=True))


def _context(run: StageRun) -> ReportContext:
    prompts = run.read(tables.prompts_table("tuning"))
    stages = (
        "encoder",
        "predictor",
        "collaborative_embeddings",
        "aligned_embeddings",
        "item_embeddings",
        "retrieved_histories",
        "lora_adapter",
    )
    return ReportContext(
        dataset=run.dataset,
        title=run.spec.title,
        profile=run.settings.profile,
        seed=run.seeds.data,
        n_train=prompts["sample_id"].n_unique(),
        n_train_baselines=run.given("baseline_predictions").metadata["training_rows"],
        paper_dataset=run.spec.paper_dataset,
        provenance={"run_id": run.run_id, "settings": run.settings.model_dump(mode="json"), "made": _made(run)}
        | {"stages": {stage: _origin(run, stage) for stage in stages}},
        retrieval=_retrieval(run),
    )


def _made(run: StageRun) -> dict[str, str]:
    """What a reader asks first: with which model, in which numbers, when, and by which code."""
    models = {role: run.in_role(role).settings.model for role in ("predictor", "encoder")}
    return {
        "model": models["predictor"].name,
        "number type": dtype_told(models["predictor"], run.given("predictor")),
        "text vectors": models["encoder"].name,
        **_laid_over(run),
        "made at": now(),
        "code": code_origin(),
    }


def _laid_over(run: StageRun) -> dict[str, str]:
    """What the report's profile alone would not have given."""
    told = ", ".join(f"{name} = {json.dumps(value)}" for name, value in laid_over(run).items())
    return {LAID_OVER: told} if told else {}


def _origin(run: StageRun, stage: str) -> dict[str, Any]:
    record = run.given(stage)
    return {
        "data_version": record.data_version,
        "fingerprint": record.fingerprint,
        "run_id": record.run_id,
        "created_at": record.created_at,
        "seconds": record.seconds,
        "reported": {k: v for k, v in record.metadata.items() if not isinstance(v, dict) or "markdown" not in v},
    }


def _retrieval(run: StageRun) -> dict[str, Any]:
    """What the stages reported about the choice of vectors and of alpha."""
    found: dict[str, Any] = {}
    for stage in ("item_embeddings", "retrieved_histories"):
        found |= dict(run.given(stage).metadata)
    by_name = {key: found[key] for key in ("alpha", "alpha_search")}
    chosen = MIXTURE if MIXTURE in by_name["alpha"] else next(iter(by_name["alpha"]))
    return {key: found[key] for key in ("weights", "neighbour_auc")} | {k: v[chosen] for k, v in by_name.items()}


def _summary(report: dict[str, Any]) -> str:
    sure, others = ("auc", "uauc"), ("log_loss", "ece", "accuracy")
    rows = (
        [name, *(with_error(f[m], f[f"{m}_se"], 4) for m in sure), *(number(f[m], 4) for m in others)]
        for name, f in ranked(report)
    )
    lines = table(["method", *map(measure_title, (*sure, *others))], rows, figures=True)
    return "\n".join([f"{rows_told(report)}; ± over users", "", *lines])
