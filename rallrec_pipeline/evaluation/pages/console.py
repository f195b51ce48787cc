"""The evaluation report as a table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rallrec_pipeline.evaluation.measures.metrics import METRICS
from rallrec_pipeline.evaluation.pages.study_page import results_told
from rallrec_pipeline.evaluation.reports.verdict import verdict
from rallrec_pipeline.evaluation.reports.wording import (
    LAID_OVER,
    Report,
    counted,
    duration,
    headline,
    number,
    paper_main,
    ranked,
    stands_out,
    with_error,
)

SHOWN = ("auc", "uauc", "log_loss", "ece", "accuracy")


def print_report(report: Report, console: Console, paths: Mapping[str, Path] | None = None) -> None:
    """Print methods, verdict and, from `paths` (what it is -> path), where the files lie."""
    console.print(_table(report))
    console.print(Text(headline(report)))
    console.print(Text(verdict(report)))
    if published := paper_main(report):
        figures = ", ".join(f"{m.replace('_', ' ')} {number(published[m], 4)}" for m in METRICS)
        figures = figures.replace("auc", "AUC")
        console.print(
            Text(f"RALLRec in its paper, on {report['paper']['title']} (their own data, split and model): {figures}")
        )
    for name, path in (paths or {}).items():
        console.print(Text(f"{name}: {path}"), soft_wrap=True)


def print_study(report: Report, console: Console, paths: Mapping[str, Path]) -> None:
    """Print the methods of a study beside their difference to its reference, and where the files lie (`paths`)."""
    reference = report["methods"][report["reference"]]["title"]
    rows = counted(report["n_test"], "test row")
    caption = Text(f"n = {rows}, the same for all; differences to: {reference}")
    table = Table(title=Text(f"{report['title']}\n{report['dataset_title']} ({report['profile']})"), caption=caption)
    table.add_column("Method", overflow="fold")
    for name in ("AUC", "UAUC", "Log loss", "AUC difference", "p (Holm)"):
        table.add_column(name, justify="right", no_wrap=True)
    for method, figures in report["methods"].items():
        found = report["paired"].get(method, {}).get("auc")
        told = ["", ""]
        if found is not None:
            told = [with_error(found["difference"], found["se"], 4, sign=True), number(found["p_holm"], 3)]
        cells = [with_error(figures[name], figures[f"{name}_se"]) for name in ("auc", "uauc", "log_loss")]
        table.add_row(Text(figures["title"]), *cells, *told)
    console.print(table)
    console.print(Text(results_told(report["provenance"])))
    for name, path in paths.items():
        console.print(Text(f"{name}: {path}"), soft_wrap=True)


def _table(report: Report) -> Table:
    all_rows = report.get("n_train_baselines")  # a report of an earlier version does not say
    fitted = f"; {report['n_train']:,} training samples for the LLM, {all_rows:,} for the baselines" if all_rows else ""
    caption = (
        f"n = {report['n_test']:,} test rows, the same for all{fitted}; ± standard error over users, "
        f"{report['resamples']:,} resamples; ECE of calibrated probabilities"
    )
    own = LAID_OVER in report.get("provenance", {}).get("made", {})
    profile = f"{report['profile']}, with {LAID_OVER}" if own else report["profile"]
    table = Table(title=Text(f"{report['dataset_title']} ({profile})"), caption=caption)
    table.add_column("Method", overflow="fold")
    for name in ("AUC", "UAUC", "Log loss", "ECE", "Accuracy", "Time"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, figures in ranked(report):
        # A report of an earlier version has the papers' measures alone.
        cells = [with_error(figures.get(m), figures.get(f"{m}_se")) for m in SHOWN]
        cells.append(duration(figures["seconds"]))
        table.add_row(Text(figures["title"]), *cells, style="bold" if stands_out(report, name) else None)
    return table
