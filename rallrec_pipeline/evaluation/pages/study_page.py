"""The report of a study as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rallrec_pipeline.evaluation.pages.foot import files_told
from rallrec_pipeline.evaluation.pages.page import prose, render, shown_by_section
from rallrec_pipeline.evaluation.pages.study_tables import claims_told, tables_told
from rallrec_pipeline.evaluation.plots.overview import look_of
from rallrec_pipeline.evaluation.plots.report_plots import Plots
from rallrec_pipeline.evaluation.plots.slice_plots import unsliced
from rallrec_pipeline.evaluation.reports.wording import (
    Report,
    counted,
    direction,
    headline,
    holm_text,
    ranked,
    rows_told,
    stands_out,
    undefined_told,
    with_error,
)

SHORT = 10  # characters of a fingerprint that people see


def render_study(report: Report, plots: Plots) -> str:
    """The page of a report from `build_study`, with the pictures of `study_plots`.

    Its `provenance` says which results each variant has and, as `study`, what the study's file says.
    """
    origin = report["provenance"]
    return render(
        "study.html.j2",
        {},
        origin,
        title=report["title"],
        facts=_facts(report),
        lead=[text for text in (prose(report["note"]), headline(report), study_verdict(report)) if text],
        report=report,
        claims=list(claims_told(report)),
        tables=list(tables_told(report)),
        responses=list(_responses(report)),
        shown=shown_by_section(plots),
        why_not=list(unsliced(report)),
        files=files_told(report),
        methods=list(_methods(report)),
        reference=report["methods"][report["reference"]]["title"],
        variants=list(_variants(origin)),
        stages=list(_stages(origin["variants"])),
        results=results_told(origin),
        computed=len(origin["computed_now"]),
        undefined=undefined_told(report),
    )


def study_verdict(report: Report) -> str:
    """Whether the best method by AUC can be told apart from the reference."""
    name, _ = ranked(report)[0]
    title = report["methods"][report["reference"]]["title"]
    if report["methods"][name]["auc"] is None:
        return "So nothing can be said of how the methods rank."
    if name == report["reference"]:
        return f"No method ranks better than the reference, {title}."
    found = report["paired"][name]["auc"]
    told = "It ranks better than" if direction(found) > 0 else "It cannot be told apart from"
    error = with_error(found["difference"], found["se"], 4, sign=True)
    return f"{told} the reference, {title}: AUC {error} ({holm_text(found)})."


def results_told(origin: Mapping[str, Any]) -> str:
    """`2 variants need 26 results, of which 18 are distinct`."""
    variants, results, distinct = len(origin["variants"]), origin["results"], origin["distinct_results"]
    need, are = ("needs" if variants == 1 else "need"), ("is" if distinct == 1 else "are")
    return f"{counted(variants, 'variant')} {need} {counted(results, 'result')}, of which {distinct:,} {are} distinct"


def _facts(report: Report) -> list[str]:
    return [
        f"study {report['study']}",
        f"dataset {report['dataset']}",
        f"profile {report['profile']}",
        counted(len(report["provenance"]["variants"]), "variant"),
        counted(len(report["methods"]), "method"),
        rows_told(report),
    ]


def _methods(report: Report) -> Iterator[dict[str, Any]]:
    """Figures of each method in the study's order; only a best one that is told apart from the next stands out."""
    for name, figures in report["methods"].items():
        found = report["paired"].get(name, {}).get("auc")
        yield {**figures, "difference": found, "look": look_of(report, name), "main": stands_out(report, name)}


def _responses(report: Report) -> Iterator[dict[str, Any]]:
    """A row for each way to ask the reasoner: how long its responses are, what they take, what is wrong with them."""
    for variant, told in report["responses"].items():
        for one in told["responses"].values():
            title = f"{variant}: {one['title']}" if len(report["responses"]) > 1 else one["title"]
            marks = ", ".join(f"{count:,} {mark}" for mark, count in one["marks"].items())
            more = {"title": title, "wrong": marks, "published": told["published_tokens"], "general": told["general"]}
            yield one | more


def _variants(origin: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Each variant, what it sets beyond what all share, and how many of its results no other variant has."""
    overlays = origin["study"]["variants"]
    for name, found in origin["variants"].items():
        others = {pair for other, parts in origin["variants"].items() if other != name for pair in parts.items()}
        told = "; ".join(f"{key} = {value}" for key, value in _flat(overlays.get(name, {})))
        yield name, told, len(set(found.items()) - others)


def _stages(variants: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, list[tuple[str, list[str]]]]]:
    """Each stage with its distinct fingerprints, shortened, and the variants that have each."""
    for stage in next(iter(variants.values())):
        groups: dict[str, list[str]] = {}
        for name, found in variants.items():
            groups.setdefault(found[stage][:SHORT], []).append(name)
        yield stage, list(groups.items())


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings by dotted name, values as text."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(part, f"{name}.{key}" if name else key)
    else:
        yield name, str(value)
