"""The evaluation report as one self-contained HTML page: no script, no other host, light and dark."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from rallrec_pipeline.evaluation.metrics import METRICS
from rallrec_pipeline.evaluation.page import facts, gallery, page, provenance, section, table
from rallrec_pipeline.evaluation.report import MAIN
from rallrec_pipeline.evaluation.wording import (
    Report,
    duration,
    headline,
    number,
    p_text,
    paper_caveat,
    ranked,
    verdict,
    with_error,
)


def render_html(report: Report, plots: Mapping[str, bytes]) -> str:
    """The page of a report from `build_report`, with `plots` (caption -> PNG bytes, the first at full width)."""
    title = f"{report['dataset_title']}: evaluation"
    parts = [
        f"<h1>{escape(title)}</h1>{_facts(report)}",
        f'<section class="lead"><p>{escape(headline(report))}</p><p>{escape(verdict(report))}</p></section>',
        section("Methods on the same test rows", _methods(report)),
        section("Plots", gallery(plots)) if plots else "",
        _paired(report),
        _retrieval(report),
        section("The papers' figures", _papers(report)),
        provenance(report["provenance"]),
    ]
    return page(title, parts)


def _facts(report: Report) -> str:
    all_rows = report["n_train_baselines"]
    beside = f", {all_rows:,} for the baselines" if all_rows is not None else ""
    texts = (
        f"dataset {report['dataset']}",
        f"profile {report['profile']}",
        f"seed {report['seed']}",
        f"{report['n_train']:,} training samples for the LLM{beside}",
        f"{report['n_test']:,} test rows, {report['share_liked']:.0%} liked",
    )
    return facts(texts)


def _methods(report: Report) -> str:
    rows = []
    for name, figures in ranked(report):
        label = f'<span class="dot {escape(figures["kind"])}"></span>{escape(figures["title"])}'
        cells = [with_error(figures[metric], figures[f"{metric}_se"]) for metric in METRICS]
        rows.append((name == MAIN, [label, *cells, f"{figures['n']:,}", duration(figures["seconds"])]))
    note = (
        f"Best AUC first; ± is the standard error of {report['resamples']:,} bootstrap resamples of the test rows."
        " Higher AUC and accuracy and lower log loss are better. Blue: with an LLM; orange: without."
        " Methods are best compared by the paired differences below, not by whether their ± overlap."
    )
    return table(("Method", "AUC", "Log loss", "Accuracy", "Rows", "Time"), rows) + f'<p class="soft">{note}</p>'


def _paired(report: Report) -> str:
    if not report["paired"]:
        return ""
    rows = []
    for pair, found in report["paired"].items():
        other = pair.removeprefix(f"{MAIN} - ")
        title = report["methods"][other]["title"] if other in report["methods"] else other
        cells = [
            f"{with_error(found[m]['difference'], found[m]['se'], 4, sign=True)}"
            f'<br><span class="soft">{escape(p_text(found[m]["p_value"], report["resamples"]))}</span>'
            for m in METRICS
        ]
        rows.append((False, [escape(title), *cells]))
    note = "Positive AUC and accuracy and negative log loss are in RALLRec's favour. Two-sided paired bootstrap."
    body = table(("RALLRec minus …", "AUC", "Log loss", "Accuracy"), rows)
    return section("Paired differences on the same rows", f'{body}<p class="soft">{note}</p>')


def _retrieval(report: Report) -> str:
    """Each kind of item vector alone, all in equal parts, and the mixture in use, judged without the LLM."""
    tried = report["retrieval"].get("neighbour_auc", [])
    used = report["retrieval"].get("weights", {})
    rows = []
    for mixture in tried:
        weights = {kind: weight for kind, weight in mixture.items() if kind != "auc"}
        in_use = weights == used
        if in_use or sum(weight > 0 for weight in weights.values()) == 1 or set(weights.values()) == {1.0}:
            name = " + ".join(f"{weight:g} {kind}" for kind, weight in weights.items() if weight > 0)
            rows.append((in_use, [escape(name) + (" (in use)" if in_use else ""), number(mixture["auc"], 4)]))
    if not rows:
        return ""
    note = (
        "AUC on all validation samples of the mean rating of the retrieved history items, the first ones weighing"
        f" more; no LLM is asked. Channel weight alpha of the reranker: {report['retrieval'].get('alpha', 0):.3g}."
    )
    body = table(("Item vectors", "Neighbour AUC"), rows) + f'<p class="soft">{escape(note)}</p>'
    return section("What the history is retrieved by", body)


def _papers(report: Report) -> str:
    caveat = f'<p class="soft">{escape(paper_caveat(report))}</p>'
    published = report["paper"]["rows"]
    if not published:
        return caveat
    ours = report["methods"].get(MAIN)
    rows = [(True, ["RALLRec in this run", *(number(ours[m]) for m in METRICS), ""])] if ours else []
    for row in published:
        source = f"{'RALLRec+' if row['paper'] == 'rallrec_plus' else 'RALLRec'}, {row['table']}"
        rows.append((False, [escape(row["title"]), *(number(row[m], 4) for m in METRICS), escape(source)]))
    sources = "; ".join(dict.fromkeys(row["source"] for row in published))
    listed = table(("Method", "AUC", "Log loss", "Accuracy", "Paper"), rows)
    return f'{caveat}{listed}<p class="soft">Sources: {escape(sources)}.</p>'
