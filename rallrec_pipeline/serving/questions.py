"""A request with all that it names looked up: items by their rows, a user by profile and ratings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.sequences import UserSequences
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.errors import RequestError
from rallrec_pipeline.prompts.render import rating_text, shown_profile
from rallrec_pipeline.serving.catalogue import Catalogue
from rallrec_pipeline.serving.requests import UNFIT, Item, Line, ScoreRequest
from rallrec_pipeline.text import clean_text

UNKNOWN = 404
USER = "user"
"""The one user of a question, in tables that are made for it."""


@dataclass(frozen=True)
class Question:
    """One user and n targets. Items of a question are numbered: `items` has a row for each, its `item_id` the number.

    `codes` (items,) int32 is the place of each in the core, -1 for one that is not there. `history` (h,) and `targets`
    (n,) int32 are numbers of items, the history oldest first with its `ratings` (h,) float32.
    """

    user_id: str | None
    """The known user who is named."""
    known_items: frozenset[str]
    """Where the history is the first part of the ratings known of this user: ids of its items, and of the next one."""
    profile: str
    """As prompts show it."""
    items: pl.DataFrame
    ids: Sequence[str | None]
    """The items as the caller names them; None for one that is told by its text."""
    codes: NDArray[np.int32]
    history: NDArray[np.int32]
    ratings: NDArray[np.float32]
    targets: NDArray[np.int32]

    @property
    def sequences(self) -> UserSequences:
        """The history as that of the only user."""
        offsets = np.array([0, len(self.history)], np.int64)
        return UserSequences([USER], self.items["item_id"].to_list(), offsets, self.history, self.ratings)


def question_of(asked: ScoreRequest, known: Catalogue) -> Question:
    """Look up what a request names. Raises RequestError for an unknown user or item, or a history that is none."""
    if asked.user_id is not None and asked.user_id not in known.ratings and asked.user_id not in known.users:
        raise RequestError(UNKNOWN, f"unknown user {_shown(asked.user_id)}")
    rated = known.ratings.rows(asked.user_id) if asked.user_id is not None else None
    lines = _lines(asked, rated, known.spec)
    numbers = _Numbers(known)
    history = [numbers.add(item, f"history.{place}", once=True) for place, (item, _) in enumerate(lines)]
    targets = [numbers.add(item, f"targets.{place}") for place, item in enumerate(asked.targets)]
    if seen := sorted(set(targets) & set(history)):
        raise RequestError(UNFIT, f"targets.{targets.index(seen[0])}: this item is in the history")
    ratings = np.array([rating for _, rating in lines], np.float32)
    ids = [numbers.ids[number] for number in history]
    return Question(
        asked.user_id,
        _known_items(rated, ids, ratings) if rated is not None else frozenset(),
        _profile(asked, known),
        numbers.frame(),
        numbers.ids,
        numbers.codes,
        np.array(history, np.int32),
        ratings,
        np.array(targets, np.int32),
    )


class _Numbers:
    """Numbers the items of a question; one that is named by its id twice has one number."""

    def __init__(self, known: Catalogue) -> None:
        self._known = known
        self._number: dict[str, int] = {}
        self._places: list[int] = []
        self._texts: dict[int, dict[str, str | None]] = {}
        self.ids: list[str | None] = []

    @property
    def codes(self) -> NDArray[np.int32]:
        places = np.array(self._places, np.int32)
        return np.where(places < self._known.core_items, places, np.int32(-1))

    def add(self, item: Item | str, where: str, once: bool = False) -> int:
        """The number of an item, given by its id or as a request names it."""
        item_id = item if isinstance(item, str) else item.item_id
        if isinstance(item, Item) and item_id is None:
            fields = _known_fields(item.fields, self._known.spec.item_fields, where)
            self._texts[len(self.ids)] = {"title": item.title, **fields}
            return self._append(None, -1)
        assert item_id is not None, "an item has an id or a title"
        if item_id in self._number:
            if once:
                raise RequestError(UNFIT, f"{where}: the item {_shown(item_id)} is there twice")
            return self._number[item_id]
        place = self._known.place.get(item_id)
        if place is None:
            raise RequestError(UNKNOWN, f"{where}: unknown item {_shown(item_id)}: give its title instead")
        self._number[item_id] = self._append(item_id, place)
        return self._number[item_id]

    def _append(self, item_id: str | None, place: int) -> int:
        self.ids.append(item_id)
        self._places.append(place)
        return len(self.ids) - 1

    def frame(self) -> pl.DataFrame:
        """Rows of the catalogue, or what is told of a new item, by number; `item_id` is the number."""
        known = [number for number, place in enumerate(self._places) if place >= 0]
        rows = self._known.items[[self._places[number] for number in known]]
        told = [{"item_id": "", **row} for row in self._texts.values()]
        fields = dict.fromkeys(("item_id", "title", *self._known.spec.item_fields), pl.String)
        new = pl.DataFrame(told, schema=fields)  # without a schema, of the first hundred items alone
        order = pl.Series("number", [*known, *self._texts], dtype=pl.Int64)
        every = pl.concat([rows, new], how="diagonal").with_columns(order).sort("number")
        numbered = every.with_columns(pl.col("number").cast(pl.String).alias("item_id")).drop("number")
        return numbered.with_columns(pl.exclude("item_id").fill_null(""))


def _lines(asked: ScoreRequest, rated: pl.DataFrame | None, spec: DatasetSpec) -> Sequence[tuple[Item | str, float]]:
    """Items and ratings of the history."""
    if asked.history is None:
        if rated is None:
            raise RequestError(UNFIT, "history: it is missing: give one, or a known user_id")
        return _some(list(rated.select("item_id", "rating").iter_rows()))
    return _some([(line, _rating(line, f"history.{place}", spec)) for place, line in enumerate(asked.history)])


def _some(lines: Sequence[tuple[Item | str, float]]) -> Sequence[tuple[Item | str, float]]:
    if not lines:
        raise RequestError(UNFIT, "history: it is empty: a method needs one line at least")
    return lines


def _rating(line: Line, where: str, spec: DatasetSpec) -> float:
    if line.rating is None and spec.is_implicit:
        return 1.0
    allowed = (1.0,) if spec.is_implicit else spec.label.scale
    if line.rating not in allowed:
        scale = ", ".join(map(rating_text, allowed))
        given = "it is missing" if line.rating is None else f"{line.rating:g} is not on the scale"
        raise RequestError(UNFIT, f"{where}.rating: {given}: {scale}")
    return line.rating


def _profile(asked: ScoreRequest, known: Catalogue) -> str:
    given = _known_fields(asked.profile, known.spec.user_fields, "profile")
    fields = dict.fromkeys(name for name in known.spec.user_fields if name in known.users.frame.columns)
    row = next(known.users.rows(asked.user_id).iter_rows(named=True), {}) if asked.user_id is not None else {}
    return shown_profile({name: given.get(name, row.get(name)) for name in fields})


def _known_fields(given: Mapping[str, str], known: Sequence[str], where: str) -> Mapping[str, str]:
    for name in given:
        if name not in known:
            there = ", ".join(known) or "none"
            raise RequestError(UNFIT, f"{where}: there is no field {_shown(name)}: there are {there}")
    return given


def _known_items(rated: pl.DataFrame, ids: Sequence[str | None], ratings: NDArray[np.float32]) -> frozenset[str]:
    """Items of the history and the one rated next, where the known ratings of a user begin with this history."""
    first = rated.head(len(ids))
    same = first["item_id"].to_list() == list(ids) and np.array_equal(first["rating"].to_numpy(), ratings)
    return frozenset(rated["item_id"].head(len(ids) + 1)) if same else frozenset()


def _shown(text: str) -> str:
    return repr(clean_text(text, 60))
