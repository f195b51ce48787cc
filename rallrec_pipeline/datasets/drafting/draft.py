"""The text of a dataset's TOML file, with a comment at each guess."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import wrap

from rallrec_pipeline.datasets.drafting.roles import Plan
from rallrec_pipeline.datasets.drafting.samples import MOST_COLUMNS, Sample
from rallrec_pipeline.datasets.drafting.values import (
    Scale,
    fields_of,
    nothing_in,
    null_words,
    scale_of,
    time_setting,
    title_setting,
    where_of,
    word_of,
)
from rallrec_pipeline.datasets.guessing.layout import settings_of
from rallrec_pipeline.text import clean_text

BARE = re.compile(r"[A-Za-z0-9_-]+")
FIVE = 5


@dataclass
class Draft:
    """What the TOML file says; what a check of it finds may change the rest."""

    plan: Plan
    out: Path
    base: Path
    core: int = FIVE
    split: str = "time"
    keep_unknown: bool = False
    max_rejected: float = 0.0
    """0 leaves it at its default."""
    decisions: list[str] = field(default_factory=list)
    """What a person has to decide."""
    scale: Scale | None = None
    time: dict[str, object] | None = None

    def text(self, folder: Path | None = None) -> str:
        """The file, as it stands in `folder`, by default where it will be."""
        self.decisions = []
        parts = [self._interactions(), self._items(), self._users()]
        head = self._head(folder or self.out.parent)
        return "\n".join(part for part in (head, *parts, self._protocol(), self._label(), self._words()) if part)

    def _head(self, folder: Path) -> str:
        place = Path(os.path.relpath(self.base, folder)).as_posix()
        lines = ["# Written by `rallrec new`. Each comment tells a guess: correct what is wrong, then `rallrec check`."]
        lines += [f"# To decide: {_one_line(what, 600)}" for what in [*self.plan.questions, *self.decisions]]
        lines += [f"# {_one_line(what)}" for what in self.plan.doubts]
        if self.plan.unused:
            lines.append(f"# Not used: {_one_line(', '.join(sample.file for sample in self.plan.unused))}")
        lines.append(f"title = {_value(self.out.stem)}")
        if self.max_rejected:
            note = "so many ratings cannot be used, `rallrec check` says why"
            lines.append(f"max_rejected = {self.max_rejected:g}  # {note}")
        if self.keep_unknown:
            lines.append('unknown_items = "keep"  # ratings of items that the catalogue lacks stay, without a title')
        lines += ["", "[source]", 'kind = "folder"', f"location = {_value(place)}  # from the folder of this file", ""]
        return "\n".join(lines)

    def _interactions(self) -> str:
        plan, sample = self.plan, self.plan.ratings
        lines = ["[interactions]", *_file(sample)]
        ids = [sample.frame[plan.columns[role]] for role in ("user_id", "item_id")]
        if words := null_words(*ids):
            lines.append(f"empty = {_value(words)}  # words that are no id")
        event = plan.columns.get("event", "")
        where = self._where(sample, event) if event and "rating" not in plan.columns else []
        lines += where
        columns: dict[str, tuple[object, str]] = {role: (plan.columns[role], "") for role in ("user_id", "item_id")}
        self._rating(sample, columns, lines)
        self._time(sample, columns)
        lines += ["", "[interactions.columns]"]
        for name, (value, note) in columns.items():
            lines.append(f"{name} = {_value(value)}{_because(plan.guesses.get(name, ''), note)}")
        used = {_column(value) for value, _ in columns.values()}
        used |= {event} if where else set()
        used |= {plan.item_id, plan.title} if plan.items is sample else set()
        return "\n".join([*lines, *_left_out(sample, used), ""])

    def _where(self, sample: Sample, column: str) -> list[str]:
        found = where_of(sample, column)
        return [f"where = {_value({column: found[0]})}  # of the events {_one_line(found[1])}"] if found else []

    def _rating(self, sample: Sample, columns: dict[str, tuple[object, str]], lines: list[str]) -> None:
        column = self.plan.columns.get("rating")
        self.scale = scale_of(sample.frame[column]) if column else None
        if column is None or self.scale is None:
            if self.plan.numbers:
                lines.append("# No rating was found, so that what happened is a like (implicit feedback).")
                lines += _listed("Numbers that are taken for something else than ratings", self.plan.numbers)
            return
        if self.scale.steps:
            codes: dict[str, object] = {"values": self.scale.codes} if self.scale.codes else {}
            columns["rating"] = ({"column": column, **codes} if codes else column, self.scale.note)
        else:
            lines.append(f"# {_value(column)} is no rating: {_one_line(self.scale.note)}; it is left out, so that what")
            lines.append("# happened is a like (implicit feedback); for a rating round it to a few steps in the file")

    def _time(self, sample: Sample, columns: dict[str, tuple[object, str]]) -> None:
        column = self.plan.columns.get("timestamp")
        self.time = None
        if column is None:
            return
        settings, note, decision = time_setting(sample.frame[column])
        if decision:
            self.decisions.append(f"{sample.file}, column {column}: {decision}")
            if not settings:
                return
        self.time = settings
        columns["timestamp"] = ({"column": column, **settings} if settings else column, note)

    def _items(self) -> str:
        plan, sample = self.plan, self.plan.items
        lines = ["[items]", *_file(sample), "", "[items.columns]", f"item_id = {_value(plan.item_id)}"]
        lines[-1] += _because(plan.guesses.get("items.item_id", ""))
        title = title_setting(sample.frame[plan.title], plan.title)
        note = "the first rows end with a year, or with an article" if len(title) > 1 else ""
        why = _because(plan.guesses.get("items.title", ""), note)
        lines.append(f"title = {_value(title if len(title) > 1 else plan.title)}{why}")
        if nothing := nothing_in(sample):
            lines.insert(1 + len(_file(sample)), f"empty = {_value(nothing)}  # words that say nothing")
        own = sample is plan.ratings
        taken = {plan.item_id, plan.title, *(plan.columns.values() if own else ())}
        fields = {} if own else fields_of(sample, taken, plan.title if plan.title != plan.item_id else "")
        lines += _fields(fields)
        used = {plan.item_id, plan.title, *map(_column, fields.values())}
        return "\n".join([*lines, *([] if own else _left_out(sample, used)), ""])

    def _users(self) -> str:
        sample = self.plan.users
        if sample is None:
            return ""
        fields = fields_of(sample, {self.plan.user_id}, "")
        if not fields:
            return f"# Not used: {_one_line(sample.file)}, which tells nothing more of the users\n"
        lines = ["[users]", *_file(sample), "", "[users.columns]", f"user_id = {_value(self.plan.user_id)}"]
        lines[-1] += _because(self.plan.guesses.get("users.user_id", ""))
        used = {self.plan.user_id, *map(_column, fields.values())}
        return "\n".join([*lines, *_fields(fields), *_left_out(sample, used), ""])

    def _protocol(self) -> str:
        lines = ["[protocol]"]
        few = "" if self.core == FIVE else "  # the data are few"
        lines += [f"{name} = {self.core}{few}" for name in ("user_core", "item_core", "min_history")]
        if self.time is None:
            lines.append('split = "user"  # without times no split in time')
        elif self.split == "user":
            lines.append('split = "user"  # in time a split would hold too few, or only likes or dislikes')
        if self.scale is not None and self.scale.drop_zero:
            lines.append("drop_ratings = [0]  # 0 stands for: not rated")
        return "\n".join([*lines, ""])

    def _label(self) -> str:
        if self.scale is None or not self.scale.steps:
            return "[label]\nnegatives = 1  # feedback without ratings: for each like an item is drawn as disliked\n"
        steps = [int(step) if step == int(step) else step for step in self.scale.steps]
        return f"[label]\nscale = {_value(steps)}\nlike_above = {self.scale.like_above:g}\n"

    def _words(self) -> str:
        found = word_of([self.plan.item_id, *self.plan.columns.values(), self.plan.items.file, self.plan.ratings.file])
        if found is None:
            return '[words]  # of the prompts\nitem = "item"\nitems = "items"\n'
        return f"[words]  # of the prompts\nitem = {_value(found[0])}\nitems = {_value(found[1])}\n"


def _file(sample: Sample) -> list[str]:
    lines = [f"file = {_value(sample.file)}"]
    lines += [f"{key} = {_value(value)}" for key, value in settings_of(sample.layout, sample.file).items()]
    if sample.table.header:
        lines.append(f"header = {_value(list(sample.table.header))}  # the file has no header: name them better")
    return lines


def _value(value: object) -> str:
    """A value in TOML."""
    if isinstance(value, Mapping):
        pairs = (f"{name if BARE.fullmatch(name) else _value(name)} = {_value(inner)}" for name, inner in value.items())
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str) and "\\" in value and "'" not in value and value.isprintable():
        return f"'{value}'"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _fields(fields: Mapping[str, dict[str, object]]) -> list[str]:
    words, year = _because("a text of few words that several rows share"), _because("a year ends the titles")
    return [f"{name} = {_value(value)}{year if 'pattern' in value else words}" for name, value in fields.items()]


def _because(guess: str, note: str = "") -> str:
    """The comment at the end of a line: why a column was guessed, and what its values are."""
    told = "; ".join(text for text in (f"a guess: {guess}" if guess else "", note) if text)
    return f"  # {_one_line(told)}" if told else ""


def _column(value: object) -> str:
    """The column of the file that a setting names."""
    return str(value["column"] if isinstance(value, Mapping) else value)


def _left_out(sample: Sample, used: Set[str]) -> list[str]:
    """A comment with the columns of a file that nothing uses; `name.0` is a part of the column `name`."""
    left = [name for name in sample.names if name not in used and f"{name}.0" not in used]
    lines = _listed(f"Columns of {_one_line(sample.file)} that are left out", left)
    if len(sample.names) == MOST_COLUMNS:
        lines.append(f"# Columns after the first {MOST_COLUMNS} were not looked at.")
    return lines


def _listed(what: str, names: Sequence[str]) -> list[str]:
    """A comment with all of the names, on as many lines as they need."""
    if not names:
        return []
    text = f"{what}: {', '.join(_one_line(name) for name in names)}"
    return [f"# {line}" for line in wrap(text, 116, break_long_words=False, break_on_hyphens=False)]


def _one_line(text: str, most: int = 200) -> str:
    return clean_text(text, most)
