"""Report pages out of `templates/`: each one self-contained HTML file, all text escaped."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from rallrec_pipeline.evaluation.wording import NONE, duration, holm_text, number, with_error


def render(template: str, plots: Mapping[str, bytes], provenance: Mapping[str, Any], **values: Any) -> str:
    """A page; `plots` (caption -> PNG bytes), `provenance` and `values` are plain data, never markup."""
    pictures = [{"caption": caption, "base64": b64encode(png).decode()} for caption, png in plots.items()]
    origin = json.dumps(provenance, indent=2, ensure_ascii=False, sort_keys=True)
    return _environment().get_template(template).render(plots=pictures, provenance=origin, **values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rallrec_pipeline.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    wording = {"number": number, "with_error": with_error, "duration": duration, "holm_text": holm_text}
    environment.filters |= wording | {"count": "{:,}".format, "percent": _percent, "share": _share}
    return environment


def _percent(share: float | None, digits: int = 1) -> str:
    return NONE if share is None else f"{share:.{digits}%}"


def _share(part: int, whole: int) -> str:
    return _percent(part / whole if whole else None)
