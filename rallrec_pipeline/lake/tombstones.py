"""Users who were forgotten, as keyed hashes: what is fetched later does not bring them back, and no file names them.

`tombstones/<dataset>.json` holds a random key and BLAKE2b of each id with it. Who has the file can still try ids: it
hides whom the lake has forgotten from readers, and not from somebody who guesses.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rallrec_pipeline.errors import DamagedError, DataError
from rallrec_pipeline.lake.sealed import read_sealed, write_sealed

FOLDER = "tombstones"
HASH_BYTES = 16
CUTS = (r"[,;|\t]|::", r"""[\s,;|:"'(){}\[\]<>=]+""")
"""What may stand between the fields of a row that no reader takes."""


@dataclass(frozen=True)
class Tombstones:
    """The forgotten users of one dataset."""

    key: str
    """32 random bytes in hex."""
    users: tuple[str, ...] = ()
    """Hashes, in the order in which they were forgotten."""

    def hash_of(self, user_id: str) -> str:
        """The hash that stands for a user."""
        text = user_id.encode(errors="surrogatepass")
        return hashlib.blake2b(text, key=bytes.fromhex(self.key), digest_size=HASH_BYTES).hexdigest()

    def among(self, ids: Iterable[str]) -> list[str]:
        """Those of `ids` that have a tombstone."""
        known = set(self.users)
        return [user_id for user_id in ids if self.hash_of(user_id) in known]

    def named_in(self, text: str) -> bool:
        """Whether a row that no reader takes names one of them, as a field or a word."""
        return bool(self.among(set(_words(text))))

    def only(self, user: str) -> Tombstones:
        """The same key, and no other hash than `user`."""
        return Tombstones(self.key, (user,))


def read_tombstones(lake: Path, dataset: str) -> Tombstones:
    """The forgotten users of a dataset; with a new key where there are none.

    Raises DataError when the file cannot be read: nobody knows then whose rows must stay away.
    """
    path = tombstone_file(lake, dataset)
    if not path.exists():
        return Tombstones(secrets.token_hex(32))
    try:
        found = read_sealed(path)
        return Tombstones(bytes.fromhex(found["key"]).hex(), tuple(map(str, found["users"])))
    except (DamagedError, KeyError, TypeError, ValueError) as error:
        again = "restore it from a backup, or delete it and forget its users again"
        raise DataError(f"{path} is damaged, so nobody knows whom to leave out: {again}") from error


def add_tombstone(lake: Path, dataset: str, stones: Tombstones, user: str) -> Tombstones:
    """`stones` with the hash `user`, written."""
    if user in stones.users:
        return stones
    more = Tombstones(stones.key, (*stones.users, user))
    write_sealed(tombstone_file(lake, dataset), {"key": more.key, "users": list(more.users)})
    return more


def tombstone_file(lake: Path, dataset: str) -> Path:
    """Where the forgotten users of a dataset are listed."""
    return lake / FOLDER / f"{dataset}.json"


def _words(text: str) -> Iterator[str]:
    for cut in CUTS:
        for part in re.split(cut, text):
            yield part.strip()
            yield part.strip(" \"'")
