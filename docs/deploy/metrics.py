"""Figures of a lake for Prometheus: rallrec status --json | python metrics.py > FOLDER/rallrec.prom

FOLDER is what the node exporter's textfile collector reads. With `status --verify --json` damaged files are counted.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

STATES = ("fresh", "stale", "missing")


def lines(status: dict[str, Any]) -> Iterator[str]:
    """Lines of Prometheus' text format; names of datasets hold no character that it would have to escape."""
    yield "# TYPE rallrec_assets gauge"
    for dataset, found in status["datasets"].items():
        counts = Counter(asset["state"] for asset in found.get("assets", {}).values())
        yield from (f'rallrec_assets{{dataset="{dataset}",state="{state}"}} {counts[state]}' for state in STATES)
    yield "# TYPE rallrec_dataset_faulty gauge"
    for dataset, found in status["datasets"].items():
        yield f'rallrec_dataset_faulty{{dataset="{dataset}"}} {int("error" in found)}'
    yield "# TYPE rallrec_lake_free_bytes gauge"
    yield f"rallrec_lake_free_bytes {shutil.disk_usage(status['lake']).free}"
    if "verified" in status:
        yield "# TYPE rallrec_damaged_files gauge"
        yield f"rallrec_damaged_files {len(status['verified']['damages'])}"


if __name__ == "__main__":
    print("\n".join(lines(json.load(sys.stdin))))
