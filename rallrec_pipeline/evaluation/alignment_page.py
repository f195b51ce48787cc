"""The report on alignment (see `build_alignment_report`) as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rallrec_pipeline.evaluation.alignment import NEAREST
from rallrec_pipeline.evaluation.nearest import BETWEEN, KINDS, PARTS
from rallrec_pipeline.evaluation.page import render

Report = Mapping[str, Any]

MEASURED = {
    "text": "Text vectors (e_text)",
    "collaborative": "Collaborative vectors (e_colla)",
    "before": "Projected text, before the fit",
    "fitted": "Projected text, fitted items",
    "held_out": "Projected text, held-out items",
    "in_use": "e_ssl in use, fitted on all items",
}
_NAMES = {"text": "Text", "collaborative": "Collaborative", "aligned": "Aligned", "mixture": "Mixture"}


def render_alignment_page(report: Report, plots: Mapping[str, bytes]) -> str:
    """The page of a report, with `plots` (caption -> PNG bytes): the measures first, then the maps."""
    return render(
        "alignment.html.j2",
        plots,
        report["provenance"],
        title=f"{report['dataset_title']}: alignment",
        facts=_facts(report),
        lead=[held_out_sentence(report), *memory_sentence(report)],
        measured=[(title, report["figures"][name]) for name, title in MEASURED.items() if name in report["figures"]],
        reasons=list(_reasons(report)),
        samples=report["nearest"],
        kinds={kind: _kind_title(kind, report["weights"]) for kind in KINDS},
        columns=KINDS,
        header=["Neighbour", *(_NAMES[kind] for kind in KINDS), "Co-raters"],
        why=_why,
        nearest=NEAREST,
    )


def held_out_sentence(report: Report) -> str:
    """What the report is made for: recall of fitted items beside that of held-out ones."""
    measured = report["measured"]
    if measured["why"]:
        return f"Nothing is measured, because {measured['why']}."
    counts = (
        f"The projector was fitted on {measured['fitted']:,} items and measured on {measured['held_out']:,} others."
    )
    fitted, held_out = (report["figures"][name] for name in ("fitted", "held_out"))
    if held_out[f"recall_at_{NEAREST}"] is None:
        return counts
    return (
        f"{counts} The item's own collaborative vector is among the {NEAREST} nearest to its projected text for"
        f" {_percent(fitted)} of the fitted items and for {_percent(held_out)} of the held-out ones; chance is"
        f" {measured['chance'][str(NEAREST)]:.1%}."
    )


def memory_sentence(report: Report) -> list[str]:
    """Whether the fit carries over: held out less than half of what fitted items have, beyond two errors, is memory."""
    figures, name = report["figures"], f"recall_at_{NEAREST}"
    if not figures or figures["held_out"][name] is None:
        return []
    fitted, held_out = figures["fitted"][name], figures["held_out"]
    chance = report["measured"]["chance"][str(NEAREST)]
    most, least = (held_out[name] + sign * 2 * held_out[f"{name}_se"] for sign in (1, -1))
    beyond = "more than chance" if least > chance else "not shown to be more than chance"
    if most < fitted / 2:
        return [
            "So e_ssl memorises the collaborative vectors of the items that it is fitted on; what it knows of others is"
            f" {beyond}."
        ]
    return [f"So what e_ssl learns carries over to items that it was not fitted on, and is {beyond}."]


def _facts(report: Report) -> list[str]:
    field, measured = report["category"]["field"], report["measured"]
    texts = [f"dataset {report['dataset']}", f"{report['items']:,} items", f"seed {report['seed']}"]
    if not measured["why"]:
        both = measured["have_both_vectors"]
        drawn = f", {measured['items']:,} drawn of them" if both > measured["items"] else ""
        texts.append(f"{both:,} with both vectors{drawn}")
    return [*texts, f"coloured by {field}" if field else "no field says what kind an item is: one colour"]


def _reasons(report: Report) -> Iterator[str]:
    """Why a figure is missing, each once."""
    found: dict[str, None] = {}
    for figures in report["figures"].values():
        for name, why in figures["not_defined"].items():
            found[f"{name.replace('_at_', '@').capitalize()} is not defined where {why}"] = None
    yield from found


def _kind_title(kind: str, weights: Mapping[str, float]) -> str:
    if kind in PARTS:
        return f"{_NAMES[kind]} vectors"
    parts = " + ".join(f"{weights[part]:g} {part}" for part in PARTS if weights.get(part))
    return f"Mixture: {parts}"


def _why(neighbour: Mapping[str, Any]) -> str:
    """What a neighbour has in common with the item, in a few words."""
    shared = "; ".join(f"{name}: {BETWEEN.join(entries)}" for name, entries in neighbour["shared"].items())
    return shared or "no field in common"


def _percent(figures: Mapping[str, Any]) -> str:
    name = f"recall_at_{NEAREST}"
    return f"{figures[name]:.1%} (± {figures[f'{name}_se']:.1%})"
