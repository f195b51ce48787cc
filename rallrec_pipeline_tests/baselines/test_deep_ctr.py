from __future__ import annotations

import subprocess
import sys
from functools import cache

import numpy as np
import polars as pl
import pytest

from rallrec_pipeline.baselines.ctr_fields import CtrFields, ctr_fields
from rallrec_pipeline.baselines.deep_ctr import DEEP_CTR, CtrRows, CtrSizes, fit_sizes, predict_deep_ctr
from rallrec_pipeline.evaluation.measures.metrics import evaluate
from rallrec_pipeline_tests.baselines.worlds import films

USERS, ITEMS = 60, 40
SPEC = films({"type": "y"}, {"type": "a"})


@cache
def _world() -> tuple[CtrFields, np.ndarray]:
    """Users like the genre of their type, and good items: fields and labels of 60 × 40 ratings in random order.

    Items have a field of the same name, always empty.
    """
    rng = np.random.default_rng(0)
    pairs = rng.permutation(USERS * ITEMS)
    user, item = pairs // ITEMS, pairs % ITEMS
    good = rng.normal(0, 1, ITEMS)
    liking = np.where(user % 2 == item % 2, 1.5, -1.5) + good[item] + rng.normal(0, 0.5, len(pairs))
    core = pl.DataFrame(
        {
            "user_id": user.astype(str),
            "item_id": item.astype(str),
            "rating": np.where(liking > 0, 4, 2).astype(np.float32),
            "timestamp": np.arange(len(pairs)),
        }
    )
    items = pl.DataFrame({"item_id": np.arange(ITEMS).astype(str), "title": ["A movie"] * ITEMS}).with_columns(
        genres=pl.Series(["War, Drama", "Comedy, Drama"] * (ITEMS // 2)), type=pl.lit("")
    )
    users = pl.DataFrame({"user_id": np.arange(USERS).astype(str), "type": ["war", "comedy"] * (USERS // 2)})
    place = pl.int_range(pl.len(), dtype=pl.Int32).over("user_id").alias("history_length")
    fields = ctr_fields(core.with_columns(place), core, items, users, SPEC, history_length=5)
    return fields, (core["rating"] > 3).cast(pl.Int8).to_numpy()


ALL = CtrRows(np.arange(1800), np.arange(1800, 2100))
FEW = CtrRows(np.arange(0, 1800, 30), np.arange(1800, 1900))
TEST = np.arange(2100, 2400)


def _quick(n_train: int) -> CtrSizes:
    return CtrSizes(batch=128, rounds=8, patience=3, unwatched_rounds=2, dimensions=8, learning_rate=5e-3)


def test_every_model_learns_from_all_rows_and_less_from_few() -> None:
    fields, labels = _world()
    lines: list[str] = []
    found = predict_deep_ctr(fields, labels, {"": ALL, "_few": FEW}, TEST, seed=0, sizes=_quick, log=lines.append)
    assert list(found) == [*DEEP_CTR, *(f"{name}_few" for name in DEEP_CTR)] and len(lines) == 8
    for name in DEEP_CTR:
        whole, few = found[name], found[f"{name}_few"]
        scores = evaluate(labels[TEST], whole.p_yes)
        assert scores.auc > 0.85 and scores.log_loss < 0.55
        assert scores.auc > evaluate(labels[TEST], few.p_yes).auc
        assert whole.p_yes.dtype == np.float64 and whole.p_yes.shape == (300,)
        assert (whole.n_train, few.n_train) == (1800, 60) and whole.seconds > 0 and not whole.note


def test_the_nets_differ() -> None:
    fields, labels = _world()
    found = predict_deep_ctr(fields, labels, {"": FEW}, TEST, seed=0, sizes=_quick)
    assert len({made.p_yes.tobytes() for made in found.values()}) == len(DEEP_CTR)


def test_labels_of_no_other_rows_are_looked_at() -> None:
    fields, labels = _world()
    changed = labels.copy()
    changed[TEST] = 1 - changed[TEST]
    first, second = (predict_deep_ctr(fields, y, {"": FEW}, TEST, seed=0, sizes=_quick) for y in (labels, changed))
    for name in DEEP_CTR:
        np.testing.assert_array_equal(first[name].p_yes, second[name].p_yes)


def test_the_same_seed_gives_the_same_figures_and_another_seed_others() -> None:
    import torch

    fields, labels = _world()
    one, again, other = (predict_deep_ctr(fields, labels, {"": FEW}, TEST, seed, _quick) for seed in (3, 3, 4))
    for name in DEEP_CTR:
        np.testing.assert_array_equal(one[name].p_yes, again[name].p_yes)
        assert not np.array_equal(one[name].p_yes, other[name].p_yes)
    torch.manual_seed(7)
    untouched = torch.rand(1)
    torch.manual_seed(7)
    predict_deep_ctr(fields, labels, {"": FEW}, TEST, 3, _quick)
    assert torch.equal(torch.rand(1), untouched)  # the generator that others draw from stays as it was


def test_the_number_of_threads_changes_nothing_and_stays_as_it_was() -> None:
    import torch

    fields, labels = _world()
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(predict_deep_ctr(fields, labels, {"": FEW}, TEST, 3, _quick))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for name in DEEP_CTR:
        np.testing.assert_array_equal(found[0][name].p_yes, found[1][name].p_yes)


def test_the_best_round_is_kept_and_not_the_last() -> None:
    fields, labels = _world()
    validation = ALL.validation
    # So fast a fit overfits within a few rounds.
    greedy = CtrSizes(batch=32, rounds=12, patience=12, unwatched_rounds=1, learning_rate=0.02)
    found = predict_deep_ctr(fields, labels, {"": CtrRows(FEW.train, validation)}, validation, 0, lambda n: greedy)
    for made in found.values():
        assert made.validation_auc is not None
        assert evaluate(labels[validation], made.p_yes).auc == pytest.approx(made.validation_auc)
    assert min(made.rounds for made in found.values()) < 12


@pytest.mark.parametrize(("rows", "why"), [(10, "fewer than 20"), (0, "fewer than 20"), (40, "of one class")])
def test_rows_that_cannot_be_learned_from_give_the_share_liked_and_say_why(rows: int, why: str) -> None:
    fields, labels = _world()
    train = np.flatnonzero(labels == 1)[:rows] if rows == 40 else np.arange(rows)
    lines: list[str] = []
    found = predict_deep_ctr(fields, labels, {"_few": CtrRows(train, ALL.validation)}, TEST, 0, _quick, lines.append)
    share = labels[train].mean() if rows else 0.5
    for made in found.values():
        assert made.p_yes.tolist() == [share] * len(TEST) and why in made.note
    assert len(lines) == 4 and all(why in line for line in lines)


@pytest.mark.parametrize("validation", [np.arange(0), np.flatnonzero(_world()[1][:300] == 1)])
def test_validation_rows_without_both_answers_leave_a_fixed_number_of_rounds(validation: np.ndarray) -> None:
    fields, labels = _world()
    found = predict_deep_ctr(fields, labels, {"": CtrRows(ALL.train, validation)}, TEST, 0, _quick)
    for made in found.values():
        assert made.rounds == 2 and made.validation_auc is None and "not of both classes" in made.note
        assert np.isfinite(made.p_yes).all()


def test_nothing_asked_is_nothing_predicted() -> None:
    fields, labels = _world()
    found = predict_deep_ctr(fields, labels, {"": FEW}, np.arange(0), 0, _quick)
    assert all(made.p_yes.shape == (0,) for made in found.values())


def test_a_long_epoch_is_cut_into_rounds_of_drawn_rows() -> None:
    fields, labels = _world()
    short = CtrSizes(batch=64, rounds=3, patience=3, unwatched_rounds=1, round_rows=64)
    found = predict_deep_ctr(fields, labels, {"": ALL}, TEST, 0, lambda n: short)
    assert all(1 <= made.rounds <= 3 for made in found.values())


def test_the_more_rows_the_larger_the_batches_and_the_fewer_the_rounds() -> None:
    few, whole, large = (fit_sizes(rows) for rows in (256, 75_000, 20_000_000))
    assert few.batch < whole.batch < large.batch and few.rounds > whole.rounds == large.rounds


def test_the_library_asks_no_index_whether_it_is_new() -> None:
    """Its version check needs `requests` and a thread; neither is there after a model was built."""
    code = """
import sys, threading
from rallrec_pipeline.baselines.deep_ctr import _without_version_check
_without_version_check()
import deepctr_torch.models
assert deepctr_torch.__version__ == "0.3.0"
assert "requests" not in sys.modules and "tensorflow" not in sys.modules, "imports more than it needs"
assert threading.active_count() == 1, threading.enumerate()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
