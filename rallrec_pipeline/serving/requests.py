"""What a request may say: its shape, its limits, and strict JSON."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rallrec_pipeline.errors import RequestError
from rallrec_pipeline.settings import ServingSettings, plain_problem, unreadable
from rallrec_pipeline.text import clean_text

BAD, TOO_LARGE, UNFIT = 400, 413, 422
MOST_EXPLAINED = 50
MOST_DIGITS = 400  # more than any float has


class Part(BaseModel):
    """Base of all parts of a body: strict about names and types; a number is finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Item(Part):
    """An item by its id, or a new one by its text."""

    item_id: str | None = Field(None, description="As the raw files name it.")
    title: str | None = Field(None, description="Of an item that the pipeline does not know.")
    fields: dict[str, str] = Field({}, description="Its fields, by the names of the dataset's TOML file.")

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Item:
        if (self.item_id is None) == (self.title is None):
            raise ValueError("give either item_id or title")
        if self.title is not None and not clean_text(self.title):
            raise ValueError("the title is empty")
        if self.item_id is not None and self.fields:
            raise ValueError("fields go with a title, an item with an id has its own")
        return self


class Line(Item):
    """A line of a history."""

    rating: float | None = Field(None, description="On the dataset's scale; left out where feedback is implicit.")


class ScoreRequest(Part):
    """Who is asked about, and which items."""

    targets: list[Item] = Field(min_length=1, description="Items to score.")
    history: list[Line] | None = Field(
        None, description="What the user rated, oldest first; without it the known ratings of `user_id`."
    )
    user_id: str | None = Field(None, description="A known user, whose profile and facts then count.")
    profile: dict[str, str] = Field({}, description="Fields of a user; they replace those that are known.")
    method: str | None = Field(None, description="What scores; without it the first of `serving.methods`.")
    explain: int = Field(
        0, ge=0, le=MOST_EXPLAINED, description="Lines of the history to tell whose removal moves P(yes) most."
    )
    fingerprint: str | None = Field(None, description="Answer only if this result is in force.")


def read_request(body: bytes, limits: ServingSettings) -> ScoreRequest:
    """The body of `POST /score`. Raises RequestError for no JSON, a repeated key, NaN, a wrong shape, too much."""
    try:
        value = json.loads(
            body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_number, parse_int=_whole_number
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise RequestError(BAD, "the body is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise RequestError(UNFIT, "a text has half of a surrogate pair, as \\ud800: send whole characters") from error
    except ValueError as error:  # no UTF-8, no JSON, a number of thousands of digits
        raise RequestError(BAD, f"the body is no JSON: {clean_text(unreadable(error))}") from error
    if not isinstance(value, dict):
        raise RequestError(UNFIT, 'the body must be a JSON object, as {"targets": [{"item_id": "i1"}]}')
    _require_few(value, limits)
    try:
        found = ScoreRequest.model_validate(value)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        misspelt = [fault for fault in faults if fault["type"] == "extra_forbidden"]
        first = (misspelt or faults)[0]  # a key that is missing is most often one of these
        place = clean_text(".".join(map(str, first["loc"])))
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        message = clean_text(plain_problem(first, ScoreRequest))
        raise RequestError(UNFIT, f"{place}: {message}{more}" if place else message + more) from error
    _require_short(found, limits)
    return found


def _require_few(value: dict[str, Any], limits: ServingSettings) -> None:
    """Raises RequestError for more lines or targets than `[serving]` allows, before each is looked at."""
    for name, setting in (("history", "history_lines"), ("targets", "targets")):
        most, entries = getattr(limits, setting), value.get(name)
        if isinstance(entries, list) and len(entries) > most:
            told = f"{len(entries):,} entries, at most {most:,} are taken (serving.{setting})"
            raise RequestError(UNFIT, f"{name}: {told}")


def _require_short(found: ScoreRequest, limits: ServingSettings) -> None:
    """Raises RequestError for a text of more characters than `[serving]` allows."""
    texts = [text for item in (*(found.history or ()), *found.targets) for text in _texts(item)]
    texts += [*found.profile, *found.profile.values(), found.user_id or "", found.method or ""]
    longest = max(map(len, texts), default=0)
    if longest > limits.text_characters:
        most = f"at most {limits.text_characters:,} are taken (serving.text_characters)"
        raise RequestError(UNFIT, f"a text has {longest:,} characters, {most}")


def _texts(item: Item) -> list[str]:
    return [item.item_id or "", item.title or "", *item.fields, *item.fields.values()]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {clean_text(twice)!r} is there twice")
    return found


def _whole_number(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
