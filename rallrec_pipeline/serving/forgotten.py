"""The forgotten users of a dataset as the lake has them at this moment, whatever else of it can be loaded."""

from __future__ import annotations

from pathlib import Path

from rallrec_pipeline.errors import RequestError
from rallrec_pipeline.lake.files import file_states
from rallrec_pipeline.lake.tombstones import read_tombstones, tombstone_file
from rallrec_pipeline.text import clean_text

UNKNOWN = 404


class Forgotten:
    """Asked before each answer about a user: one who is forgotten is unknown from then on."""

    def __init__(self, lake: Path, dataset: str) -> None:
        """Raises DataError when the file of tombstones cannot be read."""
        self._lake, self._dataset = lake, dataset
        self._state: list[list[object]] = []
        self._read()

    def require_not(self, user_id: str | None) -> None:
        """Raises RequestError for a forgotten user, DataError while nobody knows who is one."""
        if user_id is None:
            return
        if file_states([tombstone_file(self._lake, self._dataset)]) != self._state:
            self._read()
        if self._users.among([user_id]):
            raise RequestError(UNKNOWN, f"unknown user {clean_text(user_id, 60)!r}")

    def _read(self) -> None:
        state = file_states([tombstone_file(self._lake, self._dataset)])  # first: what changes meanwhile is read again
        self._users = read_tombstones(self._lake, self._dataset)
        self._state = state
