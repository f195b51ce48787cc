"""What an expert is fitted on, kept as arrays: so it scores items and users that came later without a new fit.

No pickle and no code is stored. A classifier on features is fitted again from the same rows, which takes a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.baselines.expert_features import Describer, matrix
from rallrec_pipeline.baselines.experts import BY_FEATURES, out_of_time
from rallrec_pipeline.baselines.factorisation import Factorisation
from rallrec_pipeline.baselines.rating_log import RatingLog, Seen
from rallrec_pipeline.baselines.rating_log import Ratings as Rated
from rallrec_pipeline.embeddings.weights import read_weights, write_weights
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import read_json, write_json
from rallrec_pipeline.lake.sound import require_sound
from rallrec_pipeline.settings import ExpertSettings

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ExpertFit:
    """A fit on the training split. Codes of items are places in `item_ids`.

    `features` (n, k) and `labels` (n,) are of the rows that the classifier of `expert` is fitted on, out of time.
    """

    expert: str
    item_ids: list[str]
    seen: Seen
    factorisation: Factorisation
    features: Floats
    labels: NDArray[np.int8]
    is_sampled: bool

    def counts(self) -> NDArray[np.int64]:
        """Training ratings of each item, (m,)."""
        return np.bincount(self.seen.ratings.items, minlength=len(self.item_ids))

    def among(self, item_ids: Sequence[str]) -> ExpertFit:
        """The same fit with the codes of `item_ids`; of other items its ratings are left out."""
        place = {item: code for code, item in enumerate(item_ids)}
        code = np.array([place.get(item, -1) for item in self.item_ids], np.int32)
        kept = code >= 0
        model = self.factorisation
        biases = np.zeros(len(item_ids), np.float32)
        factors = np.zeros((len(item_ids), model.factors.shape[1]), np.float32)
        biases[code[kept]], factors[code[kept]] = model.biases[kept], model.factors[kept]
        seen = Seen(_renumbered(self.seen.ratings, code), _renumbered(self.seen.judged, code))
        moved = Factorisation(model.mean, biases, factors)
        return ExpertFit(self.expert, list(item_ids), seen, moved, self.features, self.labels, self.is_sampled)


def fit_expert(
    expert: str,
    core: pl.DataFrame,
    samples: pl.DataFrame,
    item_ids: Sequence[str],
    text: Floats,
    like_above: float,
    settings: ExpertSettings,
    seed: int,
) -> ExpertFit:
    """Fit `expert` on the training split; the tables and `text` (m, d) are as `Evidence` has them.

    Raises DataError when the training samples are of one class.
    """
    log = RatingLog.of(core, samples, item_ids)
    if np.unique(log.labels[log.train]).size < 2:
        raise DataError(
            f"the {len(log.train)} training samples are of one class, so nothing can be recommended:"
            " check the dataset's `like_above` and its split"
        )
    describer, folds = Describer(log, text, like_above, seed), log.folds(seed, settings.rows)
    known = BY_FEATURES[expert]
    features = known.chosen({group: out_of_time(describer, log, folds, group) for group in known.groups})
    whole = log.whole_training()
    labels = log.labels[np.concatenate([fold.rows for fold in folds])]
    model = describer.factorisation(whole)
    return ExpertFit(expert, list(item_ids), whole, model, matrix(features), labels, log.is_sampled)


def write_fit(fit: ExpertFit, path: Path) -> list[Path]:
    """Store a fit at `path` (safetensors), and its item ids beside it as `.json`."""
    model = fit.factorisation
    tensors: dict[str, NDArray[Any]] = {
        "factorisation.mean": np.array([model.mean]),
        "factorisation.biases": model.biases,
        "factorisation.factors": model.factors,
        "features": fit.features,
        "labels": fit.labels.astype(np.int8),
    }
    tensors |= _tensors("ratings", fit.seen.ratings)
    if fit.is_sampled:
        tensors |= _tensors("judged", fit.seen.judged)
    write_json(_names(path), {"expert": fit.expert, "item_ids": fit.item_ids, "is_sampled": fit.is_sampled})
    return [write_weights(path, tensors), _names(path)]


def read_fit(path: Path) -> ExpertFit:
    """A stored fit. Raises DamagedError when a file was damaged, DataError when it cannot be read."""
    require_sound([_names(path)])
    told, tensors = read_json(_names(path)), read_weights(path)
    ratings = _ratings("ratings", tensors)
    return ExpertFit(
        told["expert"],
        told["item_ids"],
        Seen(ratings, _ratings("judged", tensors) if told["is_sampled"] else ratings),
        Factorisation(
            float(tensors["factorisation.mean"][0]), tensors["factorisation.biases"], tensors["factorisation.factors"]
        ),
        tensors["features"],
        tensors["labels"],
        told["is_sampled"],
    )


def _names(path: Path) -> Path:
    return path.with_suffix(".json")


def _tensors(name: str, ratings: Rated) -> dict[str, NDArray[Any]]:
    return {f"{name}.{part}": values for part, values in vars(ratings).items()}


def _ratings(name: str, tensors: Mapping[str, NDArray[Any]]) -> Rated:
    return Rated(*(tensors[f"{name}.{part}"] for part in ("users", "items", "values")))


def _renumbered(ratings: Rated, code: NDArray[np.int32]) -> Rated:
    items = code[ratings.items]
    kept = items >= 0
    return Rated(ratings.users[kept], items[kept], ratings.values[kept])
