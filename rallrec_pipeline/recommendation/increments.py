"""Whose recommendations must be made again: a user's hash is that of all that they are made from, and of no more."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.lake.provenance import HASH_LENGTH
from rallrec_pipeline.recommendation.today import Codes, Ratings, Visits


def item_versions(item_ids: Sequence[str], vectors: NDArray[np.float32], texts: Sequence[str]) -> NDArray[np.uint64]:
    """64 bits (m,) of what is known of each item: its id, its vectors (m, d) side by side and its text."""
    digests = (
        hashlib.blake2b(f"{item}\0{text}\0".encode(errors="surrogatepass") + vector.tobytes(), digest_size=8).digest()
        for item, text, vector in zip(item_ids, texts, vectors, strict=True)
    )
    return np.frombuffer(b"".join(digests), "<u8")


def user_hashes(
    ratings: Ratings,
    visits: Visits,
    candidates: Codes,
    versions: NDArray[np.uint64],
    common: str,
    profiles: Mapping[str, str],
) -> list[str]:
    """Hash of each visit: the rated items, what was given them, and the candidates (n, c) in any order, as they are.

    `common` is the hash of what all have in common, `profiles` what prompts say of a user, if anything. So a new
    rating changes the hash of its user alone, as long as the fit is the same, and a changed item the hashes of
    those who have rated it or have it for a candidate.
    """
    items, given, runs = ratings.own(visits)
    rated = versions[items]
    padded = np.append(versions, np.uint64(0))[np.sort(candidates, axis=1)]  # -1 is the last
    names, found = ratings.sequences.user_ids, []
    for row, (start, length) in enumerate(zip(runs.starts.tolist(), runs.lengths.tolist(), strict=True)):
        user = names[visits.users[row]]
        digest = hashlib.sha256(f"{common}\0{user}\0{profiles.get(user, '')}\0".encode(errors="surrogatepass"))
        digest.update(rated[start : start + length].tobytes())
        digest.update(given[start : start + length].tobytes())
        digest.update(padded[row].tobytes())
        found.append(digest.hexdigest()[:HASH_LENGTH])
    return found
