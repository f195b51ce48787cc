"""How fast a model runs on this machine: a few measured seconds, kept in the lake, and the estimates made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.provenance import stable_hash
from rallrec_pipeline.lake.sealed import read_sealed, write_sealed

SPEEDS_VERSION = "2"  # raise it when the same work has become faster
Point = tuple[int, float]


@dataclass(frozen=True)
class CalibrationKey:
    """What a calibration holds for; it says nothing of another machine, model or number type."""

    machine: str
    model: str
    dtype: str
    load_in_8bit: bool
    version: str = SPEEDS_VERSION


@dataclass(frozen=True)
class Calibration:
    """Measured speeds of one model on one machine."""

    key: CalibrationKey
    reading: tuple[Point, ...]
    """(tokens of a sequence, seconds per token) of a forward pass over a batch of such sequences."""
    writing: tuple[Point, ...]
    """(sequences that decode together, seconds per step)."""
    training: Point
    """(tokens of a sequence, seconds per token) of a forward and backward pass."""
    load_seconds: float
    seconds: float
    """What the calibration took, without loading."""
    created_at: str

    def reading_seconds(self, tokens: float, length: float) -> float:
        """Seconds of a forward pass over `tokens` in sequences of `length`; attention grows with the length."""
        return tokens * _line(self.reading, length)

    def writing_seconds(self, tokens: float, batch: int) -> float:
        """Seconds of sampling `tokens` with `batch` sequences at a time."""
        return tokens / max(1, batch) * _line(self.writing, batch)

    def training_seconds(self, tokens: float, length: float) -> float:
        """Seconds of forward and backward passes over `tokens` in sequences of `length`."""
        measured_at, per_token = self.training
        return tokens * per_token * _line(self.reading, length) / _line(self.reading, measured_at)


def calibration_file(lake: Path, key: CalibrationKey) -> Path:
    """Where the calibration of `key` lies."""
    return lake / "cache" / "calibration" / f"{stable_hash(asdict(key))}.json"


def store_calibration(lake: Path, calibration: Calibration) -> None:
    """Keep `calibration` for the next estimate."""
    write_sealed(calibration_file(lake, calibration.key), asdict(calibration))


def stored_calibration(lake: Path, key: CalibrationKey) -> Calibration | None:
    """The calibration of `key`; None when there is none that can be read."""
    path = calibration_file(lake, key)
    try:
        values = read_sealed(path) if path.exists() else None
        return None if values is None else _parsed(values)
    except (DataError, TypeError, KeyError, ValueError):
        return None


def _parsed(values: dict) -> Calibration:  # type: ignore[type-arg]
    points = {name: tuple((int(at), float(took)) for at, took in values[name]) for name in ("reading", "writing")}
    at, took = values["training"]
    rest = {"key": CalibrationKey(**values["key"]), "training": (int(at), float(took))}
    return Calibration(**{**values, **points, **rest})


def _line(points: Sequence[Point], at: float) -> float:
    """The line through the first and the last point, at `at`; never below half of the least that was measured."""
    (x0, y0), (x1, y1) = points[0], points[-1]
    slope = (y1 - y0) / (x1 - x0) if x1 != x0 else 0.0
    return max(y0 + max(0.0, slope) * (at - x0), min(y0, y1) / 2)
