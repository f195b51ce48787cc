"""Group `reports`: what alignment does to the item vectors, as JSON, HTML and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rallrec_pipeline.datasets.histories import training_interactions
from rallrec_pipeline.embeddings.held_out import HeldOutFit, fit_held_out, measurable_items
from rallrec_pipeline.evaluation.measures.alignment import NEAREST, too_few
from rallrec_pipeline.evaluation.measures.maps import categories, category_field, draw_maps, projections
from rallrec_pipeline.evaluation.measures.nearest import PARTS
from rallrec_pipeline.evaluation.pages.alignment_page import render_alignment_page
from rallrec_pipeline.evaluation.pages.markdown import picture
from rallrec_pipeline.evaluation.plots.alignment_plots import maps_plots, measures_plots
from rallrec_pipeline.evaluation.reports.alignment_report import AlignmentInputs, Report, build_alignment_report
from rallrec_pipeline.lake import tables
from rallrec_pipeline.pipeline.context import Made, Markdown, StageRun
from rallrec_pipeline.pipeline.origin import provenance_of
from rallrec_pipeline.pipeline.reporting.report_files import write_report
from rallrec_pipeline.pipeline.stages.embeddings import read_vectors

_MEASURES = ("alignment", "uniformity", "recall_at_1", f"recall_at_{NEAREST}")


def alignment_report(run: StageRun) -> Made:
    """Text against collaborative vectors before and after alignment, and the nearest items of a few."""
    inputs, seed = _inputs(run), run.seeds.fits
    category = categories(inputs.items, category_field(run.spec))
    text, collaborative = inputs.parts["text"], inputs.parts["collaborative"]
    maps = {name: draw_maps(text, collaborative, inputs.fit, by, seed) for name, by in projections().items()}
    report = build_alignment_report(inputs, run.spec, category, maps, seed, provenance_of(run, "alignment"))
    plots = measures_plots(report)
    json_file, html_file = alignment_report_files(run.out, run.dataset)
    pages = {html_file: render_alignment_page(report, plots, maps_plots(maps, category))}
    caption, png = next(iter(plots.items()))
    shown = {**_shown(report), "picture": Markdown(picture(caption, png))}
    return Made(write_report(json_file, report, pages), shown)


def alignment_report_files(root: Path, dataset: str) -> tuple[Path, Path]:
    """JSON and HTML of the report on alignment, within a result or in the lake."""
    folder = root / "reports" / dataset
    return folder / "alignment_report.json", folder / "alignment_report.html"


def _inputs(run: StageRun) -> AlignmentInputs:
    parts = {kind: read_vectors(run, kind) for kind in PARTS}
    rows = measurable_items(parts["text"], parts["collaborative"])
    fit: HeldOutFit | None = None
    if not too_few(len(rows)):
        fit = fit_held_out(
            parts["text"],
            parts["collaborative"],
            rows,
            run.settings.alignment,
            run.seeds.fits,
            run.progress("held-out projector epochs"),
        )
    return AlignmentInputs(
        items=run.read(tables.CORE_ITEMS),
        training=training_interactions(run.read(tables.CORE_INTERACTIONS), run.read(tables.SAMPLES)),
        parts=parts,
        mixture=read_vectors(run, "item"),
        weights=run.given("item_embeddings").metadata["weights"],
        measurable=len(rows),
        fit=fit,
    )


def _shown(report: Report) -> dict[str, Any]:
    """`recall_at_10_held_out` and the like: single numbers, which the UI plots over partitions and time."""
    shown = {
        f"{measure}_{name}": figures[measure]
        for name, figures in report["figures"].items()
        for measure in _MEASURES
        if figures.get(measure) is not None
    }
    return shown | {"items_measured": report["measured"]["items"], "not_measured": report["measured"]["why"]}
