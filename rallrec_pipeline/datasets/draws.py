"""Random choices that pairs of user and item make for themselves, whatever else is in the data.

So a choice stays what it was when the data grow by a day: what was held out, tuned on or evaluated before still is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.sequences import codes_in

_MIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # of SplitMix64 (Steele et al. 2014)


def pair_draws(
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    user_ids: Sequence[str],
    item_ids: Sequence[str],
    salt: str = "",
) -> NDArray[np.uint64]:
    """A uniform 64-bit draw (n,) of each pair, given as codes (n,) into the ids; another `salt` draws anew."""
    draws = id_draws(user_ids, salt)[users] * np.uint64(_MIX[0]) + id_draws(item_ids, salt)[items]
    for shift, factor in ((30, _MIX[1]), (27, _MIX[2])):
        draws = (draws ^ (draws >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(draws ^ (draws >> np.uint64(31)))


def row_draws(rows: pl.DataFrame, salt: str) -> NDArray[np.uint64]:
    """`pair_draws` of the columns `user_id` and `item_id`."""
    users, items = (rows[name].unique(maintain_order=True) for name in ("user_id", "item_id"))
    codes = codes_in(rows["user_id"], users), codes_in(rows["item_id"], items)
    return pair_draws(*codes, users.to_list(), items.to_list(), salt)


def id_draws(ids: Sequence[str], salt: str) -> NDArray[np.uint64]:
    """A uniform 64-bit draw (n,) of each id, the same in every process; another `salt` draws anew."""
    key = salt.encode()
    digests = (hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8, key=key).digest() for name in ids)
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)
