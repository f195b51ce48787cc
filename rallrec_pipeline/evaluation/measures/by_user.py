"""How well a method ranks the items of one user: the AUC within each user, and its two means over users."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.evaluation.measures.metrics import Floats, Labels

Codes = NDArray[np.int64]


def auc_by_user(users: Codes, labels: Labels, p: Floats, count: int) -> Floats:
    """AUC within each of `count` users, (count,), ties counting half; NaN where a user lacks one of the answers.

    `users` (n,) are codes from 0 to count - 1.
    """
    order = np.lexsort((p, users))
    user, value, liked = users[order], p[order], labels[order] == 1
    if order.size == 0:
        return np.full(count, np.nan)
    # A group is the rows of one user with the same p: among these the order is a matter of chance.
    first = np.flatnonzero(np.r_[True, (user[1:] != user[:-1]) | (value[1:] != value[:-1])])
    yes, no = (np.add.reduceat(part.astype(np.float64), first) for part in (liked, ~liked))
    user = user[first]
    yes_of_user, no_of_user = (np.bincount(user, weights=part, minlength=count) for part in (yes, no))
    before = np.cumsum(no_of_user) - no_of_user  # disliked rows of the users before
    below = np.cumsum(no) - 0.5 * no - before[user]
    right = np.bincount(user, weights=yes * below, minlength=count)
    pairs = yes_of_user * no_of_user
    return np.divide(right, pairs, out=np.full(count, np.nan), where=pairs > 0)


def mean_over_users(auc: Floats, weights: Floats) -> float:
    """Weighted mean of the users that have an AUC; NaN where none has."""
    known = np.isfinite(auc)
    return float(np.average(auc[known], weights=weights[known])) if known.any() else float("nan")


def uauc(users: Codes, labels: Labels, p: Floats) -> float:
    """Mean AUC of the users who have both answers; each user counts once."""
    count = int(users.max(initial=-1)) + 1
    return mean_over_users(auc_by_user(users, labels, p, count), np.ones(count))


def gauc(users: Codes, labels: Labels, p: Floats) -> float:
    """Mean AUC of the users who have both answers; each user counts as often as he has rows."""
    count = int(users.max(initial=-1)) + 1
    rows = np.bincount(users, minlength=count).astype(np.float64)
    return mean_over_users(auc_by_user(users, labels, p, count), rows)
