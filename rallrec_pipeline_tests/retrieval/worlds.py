"""Small random users with histories, for the tests of this folder."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.datasets.sequences import UserSequences
from rallrec_pipeline.retrieval.relevance import Asked


@dataclass(frozen=True)
class World:
    """`n` samples over random sequences; vectors hold small integers, so that dot products are exact and tie."""

    sequences: UserSequences
    user_codes: NDArray[np.int32]
    history_lengths: NDArray[np.int32]
    targets: NDArray[np.int32]
    vectors: NDArray[np.float32]

    @property
    def asked(self) -> Asked:
        """What the samples ask for."""
        return Asked(self.user_codes, self.history_lengths, self.targets)

    def history(self, row: int) -> NDArray[np.int32]:
        """Item codes of the history of sample `row`, oldest first."""
        start = self.sequences.offsets[self.user_codes[row]]
        return self.sequences.items[start : start + self.history_lengths[row]]


def make_world(seed: int, n_users: int = 4, n_items: int = 12, n: int = 15, longest: int = 9) -> World:
    """Every user has between 1 and `longest` interactions; histories may be empty."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, n_users)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items = np.concatenate([rng.permutation(n_items)[:length] for length in lengths]).astype(np.int32)
    ratings = rng.integers(1, 6, len(items)).astype(np.float32)
    names = [f"u{u}" for u in range(n_users)], [f"i{i}" for i in range(n_items)]
    users = rng.integers(0, n_users, n).astype(np.int32)
    return World(
        UserSequences(*names, offsets, items, ratings),
        users,
        rng.integers(0, lengths[users] + 1).astype(np.int32),
        rng.integers(0, n_items, n).astype(np.int32),
        rng.integers(-2, 3, (n_items, 3)).astype(np.float32),
    )
