"""How times are written, told by examples: a unit, or a format that reads them all."""

from __future__ import annotations

import json
import re
from calendar import day_abbr, day_name, month_abbr, month_name
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

import polars as pl

from rallrec_pipeline.datasets.fields import time_field
from rallrec_pipeline.datasets.file_spec import ColumnSpec
from rallrec_pipeline.datasets.tables import LATEST_S

EARLIEST_S = 315_532_800  # 1980: no ratings are older, so smaller numbers are in another unit
UNITS = {"ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds", "s": "seconds"}
FIRST = 100_000  # times among which examples are taken
EXAMPLES = 50  # different times whose forms are tried
MOST_FORMS = 3
CLOCK = re.compile(r"(\d{1,2}):\d{2}(:\d{2}([.]\d{1,9})?)?( ?[AaPp][Mm])?")
ZONE = re.compile(r" ?(?:(Z|UTC|GMT)|([+-]\d{2}:?\d{2}))")
WEEK = re.compile(r"\d{4}(-?)W\d\d(-?)[1-7]")  # 2020-W38-1, as in ISO 8601
TOKEN = re.compile(r"[A-Za-z]+|\d+|.", re.DOTALL)
WORDS = [(list(day_name), "%A"), (list(day_abbr), "%a"), (list(month_abbr), "%b"), (list(month_name), "%B")]
LONG = {14: "%Y%m%d%H%M%S", 12: "%Y%m%d%H%M", 8: "%Y%m%d"}  # digits without a mark between them
CLOCK_LONG = {6: "%H%M%S", 4: "%H%M"}  # after a T
PLACE = "\x00"


@dataclass(frozen=True)
class TimeForm:
    """One way to write times: how it is read, how many of the times it reads, and one of them."""

    column: ColumnSpec
    count: int
    example: str
    rival: str = ""
    """Another format that reads as many, with day and month in the other order."""

    @property
    def setting(self) -> str:
        """As it is written in the TOML file."""
        if self.column.time_format:
            return f"time_format = {json.dumps(self.column.time_format)}"
        return f'unit = "{self.column.unit}"'


def time_forms(texts: pl.Series) -> list[TimeForm]:
    """The forms of the times `texts` (n,), the most frequent first: one that reads all, or the few that share them.

    Only times from 1980 to 2099 count. Of forms that read as many the first one is taken, as month before day between
    slashes.
    """
    rest, forms = texts.drop_nulls().str.strip_chars(), list[TimeForm]()
    while rest.len() and len(forms) < MOST_FORMS:
        examples = rest.head(FIRST).unique(maintain_order=True).head(EXAMPLES)
        guesses = [guess for guess in _guesses(examples) if plausible(examples, guess)]
        if not guesses:
            break
        read = [_read(rest, guess) for guess in guesses]
        counts = [int(mask.sum()) for mask in read]
        best = counts.index(max(counts))
        other = _swapped(guesses[best].time_format or "")
        is_rival = any(guess.time_format == other and counts[i] == counts[best] for i, guess in enumerate(guesses))
        example = str(rest.filter(read[best])[0])
        forms.append(TimeForm(guesses[best], counts[best], example, other if is_rival and "%d" in other else ""))
        rest = rest.filter(~read[best])
    return forms


def formats_of(text: str) -> list[str]:
    """The formats in which one time may be written, the likelier first; empty where it is no date."""
    text = text.strip().replace("%", "%%")
    if WEEK.fullmatch(text):
        return [WEEK.sub(r"%G\1W%V\2%u", text)]
    clock = CLOCK.search(text)
    if clock is None:
        return [found for found in _dates(text) if found]
    hours = "%I" if clock[4] else "%H"
    written = f"{hours}:%M" + (":%S" if clock[2] else "") + (".%f" if clock[3] else "")
    written += (" %p" if clock[4].startswith(" ") else "%p") if clock[4] else ""
    before, after = text[: clock.start()], text[clock.end() :]
    zone = ZONE.match(after)
    if zone is None:
        return [date.replace(PLACE, written) for date in _dates(before + PLACE + after)]
    gap, after = after[: zone.end()][: -len(zone[1] or zone[2])], after[zone.end() :]
    zones = [gap + zone[1], *([f"{gap}%z"] if zone[1] == "Z" else [])] if zone[1] else [f"{gap}%z"]
    return [date.replace(PLACE, written + name) for name in zones for date in _dates(before + PLACE + after) if date]


def plausible(texts: pl.Series, column: ColumnSpec) -> int:
    """How many of `texts` are a time of the last decades when read as `column` says."""
    return int(_read(texts, column).sum())


def _swapped(written: str) -> str:
    """The format with day and month in the other order."""
    return written.replace("%d", PLACE).replace("%m", "%d").replace(PLACE, "%m")


def _guesses(examples: pl.Series) -> Iterator[ColumnSpec]:
    for unit in UNITS:
        yield ColumnSpec.model_validate({"column": "x", "unit": unit})
    for known in dict.fromkeys(found for text in examples for found in formats_of(text)):
        yield ColumnSpec(column="x", time_format=known)


def _read(texts: pl.Series, column: ColumnSpec) -> pl.Series:
    """Whether each of `texts` is a time of the last decades when read as `column` says: (n,) bool."""
    times = texts.alias("x").to_frame().select(time_field("x", column, ()))["x"]
    return times.is_between(EARLIEST_S, LATEST_S).fill_null(False)


def _dates(text: str) -> list[str]:
    """The formats of what is left of a time without its clock, for which PLACE stands."""
    tokens = TOKEN.findall(text)
    fixed = [_fixed(tokens, place) for place in range(len(tokens))]
    if None in fixed:
        return []
    numbers = [place for place, token in enumerate(tokens) if token.isdecimal() and fixed[place] == token]
    known = "".join(word for word in fixed if word)
    wanted = [marks[0] for marks in (("%d",), ("%m", "%b", "%B"), ("%Y",)) if not _has(known, *marks)]
    if len(numbers) != len(wanted):
        return []
    found = []
    for order in _orders(wanted, [tokens[place] for place in numbers], text):
        named = dict(zip(numbers, order, strict=True))
        found.append("".join(named.get(place, str(word)) for place, word in enumerate(fixed)))
    return found


def _fixed(tokens: list[str], place: int) -> str | None:
    """What a token is whatever the others are; a number that may be a day stays; None for a word of no date."""
    token = tokens[place]
    if token.isdecimal():
        after_t = place > 1 and tokens[place - 1] in ("T", "t")
        return CLOCK_LONG.get(len(token), token) if after_t else LONG.get(len(token), token)
    if not (token.isascii() and token.isalpha()) or token in ("T", "t", "Z", "UTC", "GMT"):
        return token
    return next((mark for names, mark in WORDS if token.lower() in {name.lower() for name in names if name}), None)


def _has(known: str, *marks: str) -> bool:
    return any(mark in known for mark in marks)


def _orders(wanted: list[str], numbers: list[str], text: str) -> list[tuple[str, ...]]:
    """The orders in which `numbers` may be what is `wanted`, the likelier first; of two digits a year is `%y`."""
    if not wanted:
        return [()]
    long = [len(number) == 4 for number in numbers]
    if any(len(number) > 2 and not is_long for number, is_long in zip(numbers, long, strict=True)):
        return []
    orders = [order for order in permutations(wanted) if _fits(order, long)]
    named = [tuple("%y" if mark == "%Y" and not any(long) else mark for mark in order) for order in orders]
    return sorted(named, key=lambda order: _unlikely(order, day_first="." in text or "-" in text))


def _fits(order: tuple[str, ...], long: list[bool]) -> bool:
    """Whether the number of four digits is the year; where there is none the year stands at an end."""
    if any(long):
        return [mark == "%Y" for mark in order] == long
    return "%Y" not in order[1:-1]


def _unlikely(order: tuple[str, ...], day_first: bool) -> tuple[bool, bool]:
    """A year of two digits at the beginning, or month and day in the order that the marks do not suggest."""
    if "%m" not in order or "%d" not in order:
        return False, False
    by_month = order.index("%m") < order.index("%d")
    return order[0] == "%y", by_month is (day_first and order[0] != "%Y")
