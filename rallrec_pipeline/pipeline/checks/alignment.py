"""What must hold of the report on alignment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from rallrec_pipeline.lake import tables
from rallrec_pipeline.pipeline.checks.verdict import Verdict
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.stages.alignment import alignment_report_files
from rallrec_pipeline.pipeline.stages.embeddings import read_vectors

TOLERANCE = 1e-3  # similarities are written with four digits
_TABLES = {"text": "text", "collaborative": "collaborative", "aligned": "aligned", "mixture": "item"}


def alignment_figures_hold(run: StageRun) -> Verdict:
    """Every number is one; held-out items are known and counted; what the vectors themselves say is what is told."""
    file, _ = alignment_report_files(run.folder("alignment_report"), run.dataset)
    no_numbers: list[str] = []
    report = json.loads(file.read_text(encoding="utf-8"), parse_constant=no_numbers.append)
    item_ids = run.read(tables.CORE_ITEMS)["item_id"].to_list()
    vectors = {kind: read_vectors(run, table).astype(np.float64) for kind, table in _TABLES.items()}
    figures = {
        "no_numbers": len(no_numbers),
        "wrong_split": _wrong_split(report["measured"], item_ids),
        "alignment_off_by": _alignment_error(report, vectors),
        "nearest_off_by": _nearest_error(report["nearest"], item_ids, vectors),
    }
    return Verdict(all(value <= TOLERANCE for value in figures.values()), figures)


def _wrong_split(measured: Mapping[str, Any], item_ids: list[str]) -> int:
    """Held-out items that are unknown or told twice, and how far the two parts are from all that was measured."""
    if measured["why"]:
        return 0
    held_out = measured["held_out_items"]
    known = len(set(held_out) & set(item_ids))
    return len(held_out) - known + abs(measured["items"] - measured["fitted"] - len(held_out))


def _alignment_error(report: Mapping[str, Any], vectors: Mapping[str, Any]) -> float:
    """Difference from the mean squared distance of aligned and collaborative vectors, where all were measured."""
    have_both = np.flatnonzero(vectors["text"].any(axis=1) & vectors["collaborative"].any(axis=1))
    if report["measured"]["items"] != len(have_both):
        return 0.0
    one, other = (_unit(vectors[kind][have_both]) for kind in ("aligned", "collaborative"))
    found = float(np.square(one - other).sum(axis=1).mean())
    return abs(found - report["figures"]["in_use"]["alignment"])


def _nearest_error(samples: list[dict[str, Any]], item_ids: list[str], vectors: Mapping[str, Any]) -> float:
    """Largest difference between the similarity of a first neighbour and the highest that brute force finds."""
    row_of, worst = {item: row for row, item in enumerate(item_ids)}, 0.0
    for kind, all_vectors in vectors.items():
        rows = all_vectors if kind == "mixture" else _unit(all_vectors)
        has_vector = rows.any(axis=1)
        for sample in samples:
            found = sample["nearest"][kind]
            if isinstance(found, str):
                continue
            own = row_of[sample["item_id"]]
            others = has_vector & (np.arange(len(rows)) != own)
            worst = max(worst, abs(float((rows[others] @ rows[own]).max()) - found[0]["similarity"][kind]))
    return worst


def _unit(vectors: Any) -> Any:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
