"""The line that a benchmark prints for each comparison, as benchmarks/run.py reads it."""

from __future__ import annotations

import json
from typing import Any


def print_row(
    name: str,
    unit: str,
    ours: float,
    peer: float,
    peer_name: str,
    target: float | None,
    *,
    faster_is_less: bool = False,
    notes: dict[str, Any] | None = None,
) -> None:
    """Print one comparison. `ours` and `peer` are rates, or durations where `faster_is_less`."""
    found: dict[str, Any] = {"name": name, "unit": unit, "ours": rounded(ours), "peer": rounded(peer)}
    found["peer_name"] = peer_name
    found["ratio"] = rounded(peer / ours if faster_is_less else ours / peer)
    found["target"] = target
    print(json.dumps(found | ({"notes": notes} if notes else {})), flush=True)


def rounded(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")
