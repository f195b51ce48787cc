"""The evaluation report as one self-contained HTML page: no script, no other host, light and dark."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from rallrec_pipeline.evaluation.metrics import METRICS
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

_STYLE = """
:root { color-scheme: light dark; --ink:#1c2430; --soft:#5b6675; --page:#f6f7f9; --card:#fff; --line:#dfe3e8;
  --blue:#0072b2; --sky:#56b4e9; --orange:#e69f00; }
@media (prefers-color-scheme: dark) { :root { --ink:#e6e9ee; --soft:#9aa5b4; --page:#12161c; --card:#1b2129;
  --line:#323b47; --blue:#56b4e9; --sky:#2a7fb0; } }
* { box-sizing:border-box }
body { margin:0; background:var(--page); color:var(--ink); font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif }
main { max-width:60rem; margin:0 auto; padding:1.5rem 1rem 3rem }
h1 { font-size:1.6rem; line-height:1.25; margin:.5rem 0 .25rem; overflow-wrap:anywhere }
h2 { font-size:1.1rem; margin:0 0 .75rem }
p { margin:.4rem 0 } .soft { color:var(--soft); font-size:.875rem }
section { background:var(--card); border:1px solid var(--line); border-radius:.75rem; padding:1rem 1.1rem;
  margin-top:1rem }
.lead { border-left:.35rem solid var(--blue) } .lead p { font-size:1.05rem }
.facts { display:flex; flex-wrap:wrap; gap:.2rem 1.2rem; margin:.25rem 0 0; padding:0; list-style:none }
.scroll { overflow-x:auto }
table { border-collapse:collapse; width:100%; font-size:.9rem; font-variant-numeric:tabular-nums }
th,td { padding:.4rem .6rem; text-align:right; border-bottom:1px solid var(--line); white-space:nowrap }
th { color:var(--soft); font-weight:600; font-size:.8rem; vertical-align:bottom }
th:first-child,td:first-child { text-align:left; white-space:normal; min-width:10rem; padding-left:0 }
tbody tr:last-child td { border-bottom:0 } tr.main td { font-weight:650 }
.dot { display:inline-block; width:.65em; height:.65em; border-radius:50%; margin-right:.45em; background:var(--sky) }
.dot.baseline { background:var(--orange) } .main .dot { background:var(--blue) }
.plots { display:grid; gap:1rem; grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr)) }
figure { margin:0 } figure:first-child { grid-column:1/-1 }
figure img { display:block; width:100%; height:auto; background:#fff; border-radius:.5rem; padding:.4rem }
figcaption { color:var(--soft); font-size:.875rem; margin-top:.35rem }
pre { overflow-x:auto; font-size:.8rem; line-height:1.4; margin:.75rem 0 0 } summary { cursor:pointer; font-weight:600 }
@media (max-width:34rem) { table { font-size:.8rem } th,td { padding:.35rem .3rem }
  main { padding:.75rem .6rem 2rem } section { padding:.8rem }
  th:first-child,td:first-child { min-width:7.5rem } h1 { font-size:1.3rem } }
"""


def render_html(report: Report, plots: Mapping[str, bytes]) -> str:
    """The page of a report from `build_report`, with `plots` (caption -> PNG bytes, the first at full width)."""
    title = f"{report['dataset_title']}: evaluation"
    parts = [
        f"<h1>{escape(title)}</h1>{_facts(report)}",
        f'<section class="lead"><p>{escape(headline(report))}</p><p>{escape(verdict(report))}</p></section>',
        _section("Methods on the same test rows", _methods(report)),
        _plots(plots),
        _paired(report),
        _retrieval(report),
        _section("The papers' figures", _papers(report)),
        _provenance(report),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _facts(report: Report) -> str:
    facts = (
        f"dataset {report['dataset']}",
        f"profile {report['profile']}",
        f"seed {report['seed']}",
        f"{report['n_train']:,} training samples for the LLM",
        f"{report['n_test']:,} test rows, {report['share_liked']:.0%} liked",
    )
    return f'<ul class="facts soft">{"".join(f"<li>{escape(fact)}</li>" for fact in facts)}</ul>'


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
    return _table(("Method", "AUC", "Log loss", "Accuracy", "Rows", "Time"), rows) + f'<p class="soft">{note}</p>'


def _plots(plots: Mapping[str, bytes]) -> str:
    if not plots:
        return ""
    figures = "".join(
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{b64encode(png).decode()}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, png in plots.items()
    )
    return f'<section><h2>Plots</h2><div class="plots">{figures}</div></section>'


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
    body = _table(("RALLRec minus …", "AUC", "Log loss", "Accuracy"), rows)
    return _section("Paired differences on the same rows", f'{body}<p class="soft">{note}</p>')


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
    body = _table(("Item vectors", "Neighbour AUC"), rows) + f'<p class="soft">{escape(note)}</p>'
    return _section("What the history is retrieved by", body)


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
    table = _table(("Method", "AUC", "Log loss", "Accuracy", "Paper"), rows)
    return f'{caveat}{table}<p class="soft">Sources: {escape(sources)}.</p>'


def _provenance(report: Report) -> str:
    text = json.dumps(report["provenance"], indent=2, ensure_ascii=False, sort_keys=True)
    return f"<section><details><summary>Provenance</summary><pre>{escape(text)}</pre></details></section>"


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _table(head: Sequence[str], rows: Iterable[tuple[bool, Sequence[Any]]]) -> str:
    """A table of cells that are already HTML; a row's flag marks the main method."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        f"<tr{' class=main' if main else ''}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for main, cells in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
