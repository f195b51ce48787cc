"""The evaluation report as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rallrec_pipeline.evaluation.pages.foot import files_told
from rallrec_pipeline.evaluation.pages.page import render, shown_by_section
from rallrec_pipeline.evaluation.plots.overview import look_of
from rallrec_pipeline.evaluation.plots.report_plots import Plots
from rallrec_pipeline.evaluation.plots.slice_plots import unsliced
from rallrec_pipeline.evaluation.reports.evaluation_report import MAIN
from rallrec_pipeline.evaluation.reports.verdict import verdict
from rallrec_pipeline.evaluation.reports.wording import (
    Report,
    headline,
    paper_caveat,
    ranked,
    reference_of,
    rows_told,
    stands_out,
    undefined_told,
)


def render_html(report: Report, plots: Plots) -> str:
    """The page of a report from `build_report`, with the pictures of `report_plots`."""
    return render(
        "evaluation.html.j2",
        {},
        report["provenance"],
        title=f"{report['dataset_title']}: evaluation",
        facts=_facts(report),
        made=_made(report),
        lead=[headline(report), verdict(report)],
        report=report,
        methods=ranked(report),
        looks={name: look_of(report, name) for name in report["methods"]},
        shown=shown_by_section(plots),
        why_not=list(unsliced(report)),
        files=files_told(report),
        bold=[name for name in report["methods"] if stands_out(report, name)],
        reference=report["methods"].get(reference_of(report)),
        undefined=undefined_told(report),
        ours=report["methods"].get(MAIN),
        paired=list(_paired(report)),
        against=[(report["methods"][name]["title"], found) for name, found in report["against_reference"].items()],
        mixtures=list(_mixtures(report)),
        alpha=f"{report['retrieval'].get('alpha', 0):.3g}",
        caveat=paper_caveat(report),
    )


def _facts(report: Report) -> list[str]:
    all_rows = report["n_train_baselines"]
    beside = f", {all_rows:,} for the baselines" if all_rows is not None else ""
    return [
        f"dataset {report['dataset']}",
        f"profile {report['profile']}",
        f"seed {report['seed']}",
        f"{report['n_train']:,} training samples for the LLM{beside}",
        rows_told(report),
    ]


def _made(report: Report) -> dict[str, str]:
    """Model, numbers, time, code and command, as far as the report knows them."""
    return {**report["provenance"].get("made", {}), "command": files_told(report)["command"]}


def _paired(report: Report) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Title of the other method, and the difference to it by metric."""
    for pair, found in report["paired"].items():
        other = pair.removeprefix(f"{MAIN} - ")
        yield report["methods"].get(other, {}).get("title", other), found


def _mixtures(report: Report) -> Iterator[dict[str, Any]]:
    """Each kind of item vector alone, all in equal parts, and the mixture in use, judged without the LLM."""
    used = report["retrieval"].get("weights", {})
    for mixture in report["retrieval"].get("neighbour_auc", []):
        weights = {kind: weight for kind, weight in mixture.items() if kind != "auc"}
        in_use = weights == used
        if in_use or sum(weight > 0 for weight in weights.values()) == 1 or set(weights.values()) == {1.0}:
            name = " + ".join(f"{weight:g} {kind}" for kind, weight in weights.items() if weight > 0)
            yield {"name": name, "auc": mixture["auc"], "in_use": in_use}
