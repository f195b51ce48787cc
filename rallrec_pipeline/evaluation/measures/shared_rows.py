"""The rows that methods are compared on: test rows that all have, and the validation rows that they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.evaluation.measures.by_user import Codes
from rallrec_pipeline.evaluation.measures.metrics import Floats, Labels, check_predictions


@dataclass(frozen=True)
class SharedRows:
    """Rows of one split, ascending by sample id, (n,), and P(yes) of each method, (n,).

    `raw` is before any calibration by the method itself, `given` as the method gave it.
    """

    sample_ids: NDArray[np.int64]
    labels: Labels
    given: dict[str, Floats] = field(default_factory=dict)
    raw: dict[str, Floats] = field(default_factory=dict)

    @property
    def one_class(self) -> bool:
        """Whether liked or disliked rows are missing."""
        return np.unique(self.labels).size < 2


def compared_rows(predictions: Mapping[str, pl.DataFrame]) -> SharedRows:
    """The test rows of the methods' tables: `sample_id`, `label`, `p_yes`, and where known `split` and `p_raw`.

    Without `split` all rows are test rows; without `p_raw` it is `p_yes`.
    Raises DataError when a method has other rows, repeated rows or other labels than the first.
    """
    if not predictions:
        raise DataError("there are no predictions to report on: score at least one method first")
    return _shared({method: _of_split(frame, "test") for method, frame in predictions.items()})


def common_validation_rows(predictions: Mapping[str, pl.DataFrame]) -> SharedRows:
    """The validation rows that all methods have which have any; a method without them is not in the result.

    Raises DataError as `compared_rows`.
    """
    frames = {method: _of_split(frame, "valid") for method, frame in predictions.items()}
    frames = {method: frame for method, frame in frames.items() if frame.height}
    if not frames:
        return SharedRows(np.zeros(0, np.int64), np.zeros(0, np.int8))
    ids = (frame.select("sample_id") for frame in frames.values())
    common = reduce(lambda left, right: left.join(right, on="sample_id", how="semi"), ids)
    return _shared({method: frame.join(common, on="sample_id", how="semi") for method, frame in frames.items()})


def facts_of(facts: pl.DataFrame | None, sample_ids: NDArray[np.int64]) -> pl.DataFrame:
    """The row of `facts` of each sample, in order. Raises DataError when a sample has none, or several."""
    rows = pl.DataFrame({"sample_id": sample_ids}, schema={"sample_id": pl.Int64})
    if facts is None:
        return rows
    found = rows.join(facts, on="sample_id", how="inner", maintain_order="left")
    if found["sample_id"].to_list() != rows["sample_id"].to_list():
        raise DataError(f"{found.height} facts on {rows.height} test rows: make samples and predictions again")
    return found


def user_codes(facts: pl.DataFrame) -> Codes | None:
    """A number for the user of each row, (n,), from 0 on; None where rows have no users."""
    if "user_id" not in facts.columns or facts["user_id"].null_count():
        return None
    return np.asarray(facts["user_id"].rank("dense").to_numpy(), dtype=np.int64) - 1


def _of_split(frame: pl.DataFrame, split: str) -> pl.DataFrame:
    if "split" in frame.columns:
        frame = frame.filter(pl.col("split") == split)
    elif split != "test":
        frame = frame.clear()
    raw = pl.col("p_raw" if "p_raw" in frame.columns else "p_yes").alias("p_raw")
    return frame.select("sample_id", "label", "p_yes", raw).sort("sample_id")


def _shared(frames: Mapping[str, pl.DataFrame]) -> SharedRows:
    first = next(iter(frames))
    ids, labels = (frames[first][name].to_numpy() for name in ("sample_id", "label"))
    rows = SharedRows(ids, labels.astype(np.int8))
    for method, frame in frames.items():
        if frame["sample_id"].n_unique() < frame.height:
            raise DataError(f"predictions of {method!r} repeat sample ids: score the method again")
        if not (np.array_equal(frame["sample_id"], ids) and np.array_equal(frame["label"], labels)):
            raise DataError(
                f"{method!r} ({frame.height} rows) and {first!r} ({ids.size} rows) were not scored on the same"
                " labelled rows: score both again with the same settings"
            )
        for name, column in (("p_yes", rows.given), ("p_raw", rows.raw)):
            p = frame[name].to_numpy()
            column[method] = check_predictions(labels, p)[1] if ids.size else p.astype(np.float64)
    return rows
