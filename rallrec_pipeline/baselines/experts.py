"""The strongest predictors without an LLM: factorisation, nearest items, LightGCN's score, and all of it together.

Whatever is fitted sees the training split alone. Where the output of one model is a feature of another, the features of
the rows that the latter is fitted on are made out of time, by a model that has seen neither their answers nor anything
later (`rating_log.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.baselines.classifiers import Classifier, MeanOfTrees, logistic_regression
from rallrec_pipeline.baselines.expert_features import Describer, Features, Group, matrix
from rallrec_pipeline.baselines.graph_score import graph_features
from rallrec_pipeline.baselines.prompt_numbers import prompt_numbers
from rallrec_pipeline.baselines.rating_log import Fold, RatingLog
from rallrec_pipeline.datasets.histories import training_interactions
from rallrec_pipeline.datasets.sequences import codes_in
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.settings import ExpertSettings

Probabilities = NDArray[np.float64]
Labels = NDArray[np.int8]
Ints = NDArray[np.int64]
FEWEST = 100  # rows that LightGCN was not fitted on; with fewer the curve of its score is fitted on validation rows

EXPERTS: dict[str, str] = {
    "prompt_logistic": "logistic regression on the ratings and means in the prompt",
    "lightgcn": "LightGCN score",
    "text_knn": "item kNN by text",
    "item_knn": "item kNN by co-rating",
    "factorisation": "matrix factorisation",
    "expert_logistic": "logistic regression on all experts",
    "expert_trees": "boosted trees on all experts",
    "text_logistic": "logistic regression on all experts and text",
    "text_trees": "boosted trees on all experts and text",
}
"""Name -> title, in the order of the report."""


@dataclass(frozen=True)
class Expert:
    """A classifier on the features of `groups`, or on those of them that are named."""

    groups: tuple[Group, ...]
    is_trees: bool = False
    names: tuple[str, ...] = ()

    def chosen(self, features: Mapping[str, Features]) -> Features:
        """Its features, of all groups."""
        own = {name: values for group in self.groups for name, values in features[group].items()}
        return {name: own[name] for name in self.names} if self.names else own


_NUMBERS: tuple[Group, ...] = ("means", "factorisation", "co_rating")
GROUPS: tuple[Group, ...] = (*_NUMBERS, "text")


def _nearest(group: Group, k: int) -> tuple[str, ...]:
    """What the `k` nearest add to the biases; where all ratings are alike, how near they are is all that they tell."""
    return "factorisation_bias", f"{group}_{k}", f"{group}_highest", f"{group}_total"


BY_FEATURES: dict[str, Expert] = {
    "text_knn": Expert(("factorisation", "text"), names=_nearest("text", 40)),
    "item_knn": Expert(("factorisation", "co_rating"), names=_nearest("co_rating", 15)),
    "factorisation": Expert(("factorisation",), names=("factorisation",)),
    "expert_logistic": Expert(_NUMBERS),
    "expert_trees": Expert(_NUMBERS, is_trees=True),
    "text_logistic": Expert((*_NUMBERS, "text")),
    "text_trees": Expert((*_NUMBERS, "text"), is_trees=True),
}
"""The experts that are a classifier on features of groups."""


@dataclass(frozen=True)
class Evidence:
    """What experts are made from.

    Tables: `core_interactions`, `samples`, `retrieved_histories` of one retriever, the `fitted` interactions of
    LightGCN. Vectors: `text` (m, d) and `collaborative` (m, e) float32 of the items `item_ids`.
    """

    core: pl.DataFrame
    samples: pl.DataFrame
    histories: pl.DataFrame
    fitted: pl.DataFrame
    item_ids: Sequence[str]
    text: NDArray[np.float32]
    collaborative: NDArray[np.float32]


@dataclass(frozen=True)
class Predicted:
    """P(yes) (n,) float64 by one expert, its seconds and those of its fit among them, and how many rows that had."""

    p_yes: Probabilities
    seconds: float
    fit_seconds: float
    training_rows: int


def predict_experts(
    evidence: Evidence, asked: Ints, like_above: float, settings: ExpertSettings, seed: int
) -> dict[str, Predicted]:
    """P(yes) of the samples at the places `asked` (n,) int64, by each of `EXPERTS`.

    Labels of validation and test rows are not looked at (but see `_by_graph`). The seconds of an expert are those of
    all that it needs, also of features that others share. Raises DataError when the training samples are of one class.
    """
    log = RatingLog.of(evidence.core, evidence.samples, evidence.item_ids)
    if np.unique(log.labels[log.train]).size < 2:
        raise DataError(
            f"the {len(log.train)} training samples are of one class, so no expert can be fitted:"
            " check the dataset's `like_above` and its split"
        )
    found = {
        "prompt_logistic": _by_prompt_numbers(evidence, log, asked),
        "lightgcn": _by_graph(evidence, log, asked),
        **_by_features(Describer(log, evidence.text, like_above, seed), log, asked, settings),
    }
    return {name: found[name] for name in EXPERTS}


def _by_prompt_numbers(evidence: Evidence, log: RatingLog, asked: Ints) -> Predicted:
    """Fitted on the few-shot training samples that the LLM is tuned on, and no others."""
    clock, core, samples = _Clock(), evidence.core, evidence.samples
    training = samples.filter(pl.col("split") == "train") if log.is_sampled else training_interactions(core, samples)
    numbers = prompt_numbers(evidence.histories, core, samples, training)
    shown = evidence.histories
    is_train = (shown["split"] == "train").to_numpy()
    places = codes_in(samples["sample_id"].gather(asked), shown["sample_id"])
    fitting, asking = ({name: values[rows] for name, values in numbers.items()} for rows in (is_train, places))
    clock.stop("asking")  # of whom there are more
    return _fitted(logistic_regression(), fitting, shown["label"].to_numpy()[is_train], asking, clock)


def _by_graph(evidence: Evidence, log: RatingLog, asked: Ints) -> Predicted:
    """Fitted on training rows whose targets LightGCN was not fitted on: it knows the answers of the others.

    Where these are fewer than `FEWEST` or of one class, on the validation rows: a curve of four numbers.
    """
    clock = _Clock()
    pair = ["user_id", "item_id"]
    numbered = evidence.samples.with_row_index("place")
    spared = numbered.filter(pl.col("split") == "train").join(evidence.fitted, on=pair, how="anti")
    # Sampled negatives are in no graph, so that hardly a like would be among the spared.
    if log.is_sampled or spared.height < FEWEST or spared["label"].n_unique() < 2:
        spared = numbered.filter(pl.col("split") == "valid")
    places = spared["place"].to_numpy().astype(np.int64)
    fitting = graph_features(log, evidence.collaborative, log.rows[places])
    clock.stop("fit")
    asking = graph_features(log, evidence.collaborative, log.rows[asked])
    clock.stop("asking")
    return _fitted(logistic_regression(), fitting, log.labels[places], asking, clock)


def _by_features(describer: Describer, log: RatingLog, asked: Ints, settings: ExpertSettings) -> dict[str, Predicted]:
    """The experts that are classifiers on features: fitted on training rows out of time."""
    folds = log.folds(describer.seed, settings.rows)
    labels = log.labels[np.concatenate([fold.rows for fold in folds])]
    whole = log.whole_training()
    fitting, asking, clocks = dict[str, Features](), dict[str, Features](), dict[str, _Clock]()
    for group in GROUPS:
        clocks[group] = _Clock()
        fitting[group] = out_of_time(describer, log, folds, group)
        describe = describer.fitted(group, whole)
        clocks[group].stop("fit")
        asking[group] = describe(log.rows[asked])
        clocks[group].stop("asking")
    found = {}
    for name, expert in BY_FEATURES.items():
        clock = _Clock(clocks[group] for group in expert.groups)
        model = MeanOfTrees(describer.seed, settings.trees) if expert.is_trees else logistic_regression()
        found[name] = _fitted(model, expert.chosen(fitting), labels, expert.chosen(asking), clock)
    return found


def out_of_time(describer: Describer, log: RatingLog, folds: Sequence[Fold], group: Group) -> Features:
    """Features of the rows of `folds`, in their order, each by what its fold has seen."""
    parts = [describer.features(group, fold.seen, log.rows[fold.rows]) for fold in folds]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class _Clock:
    """Seconds of a fit and of asking, those of `parts` included; the next begin at a stop."""

    def __init__(self, parts: Iterable[_Clock] = ()) -> None:
        self.seconds = {"fit": 0.0, "asking": 0.0}
        for part in parts:
            for name, seconds in part.seconds.items():
                self.seconds[name] += seconds
        self._since = time.perf_counter()

    def stop(self, name: Literal["fit", "asking"]) -> None:
        now = time.perf_counter()
        self.seconds[name] += now - self._since
        self._since = now


def _fitted(model: Classifier, fitting: Features, labels: Labels, asking: Features, clock: _Clock) -> Predicted:
    """Where a few rows happen to be of one class nothing can be told apart: then their smoothed share of likes."""
    asked = matrix(asking)
    if np.unique(labels).size == 2:
        model.fit(matrix(fitting), labels)
        clock.stop("fit")
        p_yes = model.predict_proba(asked)[:, 1]
    else:
        p_yes = np.full(len(asked), (labels.sum() + 1) / (len(labels) + 2))
    clock.stop("asking")
    fit, asking_s = clock.seconds.values()
    return Predicted(p_yes.astype(np.float64), round(fit + asking_s, 6), round(fit, 6), len(labels))
