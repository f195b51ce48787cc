"""The papers' baselines on ids: DeepFM, xDeepFM, DCN and AutoInt, as deepctr-torch builds them.

The nets are the library's. The loop that fits them is ours: the library's own copies rows one by one, and keeps the
last epoch instead of the best.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.baselines.ctr_fields import CtrFields, Vocabulary

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

DEEP_CTR: dict[str, str] = {"deepfm": "DeepFM", "xdeepfm": "xDeepFM", "dcn": "DCN", "autoint": "AutoInt"}
"""Name -> title, in the order of the papers' table."""

FEWEST_ROWS = 20  # with fewer training rows nothing is fitted
SMALL_FIT = 10_000  # training rows; a smaller fit has small batches and many epochs
LARGE_FIT = 1_000_000  # training rows; a step then costs as much for the vectors of all values as for its batch
VALIDATION_ROWS = 100_000  # drawn where there are more: the best epoch is as clear
PREDICT_BATCH = 4096
UNKNOWN_USER_RATE = 0.5


@dataclass(frozen=True)
class CtrRows:
    """Places of the samples that a model is fitted on, (t,), and of those that say when to stop, (v,)."""

    train: Places
    validation: Places


@dataclass(frozen=True)
class CtrSizes:
    """How one model is fitted. What is not said here is as the library has it."""

    batch: int
    rounds: int
    patience: int
    unwatched_rounds: int  # where validation rows cannot say when to stop
    dimensions: int = 16
    learning_rate: float = 1e-3
    fewest: int = 2  # rows with a value; a rarer value counts as unknown
    round_rows: int = 500_000  # an epoch, or this many drawn rows of a longer one


@dataclass(frozen=True)
class CtrPrediction:
    """P(yes) of the rows asked, (a,), and how it came about.

    `seconds` are those that one core worked, `fit_seconds` those of the fit, `rounds` the number of the one that was
    kept; `note` is empty unless something was in the way.
    """

    p_yes: Floats
    seconds: float
    fit_seconds: float
    n_train: int
    rounds: int = 0
    validation_auc: float | None = None
    note: str = ""


def fit_sizes(n_train: int) -> CtrSizes:
    """Sizes for so many training rows, chosen on the validation split of MovieLens-100K."""
    if n_train < SMALL_FIT:
        return CtrSizes(batch=64, rounds=40, patience=8, unwatched_rounds=10)
    batch = 1024 if n_train < LARGE_FIT else 4096
    return CtrSizes(batch, rounds=10, patience=2, unwatched_rounds=2)


def predict_deep_ctr(
    fields: CtrFields,
    labels: NDArray[np.int8],
    fits: Mapping[str, CtrRows],
    asked: Places,
    seed: int,
    sizes: Callable[[int], CtrSizes] = fit_sizes,
    log: Callable[[str], None] | None = None,
) -> dict[str, CtrPrediction]:
    """P(yes) of the samples at `asked` (a,) by every model of DEEP_CTR on every fit: model + suffix -> prediction.

    `labels` (n,) are 0 or 1; only those of the fits' rows are looked at. `fits` maps a suffix, as "" or "_few", to
    rows. A model learns values of its training rows alone; all others are one unknown value. Training rows of one
    class, or fewer than FEWEST_ROWS, give the share of liked rows for every sample and a note. `log` gets a line a
    model. As many models are fitted at once as torch has threads, so that the same seed gives the same figures
    whatever their number.
    """
    import torch

    found: dict[str, CtrPrediction] = {}
    waiting: dict[str, _Fit] = {}
    for suffix, rows in fits.items():
        if (constant := _unfitted(labels, rows, len(asked))) is not None:
            found |= {name + suffix: constant for name in DEEP_CTR}
            continue
        chosen = sizes(len(rows.train))
        vocabulary = Vocabulary.of(fields, rows.train, chosen.fewest)
        with torch.random.fork_rng(devices=[]):  # the library seeds the generator that all share
            for name in DEEP_CTR:
                waiting[name + suffix] = _Fit(name, fields, vocabulary, labels, rows, seed, chosen)
    with _one_thread_each() as pool:
        running = {name: pool.submit(fit.run, asked) for name, fit in waiting.items()}
        found |= {name: future.result() for name, future in running.items()}
    found = {name + suffix: found[name + suffix] for suffix in fits for name in DEEP_CTR}
    if log:
        for name, made in found.items():
            log(f"{name}: {made.note or _in_words(made)}")
    return found


def _unfitted(labels: NDArray[np.int8], rows: CtrRows, n_asked: int) -> CtrPrediction | None:
    """The share liked for everyone, where the training rows cannot be learned from."""
    n, liked = len(rows.train), labels[rows.train]
    if n >= FEWEST_ROWS and liked.min() != liked.max():
        return None
    share = float(liked.mean()) if n else 0.5
    why = f"fewer than {FEWEST_ROWS}" if n < FEWEST_ROWS else "of one class"
    note = f"not fitted: the {n} training rows are {why}, so P(yes) is {share:.3f} everywhere"
    return CtrPrediction(np.full(n_asked, share), 0.0, 0.0, n, note=note)


def _in_words(made: CtrPrediction) -> str:
    return (
        f"{made.n_train:,} rows, round {made.rounds} is best, validation AUC {made.validation_auc:.4f}, "
        f"{made.seconds:.1f} s"
    )


@contextmanager
def _one_thread_each() -> Iterator[ThreadPoolExecutor]:
    """As many workers as torch has threads, each with one: two threads in one small net mostly wait for each other.

    Measured on two busy cores: DeepFM on 75,657 rows in 220 s with two threads, in 28 s with one.
    """
    import torch

    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)


class _Fit:
    """One model with its optimiser and random state."""

    def __init__(
        self,
        name: str,
        fields: CtrFields,
        vocabulary: Vocabulary,
        labels: NDArray[np.int8],
        rows: CtrRows,
        seed: int,
        sizes: CtrSizes,
    ) -> None:
        import torch

        self.fields, self.vocabulary, self.labels, self.sizes = fields, vocabulary, labels, sizes
        self.train, self.rng = rows.train, np.random.default_rng(seed)
        self.validation = self.rng.permutation(rows.validation)[:VALIDATION_ROWS]
        self.model = _model(name, fields, vocabulary.sizes, sizes.dimensions, seed)
        self.optimizer = torch.optim.Adam(self.model.parameters(), sizes.learning_rate, fused=True)

    def run(self, asked: Places) -> CtrPrediction:
        """Fit, and predict the samples at `asked` (a,)."""
        start = time.thread_time()
        watched = self.labels[self.validation]
        note = ""
        if len(watched) and watched.min() != watched.max():
            rounds, auc = self._best_round(watched)
        else:
            rounds, auc = self.sizes.unwatched_rounds, None
            note = f"{rounds} rounds taken: the {len(watched)} validation rows are not of both classes"
            for _ in range(rounds):
                self._round()
        fit_seconds = time.thread_time() - start
        p_yes = self.predict(asked)
        return CtrPrediction(p_yes, time.thread_time() - start, fit_seconds, len(self.train), rounds, auc, note)

    def _best_round(self, watched: NDArray[np.int8]) -> tuple[int, float]:
        """Fit until no better round comes, and go back to the best: its number, and its AUC on validation rows."""
        from sklearn.metrics import roc_auc_score

        best, best_auc, weights = 0, -1.0, self.model.state_dict()
        for number in range(1, self.sizes.rounds + 1):
            self._round()
            auc = float(roc_auc_score(watched, self.predict(self.validation)))
            if auc > best_auc:
                best, best_auc = number, auc
                weights = {key: value.clone() for key, value in self.model.state_dict().items()}
            if number - best >= self.sizes.patience:
                break
        self.model.load_state_dict(weights)
        return best, best_auc

    def predict(self, places: Places) -> Floats:
        """P(yes) of the samples at `places` (b,): (b,) float64."""
        import torch

        self.model.eval()
        with torch.no_grad():
            parts = [self.model(self._inputs(part)).squeeze(-1) for part in _batches(places, PREDICT_BATCH)]
        return torch.cat(parts).double().numpy() if parts else np.empty(0)

    def _round(self) -> None:
        import torch

        self.model.train()
        for places in _batches(self.rng.permutation(self.train)[: self.sizes.round_rows], self.sizes.batch):
            inputs = self._inputs(places)
            # A user who comes after the training rows is unknown: half of the rows show what that means.
            inputs[torch.from_numpy(self.rng.random(len(places)) < UNKNOWN_USER_RATE), 0] = 0
            p_yes = self.model(inputs).squeeze(-1)
            liked = torch.from_numpy(self.labels[places].astype(np.float32))
            loss = torch.nn.functional.binary_cross_entropy(p_yes, liked, reduction="sum")  # as the library has it
            self.optimizer.zero_grad()
            (loss + self.model.get_regularization_loss().squeeze()).backward()
            self.optimizer.step()

    def _inputs(self, places: Places) -> torch.Tensor:
        """(b, sum of widths) float32, as the library wants it; whole numbers are exact to 16.7 million values."""
        import torch

        return torch.from_numpy(self.vocabulary.number[self.fields.rows(places)]).float()


def _batches(places: Places, size: int) -> Iterator[Places]:
    for start in range(0, len(places), size):
        yield places[start : start + size]


def _model(name: str, fields: CtrFields, sizes: tuple[int, ...], dimensions: int, seed: int) -> Any:
    """One of the library's nets, a torch module: (b, sum of widths) float32 -> P(yes) (b, 1)."""
    _without_version_check()
    from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat
    from deepctr_torch.models import DCN, AutoInt, DeepFM, xDeepFM

    columns = []
    for place, (field, size) in enumerate(zip(fields.fields, sizes, strict=True)):
        # No field's own name: users and items may share one, and torch refuses some, as `type`.
        single = SparseFeat(f"field_{place}", size, dimensions)
        columns.append(single if field.width == 1 else VarLenSparseFeat(single, field.width, "mean"))
    nets = {"deepfm": DeepFM, "xdeepfm": xDeepFM, "dcn": DCN, "autoint": AutoInt}
    # The library's (256, 128) feature maps take far longer; (64, 64) took four times as long, for 0.001 of AUC.
    extra = {"cin_layer_size": (32, 32)} if name == "xdeepfm" else {}
    return nets[name](columns, columns, init_std=0.01, seed=seed, **extra)


def _without_version_check() -> None:
    """Keep the import of deepctr_torch from asking PyPI, in a thread, whether there is a newer version.

    That check is all there is in the library's module `utils`, and nothing else imports it.
    """
    name = "deepctr_torch.utils"
    if name not in sys.modules:
        module = ModuleType(name)
        module.check_version = lambda version: None  # type: ignore[attr-defined]
        sys.modules[name] = module
