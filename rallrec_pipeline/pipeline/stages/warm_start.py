"""A fit of a whole table that may start from the weights which the last run left in the lake.

Weights that were fitted to the same data with the same settings are not fitted again but taken as they are. So a run
that is broken off after its weights were stored does not start from its own result when it is run again: it ends with
the bytes of one that was not broken off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.weights import Weights, read_weights
from rallrec_pipeline.errors import DataError, RallrecError, StaleArtefactError
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.settings import AlignmentSettings, CollaborativeSettings, WarmStartMode

ORIGIN = ("fit", "warm_started_from", "space")
Vectors = NDArray[np.float32]
Judge = Callable[[Vectors], float]
Result = TypeVar("Result")
Start = TypeVar("Start")


@dataclass(frozen=True)
class Fit:
    """Item `vectors` (n_items, d) float32, the files beside them, and what is worth knowing about the fit."""

    vectors: Vectors
    files: list[Path]
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Chosen(Generic[Result]):
    """The fit to use, where it comes from, and the cold fit where both were asked for.

    `seconds` is None for weights that were taken as they were found. `origin`: see `Weights`.
    """

    result: Result
    seconds: float | None
    origin: Mapping[str, Any]
    cold: tuple[Result, float] | None

    @property
    def metadata(self) -> dict[str, Any]:
        """What a run reports of it."""
        return {"warm_started_from": self.origin["warm_started_from"], "taken_as_found": self.seconds is None}

    def comparison(self, score: str, measure: Callable[[Result], tuple[float, int, float]]) -> dict[str, Any]:
        """Metadata `warm_start`: what a cold fit and the warm one in use came to; nothing where there was but one.

        `measure` gives the `score` of a fit, its epochs and the neighbour AUC of its vectors.
        """
        if self.cold is None:
            return {}
        fits = {"cold": self.cold, "warm": (self.result, self.seconds)}
        return {"warm_start": {"score": score, **{name: _figures(measure(fit), s) for name, (fit, s) in fits.items()}}}


def choose(
    run: StageRun,
    mode: WarmStartMode,
    path: Path,
    fit: str,
    as_found: Callable[[Weights], Result],
    start_of: Callable[[Weights], tuple[Start, bool]],
    train: Callable[[Start | None], Result],
) -> Chosen[Result]:
    """The fit that lies at `path`, one that starts from it, or a cold one, in this order.

    `as_found` and `start_of` raise a RallrecError that says why the found weights cannot be used. `start_of` also says
    whether what is fitted to the result (the projector) may itself start from what was fitted to the found weights.
    """
    origin: Mapping[str, Any] = {"fit": fit, "warm_started_from": None, "space": fit}
    start: Start | None = None
    what = path.name
    if mode != "off":
        try:
            found = found_weights(path)
            if found.record["fit"] == fit:
                result = as_found(found)
                run.log(f"{what}: fitted to the same data with the same settings before, taken as it is")
                origin = {name: found.record[name] for name in ORIGIN}
                again = mode == "compare" and origin["warm_started_from"] is not None
                return Chosen(result, None, origin, _timed(train, None) if again else None)
            start, same_space = start_of(found)
            space = found.record["space"] if same_space else fit
            origin = {"fit": fit, "warm_started_from": found.record["fit"], "space": space}
            run.log(f"{what}: warm start from fit {found.record['fit']}")
        except RallrecError as error:
            run.log(f"{what}: cold start: {error}")
    result, seconds = _timed(train, start)
    return Chosen(result, seconds, origin, _timed(train, None) if mode == "compare" and start is not None else None)


def found_weights(path: Path) -> Weights:
    """The weights at `path`. Raises StaleArtefactError when there are none, DataError when they are damaged."""
    weights = read_weights(path)
    if weights is None:
        raise StaleArtefactError("there are no weights of an earlier run")
    if not all(name in weights.record for name in ORIGIN):
        raise DataError(f"the weights {path} do not say what they were fitted to")
    return weights


def fitting_settings(settings: CollaborativeSettings | AlignmentSettings) -> dict[str, Any]:
    """The settings that the outcome of a cold fit depends on."""
    return settings.model_dump(mode="json", exclude={"warm_start"})


def _timed(train: Callable[[Start | None], Result], start: Start | None) -> tuple[Result, float]:
    begun = time.perf_counter()
    result = train(start)
    return result, round(time.perf_counter() - begun, 3)


def _figures(measured: tuple[float, int, float], seconds: float | None) -> dict[str, Any]:
    score, epochs, auc = measured
    return {"score": score, "epochs": epochs, "seconds": seconds, "neighbour_auc": auc}
