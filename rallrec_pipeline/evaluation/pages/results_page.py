"""`docs/results.md`, written from the studies' JSON: which claims of the papers hold, and what is behind them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from rallrec_pipeline.evaluation.pages import markdown
from rallrec_pipeline.evaluation.pages.results_beside import beside_told
from rallrec_pipeline.evaluation.pages.results_curves import curves_told
from rallrec_pipeline.evaluation.reports.wording import Report, measure_title, number, with_error

_HEAD = (
    "This page is written by `rallrec results` from the studies' JSON, that of the lake and that kept in `results/`:",
    "no figure in it is typed. ± is the standard error over users; p is two-sided, paired on the same users, and",
    "corrected by Holm's method over the claims or the table that it stands in. Errors leave out that the calibration",
    "is fitted too, on validation rows: where these are few, as the reasoner's 100, a difference in log loss looks",
    "surer than it is. Published figures are of the full datasets, those of LLM methods of one of 8 billion",
    "parameters. A commit is that of the code when the JSON was kept.",
)
_VERDICTS = {"holds": "holds", "refuted": "the opposite holds", "open": "cannot be told"}


def results_page(reports: Sequence[Report]) -> str:
    """Markdown of all `reports` (of `build_study` or `kept_form`) by study; without any it says how to make one."""
    lines = ["# Results", "", "[Back to the README](../README.md)", ""]
    lines += [*_HEAD, ""]
    by_study = _by_study(reports)
    if not by_study:
        lines += ["No study was run yet: `rallrec run DATASET --study tables`.", ""]
    for found in by_study:
        lines += [f"## {found[0]['title']}", ""]
        lines += [line for line in (found[0]["note"],) if line]
        if rows := _claims(found):
            bold = [[*row[:2], *(_in_bold(verdict) for verdict in row[2:])] for row in rows]
            lines += ["", *markdown.table(_claims_head(found), bold)]
        for report in found:
            lines += ["", *_dataset(report)]
        lines.append("")
    lines += beside_told(reports)
    return "\n".join(lines).rstrip() + "\n"


def claims_told(reports: Sequence[Report]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Of each study with claims its title, the head of a table, and a row a claim with its verdict on each dataset."""
    found = [(of_study, _claims(of_study)) for of_study in _by_study(reports)]
    return [(of_study[0]["title"], _claims_head(of_study), rows) for of_study, rows in found if rows]


def _by_study(reports: Sequence[Report]) -> list[list[Report]]:
    names = dict.fromkeys(report["study"] for report in reports)
    return [[report for report in reports if report["study"] == name] for name in names]


def _claims_head(reports: Sequence[Report]) -> list[str]:
    return ["claim", "by", *(report["dataset"] for report in reports)]


def _claims(reports: Sequence[Report]) -> list[list[str]]:
    """A row a claim, with its verdict and difference on each dataset."""
    told = [{(claim["says"], claim["by"]): claim for claim in report.get("claims") or ()} for report in reports]
    every = dict.fromkeys(key for claims in told for key in claims)  # a later report may hold more of them
    return [
        [says, measure_title(by), *(_verdict(claims[says, by]) if (says, by) in claims else "" for claims in told)]
        for says, by in every
    ]


def _verdict(claim: Report) -> str:
    found = claim["paired"][claim["by"]]
    difference = with_error(found["difference"], found["se"], 4, sign=True)
    return f"{_VERDICTS[claim['verdict']]}: {difference}, {_p(found['p_holm'])}"


def _in_bold(verdict: str) -> str:
    word, mark, rest = verdict.partition(":")
    return f"**{word}**{mark}{rest}" if verdict else ""


def _p(value: float | None) -> str:
    if value is None:
        return "p not defined"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _dataset(report: Report) -> Iterator[str]:
    yield f"### {report['dataset_title']}, profile `{report['profile']}`"
    yield ""
    origin = report["provenance"]
    laid = "".join(f", `{name} = {json.dumps(value)}`" for name, value in origin.get("laid_over", {}).items())
    rows = f"{report['n_test']:,} test rows{_of_users(report)}"
    yield f"`{origin['command']}`{laid}: {rows}.{_made(report)}"
    tables: dict[str, Any] = report.get("tables") or {"": _whole(report)}
    for table in tables.values():
        yield ""
        yield from _table(table, report)
    yield from curves_told(report)


def _made(report: Report) -> str:
    """When, on what machine and with which code, as far as it is known."""
    made = report["provenance"].get("made", {})
    day = f" on {made['at'][:10]}" if made.get("at") else ""
    by = " and ".join(made.get("machines", ())).replace(", 1 threads", ", 1 thread")
    machines = f", by {by}" if by else ""
    commit = f", kept at commit `{made['commit']}`" if made.get("commit") else ""
    told = f"{day}{machines}{commit}"
    return f" Made{told if day else told.removeprefix(',')}." if told else ""


def _of_users(report: Report) -> str:
    users, both = report["users"]["n"], report["users"]["with_both_answers"]
    return "" if users is None else f" of {users:,} users (UAUC of {both:,})"


def _whole(report: Report) -> dict[str, Any]:
    """A study without tables: all of its rows as one."""
    rows = [
        {"row": row, "title": figures["title"], "paired": report["paired"].get(row), "published": None}
        for row, figures in report["methods"].items()
    ]
    return {"title": "", "note": "", "reference": report["reference"], "published_dataset": None, "rows": rows}


def _table(table: Report, report: Report) -> Iterator[str]:
    beside = table["published_dataset"]
    yield from (line for line in (f"**{table['title']}**" if table["title"] else "", table["note"]) if line)
    yield ""
    header = ["method", "AUC", "UAUC", "log loss", "ECE", "accuracy", "AUC to the reference", "p"]
    header += [f"published on {beside}: AUC", "log loss", "accuracy"] if beside else []
    yield from markdown.table(header, (_cells(row, report, bool(beside)) for row in table["rows"]), figures=True)


def _cells(row: Report, report: Report, beside: bool) -> list[str]:
    figures, found = report["methods"][row["row"]], (row["paired"] or {}).get("auc")
    cells = [markdown.cell(row["title"]), *(with_error(figures[m], figures[f"{m}_se"], 4) for m in ("auc", "uauc"))]
    cells += [number(figures[measure], 4) for measure in ("log_loss", "ece", "accuracy")]
    if found:
        cells += [with_error(found["difference"], found["se"], 4, sign=True), _p(found["p_holm"])]
    else:
        cells += ["reference", ""]
    if beside:
        published = row["published"] or {}
        cells += [number(published.get(measure), 4) for measure in ("auc", "log_loss", "accuracy")]
    return cells
