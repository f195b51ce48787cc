"""What one dataset is: sources, files, protocols, labels and words. A TOML file says it, no code."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from rallrec_pipeline.datasets.file_spec import FileSpec, SourceSpec, TableFile
from rallrec_pipeline.datasets.part import Part
from rallrec_pipeline.datasets.protocol_spec import LabelSpec, ProtocolSpec
from rallrec_pipeline.sources.source import Source, SourceFile

RESERVED = ("line", "text", "reason")  # columns of the readers' working tables
ONLY = "only"  # name of the protocol of a dataset that has one


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
