"""Report pages out of `templates/`: each one self-contained HTML file, all text escaped."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from rallrec_pipeline.evaluation.reports.wording import NONE, duration, holm_text, number, with_error

SECTIONS = ("figures", "responses", "overview", "curves", "slices", "cost")


def render(template: str, plots: Mapping[str, bytes], provenance: Mapping[str, Any], **values: Any) -> str:
    """A page; `plots` (caption -> PNG bytes), `provenance` and `values` are plain data, never markup.

    `made` among them stands below the facts of the page: with which model, when, of which code, by what command.
    """
    values = {"made": {}} | values
    return _environment().get_template(template).render(plots=pictures(plots), provenance=provenance, **values)


def pictures(plots: Mapping[str, bytes]) -> list[dict[str, str]]:
    """Caption and data URI of each picture, PNG or SVG."""
    return [{"caption": caption, **_picture(content)} for caption, content in plots.items()]


def shown_by_section(plots: Mapping[str, Mapping[str, bytes]]) -> dict[str, list[dict[str, str]]]:
    """The pictures of each section; one without pictures is an empty list."""
    return {section: pictures(plots.get(section, {})) for section in SECTIONS}


def data_uri(kind: str, content: bytes) -> str:
    """`content` within the page, of a media type such as `text/csv`."""
    return f"data:{kind};base64,{b64encode(content).decode()}"


def _picture(content: bytes) -> dict[str, str]:
    kind = "png" if content.startswith(b"\x89PNG") else "svg"
    uri = data_uri("image/png" if kind == "png" else "image/svg+xml", content)
    return {"src": uri, "kind": kind}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rallrec_pipeline.evaluation.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    wording = {"number": number, "with_error": with_error, "duration": duration, "holm_text": holm_text}
    environment.filters |= (
        {"stacked": _stacked, "short_json": _short_json, "prose": prose}
        | wording
        | {"count": "{:,}".format, "whole": _whole, "percent": _percent, "share": _share}
    )
    return environment


def _stacked(value: float | None, se: float | None) -> Markup:
    """A figure with its error below, which keeps a column narrow."""
    told = Markup("{}").format(number(value))
    return told if se is None else told + Markup('<br><span class="soft">± {}</span>').format(number(se))


def prose(text: str) -> Markup:
    """A note of a study's file: `names` between backticks are set as code, as in Markdown; all else stays text."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _short_json(value: Any) -> str:
    """A value of the provenance: text as it is, everything else as JSON on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def _whole(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _percent(share: float | None, digits: int = 1) -> str:
    return NONE if share is None else f"{share:.{digits}%}"


def _share(part: int, whole: int) -> str:
    return _percent(part / whole if whole else None)
