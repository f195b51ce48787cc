"""What all report pages share: one self-contained HTML file, no script, no other host, light and dark."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

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


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page of `parts`, each HTML already; empty ones are left out."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def facts(texts: Iterable[str]) -> str:
    """Short facts in a line."""
    return f'<ul class="facts soft">{"".join(f"<li>{escape(text)}</li>" for text in texts)}</ul>'


def section(title: str, body: str) -> str:
    """A card; `body` is HTML already."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def table(head: Sequence[str], rows: Iterable[tuple[bool, Sequence[Any]]]) -> str:
    """A table of cells that are already HTML; a row's flag marks it as the main one."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        f"<tr{' class=main' if main else ''}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for main, cells in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def gallery(plots: Mapping[str, bytes]) -> str:
    """Plots (caption -> PNG bytes), the first at full width."""
    shown = "".join(
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{b64encode(png).decode()}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, png in plots.items()
    )
    return f'<div class="plots">{shown}</div>'


def provenance(values: Mapping[str, Any]) -> str:
    """Where everything comes from, folded away."""
    text = json.dumps(values, indent=2, ensure_ascii=False, sort_keys=True)
    return f"<section><details><summary>Provenance</summary><pre>{escape(text)}</pre></details></section>"
