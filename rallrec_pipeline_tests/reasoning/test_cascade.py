"""The cascade asks where the dear model knows more, and its choice is made on validation rows."""

from __future__ import annotations

import numpy as np
import pytest

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.reasoning.cascade import (
    SHARES,
    Asking,
    KnownBefore,
    asked_first,
    choose_cascade,
    orders,
    rows_asked,
)
from rallrec_pipeline.reasoning.opinions import log_loss


def made(rows: int = 2000, seed: int = 3):  # type: ignore[no-untyped-def]
    """An expert that knows warm items, and a dear model that knows all; half of the rows are validation rows."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, rows).astype(np.int8)
    ratings = np.where(rng.random(rows) < 0.2, rng.integers(0, 4, rows), rng.integers(20, 200, rows))
    known = np.clip(labels * 0.7 + 0.15 + rng.normal(0, 0.05, rows), 0.01, 0.99)
    expert = np.where(ratings < 4, rng.uniform(0.4, 0.6, rows), known)
    return (
        labels,
        KnownBefore(expert, ratings, rng.integers(5, 50, rows), np.arange(rows) // 4),
        known,
        np.arange(rows) < rows // 2,
    )


def losses(labels, p):  # type: ignore[no-untyped-def]
    return -np.log(np.where(labels == 1, p, 1 - p))


def test_cold_items_are_asked_first_and_a_fifth_of_the_rows_is_enough() -> None:
    labels, known, dear, valid = made()
    candidates = orders(known, valid, losses(labels, known.expert) - losses(labels, dear))
    on_valid = [type(order)(order.name, order.values[valid]) for order in candidates]
    chosen = choose_cascade(on_valid, known.expert[valid], dear[valid], labels[valid])
    assert 0.1 <= chosen.knee <= 0.25 and chosen.share >= chosen.knee
    order = next(one for one in candidates if one.name == chosen.order)
    asked = rows_asked(order.values, valid, chosen.knee)
    mixed = np.where(asked, dear, known.expert)[~valid]
    whole, none = log_loss(labels[~valid], dear[~valid]), log_loss(labels[~valid], known.expert[~valid])
    assert log_loss(labels[~valid], mixed) - whole < 0.1 * (none - whole)


def test_a_dear_model_that_knows_nothing_is_not_asked() -> None:
    labels, known, dear, valid = made()
    noise = np.full_like(dear, 0.5)
    candidates = orders(known, valid, losses(labels, dear) - losses(labels, noise))
    on_valid = [type(order)(order.name, order.values[valid]) for order in candidates]
    chosen = choose_cascade(on_valid, dear[valid], noise[valid], labels[valid])
    assert chosen.share == chosen.knee == 0


def test_a_budget_bounds_the_share() -> None:
    labels, known, dear, valid = made()
    candidates = orders(known, valid, losses(labels, known.expert) - losses(labels, dear))
    on_valid = [type(order)(order.name, order.values[valid]) for order in candidates]
    chosen = choose_cascade(on_valid, known.expert[valid], dear[valid], labels[valid], most=0.1)
    assert chosen.share <= 0.1 and chosen.knee <= 0.1
    colder = candidates[1].values + np.where(valid, 0.0, 1.0)  # all others lie above the threshold
    assert rows_asked(colder, valid, 0.1)[~valid].mean() <= 0.1
    assert rows_asked(np.zeros(valid.size), valid, 0.05)[~valid].mean() <= 0.05


def test_without_validation_rows_nothing_can_be_chosen() -> None:
    none = np.zeros(0)
    with pytest.raises(DataError, match="no validation rows"):
        choose_cascade([], none, none, none.astype(np.int8))
    _, known, *_ = made(40)
    few = np.arange(40) < 6
    assert [order.name for order in orders(known, few, np.zeros(40))] == ["doubt", "cold items"]


def test_test_labels_choose_nothing() -> None:
    labels, known, dear, valid = made()
    gain = losses(labels, known.expert) - losses(labels, dear)
    other = np.where(valid, gain, -gain)
    for one, two in zip(orders(known, valid, gain), orders(known, valid, other), strict=True):
        np.testing.assert_array_equal(one.values, two.values)


def test_shares_ask_so_many_rows() -> None:
    order = np.array([0.3, 0.9, 0.9, 0.1])
    assert asked_first(order, 0.5).tolist() == [False, True, True, False]
    assert not asked_first(order, 0).any() and asked_first(order, 1).all()
    assert SHARES[0] == 0 and SHARES[-1] == 1


def test_rows_to_come_are_asked_as_the_rows_of_a_test_split_are() -> None:
    labels, known, dear, valid = made()
    asking = Asking.of(known.at(valid), known.expert[valid], dear[valid], labels[valid])
    candidates = orders(known, valid, losses(labels, known.expert) - losses(labels, dear))
    on_valid = [type(order)(order.name, order.values[valid]) for order in candidates]
    chosen = choose_cascade(on_valid, known.expert[valid], dear[valid], labels[valid])
    assert (asking.order, asking.share) == (chosen.order, chosen.share)
    order = next(one for one in candidates if one.name == chosen.order)
    batch, online = rows_asked(order.values, valid, chosen.share)[~valid], asking.asks(known.at(~valid))
    assert 0 < batch.sum() <= online.sum() and online[batch].all()  # the batch also bounds the share of its rows
    part = asking.asks(known.at(~valid & (np.arange(labels.size) % 3 == 0)))
    assert part.tolist() == online[np.flatnonzero(~valid) % 3 == 0].tolist()  # whatever else is asked for


def test_a_dear_model_that_knows_nothing_is_not_asked_about_rows_to_come() -> None:
    labels, known, dear, valid = made()
    noise = np.full_like(dear, 0.5)
    assert not Asking.of(known.at(valid), dear[valid], noise[valid], labels[valid]).asks(known).any()
