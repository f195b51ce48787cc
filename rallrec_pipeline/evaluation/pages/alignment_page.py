"""The report on alignment (see `build_alignment_report`) as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rallrec_pipeline.evaluation.measures.alignment import NEAREST
from rallrec_pipeline.evaluation.measures.nearest import BETWEEN, KINDS, PARTS
from rallrec_pipeline.evaluation.pages.page import render
from rallrec_pipeline.evaluation.plots.alignment_plots import COLOURS, OTHER
from rallrec_pipeline.evaluation.reports.wording import counted

Report = Mapping[str, Any]

RECALL = f"recall_at_{NEAREST}"
PROJECTIONS = {"before": "Before", "fitted": "Fitted", "held_out": "Held out", "in_use": "In use"}
_MEASURES = {
    "alignment": ("Alignment: distance to the own vector", 3),
    "other_pairs": ("Distance to others' vectors", 3),
    "uniformity": ("Uniformity", 2),
}
_SHARES = {
    "recall_at_1": "Own vector is the nearest",
    RECALL: f"Own vector is among the {NEAREST} nearest",
    "own_nearer": "Own vector is nearer than another",
}
_NAMES = {"text": "Text", "collaborative": "Collab.", "aligned": "Aligned", "mixture": "Mix"}


def render_alignment_page(report: Report, measures: Mapping[str, bytes], maps: Mapping[str, bytes]) -> str:
    """The page of a report, with its plots of the measures and its maps (caption -> PNG bytes)."""
    return render(
        "alignment.html.j2",
        {**measures, **maps},
        report["provenance"],
        title=f"{report['dataset_title']}: alignment",
        facts=_facts(report),
        lead=[held_out_sentence(report), *memory_sentence(report)],
        figures=report["figures"],
        projections=PROJECTIONS,
        measures=_MEASURES,
        shares=_SHARES,
        reasons=list(_reasons(report)),
        of_measures=len(measures),
        legend=list(_legend(report)),
        samples=report["nearest"],
        kinds={kind: _kind_title(kind, report["weights"]) for kind in KINDS},
        header=["Neighbour", *(_NAMES[kind] for kind in KINDS)],
        why=_why,
    )


def held_out_sentence(report: Report) -> str:
    """What the report is made for: recall of fitted items beside that of held-out ones."""
    measured = report["measured"]
    if measured["why"]:
        return f"Nothing is measured, because {measured['why']}."
    counts = (
        f"The projector was fitted on {counted(measured['fitted'], 'item')} and measured on {measured['held_out']:,}"
        " held-out ones as well."
    )
    fitted, held_out = (report["figures"][name] for name in ("fitted", "held_out"))
    if held_out[RECALL] is None:
        return counts
    return (
        f"{counts} An item's own collaborative vector is among the {NEAREST} nearest to its projected text for"
        f" {fitted[RECALL]:.1%} of the fitted items and for {_with_error(held_out, RECALL)} of the held-out ones;"
        f" chance is {measured['chance'][str(NEAREST)]:.1%}."
    )


def memory_sentence(report: Report) -> list[str]:
    """Whether the fit carries over: held out less than half of what fitted items have, beyond two errors, is memory."""
    figures = report["figures"]
    if not figures or figures["held_out"][RECALL] is None:
        return []
    fitted, held_out = figures["fitted"], figures["held_out"]
    is_memory = held_out[RECALL] + 2 * held_out[f"{RECALL}_se"] < fitted[RECALL] / 2
    says = "e_ssl memorises the vectors that it is fitted on" if is_memory else "What e_ssl learns carries over"
    return [
        f"{says}: of a held-out item the own vector is nearer than another item's in"
        f" {_with_error(held_out, 'own_nearer')} of the cases; chance is 50%."
    ]


def _facts(report: Report) -> list[str]:
    field, measured = report["category"]["field"], report["measured"]
    texts = [f"dataset {report['dataset']}", counted(report["items"], "item"), f"seed {report['seed']}"]
    if not measured["why"]:
        both = measured["have_both_vectors"]
        drawn = f", {measured['items']:,} of them drawn" if both > measured["items"] else ""
        texts.append(f"{both:,} with text and collaborative vectors{drawn}")
    return texts if field else [*texts, "no field says what kind an item is: one colour"]


def _reasons(report: Report) -> Iterator[str]:
    """Why a figure is missing, each once."""
    found: dict[str, None] = {}
    for projection in PROJECTIONS if report["figures"] else ():
        for name, why in report["figures"][projection]["not_defined"].items():
            found[f"{_SHARES.get(name, name.capitalize())} is not defined, because {why}"] = None
    yield from found


def _legend(report: Report) -> Iterator[tuple[str, str]]:
    """Name and colour of each kind of point."""
    items = report["category"]["items"]
    for (name, count), colour in zip(items.items(), COLOURS, strict=False):
        yield f"{name} {count:,}", colour
    if items and (rest := report["items"] - sum(items.values())):
        yield f"other or none {rest:,}", OTHER


def _kind_title(kind: str, weights: Mapping[str, float]) -> str:
    if kind in PARTS:
        return f"By {kind} vectors"
    parts = " + ".join(f"{weights[part]:g} {part}" for part in PARTS if weights.get(part))
    return f"By the mixture: {parts}"


def _why(neighbour: Mapping[str, Any]) -> str:
    """What a neighbour has in common with the item, in a few words."""
    shared = [f"{name}: {BETWEEN.join(entries)}" for name, entries in neighbour["shared"].items()]
    return "; ".join([*shared, counted(neighbour["co_raters"], "co-rater")])


def _with_error(figures: Mapping[str, Any], name: str) -> str:
    error = figures[f"{name}_se"]  # 0 where all rows agree: that is no certainty
    return f"{figures[name]:.1%} ± {error:.1%}" if error else f"{figures[name]:.1%}"
