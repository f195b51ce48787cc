"""A study: methods under one or more variants, compared on the same test rows. It is a TOML file.

The built-in ones lie in `pipeline/studies/`, a user's own in the lake's `studies/`.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.evaluation.reports.papers import published_rows
from rallrec_pipeline.pipeline.reporting.scored import ON_IDS
from rallrec_pipeline.settings import (
    ABOVE_OF_STUDIES,
    OF_STUDIES,
    MethodName,
    Section,
    Settings,
    did_you_mean,
    load_settings,
    plain_problem,
    unreadable,
)

_BUILT_IN = Path(__file__).parent
STUDY_NAME = re.compile(r"[a-z0-9_]{1,48}")
ONE = "one"
"""Name of the variant of a study that lists none."""


RowName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*(/[a-z0-9][a-z0-9_-]*)?$", max_length=130)]
"""A row of a report: a method, or `variant/method` in a study with variants."""


Measure = Literal["auc", "uauc", "log_loss"]


class StudyTable(Section):
    """Rows of the report that are looked at together, beside what a paper published of them."""

    title: str = Field(min_length=1, max_length=200)
    note: str = Field("", max_length=1000)
    rows: dict[RowName, str] = Field(
        min_length=1, description="Rows in their order, each with the key of its published figures or an empty text."
    )
    published: str = Field("", description="Key of a table in `evaluation/reports/paper_tables.json`.")
    reference: RowName | None = Field(None, description="What its rows are compared with; None: the study's.")


class StudyFigure(Section):
    """Lines over one setting."""

    title: str = Field(min_length=1, max_length=200)
    x: str = Field(min_length=1, max_length=60, description="What lies on the horizontal axis.")
    measure: Measure = Field("auc", description="What is drawn, with its interval over users.")
    lines: dict[str, dict[str, RowName]] = Field(min_length=1, description="By name: the row of each x.")


class StudyClaim(Section):
    """That one row is better than another, to be held against the figures."""

    says: str = Field(min_length=1, max_length=300, description="The claim in words.")
    better: RowName
    than: RowName
    by: Measure = Field("auc", description="The measure that decides.")


class Study(Section):
    """What a study compares."""

    title: str = Field(min_length=1, max_length=120, description="What it asks, as the report's heading.")
    note: str = Field("", max_length=1000, description="What a reader should know, in a sentence or two.")
    methods: tuple[MethodName, ...] = Field(min_length=1, description="Methods that are scored, in the report's order.")
    reference: MethodName = Field(description="The method that all others are compared with.")
    beside: str = Field(
        "",
        max_length=60,
        description="A name that studies of other test rows share: the page of results sets them beside each other.",
    )
    settings: dict[str, Any] = Field({}, description="An overlay on the profile, as in a variant's file.")
    variants: dict[MethodName, dict[str, Any]] = Field(
        {}, description="Overlays by name, each a variant of its own; without any there is one."
    )
    tables: dict[MethodName, StudyTable] = Field({}, description="Parts of the report, in its order.")
    figures: dict[MethodName, StudyFigure] = Field({}, description="Curves over a setting, in the report's order.")

    claims: tuple[StudyClaim, ...] = Field((), description="What the papers say, as paired differences of two rows.")

    def told(self) -> dict[str, Any]:
        """The study as it is told and addressed, JSON-able.

        A field that was added later is left out where it holds its default, so that no study is made anew for it.
        """
        found = self.model_dump(mode="json")
        for figure in found["figures"].values():
            if figure["measure"] == StudyFigure.model_fields["measure"].default:
                del figure["measure"]
        return found if self.beside else {name: value for name, value in found.items() if name != "beside"}

    @property
    def row_names(self) -> list[str]:
        """Rows of the report, in its order."""
        return [row_name(variant, method, self) for variant in self.variants or [ONE] for method in self.methods]

    @model_validator(mode="after")
    def _rows_are_known(self) -> Study:
        known = set(self.row_names)
        named = [
            *((f"tables.{name}", row) for name, table in self.tables.items() for row in table.rows),
            *(("claims", row) for claim in self.claims for row in (claim.better, claim.than)),
            *((f"tables.{name}: reference", t.reference) for name, t in self.tables.items() if t.reference),
            *(
                (f"figures.{n}", row)
                for n, f in self.figures.items()
                for line in f.lines.values()
                for row in line.values()
            ),
        ]
        for where, row in named:
            if row not in known:
                raise ValueError(f"{where}: the study has no row {row!r}{did_you_mean(row, sorted(known))}")
        for name, table in self.tables.items():
            published = published_rows(table.published) if table.published else {}
            for row, key in table.rows.items():
                if key and key not in published:
                    raise ValueError(
                        f"tables.{name}: {row}: {key!r} is no row of {table.published or 'a published table'}"
                    )
        return self

    @field_validator("claims")
    @classmethod
    def _said_once(cls, claims: tuple[StudyClaim, ...]) -> tuple[StudyClaim, ...]:
        said = Counter(claim.says for claim in claims)
        if twice := [words for words, count in said.items() if count > 1]:
            raise ValueError(f"two claims say {twice[0]!r}")
        return claims

    @field_validator("methods")
    @classmethod
    def _each_once(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(methods)) < len(methods):
            raise ValueError("a method is named twice")
        return methods


def row_name(variant: str, method: str, study: Study) -> str:
    """What a method of a variant is called in the report."""
    return f"{variant}/{method}" if study.variants else method


def load_study(name: str, lake: Path) -> Study:
    """The study of this name. Raises ConfigError that names its file and what is wrong with it."""
    path = _file(name, lake)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read the study {path}: {unreadable(error)}") from error
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_told(problem, values) for problem in error.errors())
        raise ConfigError(f"the study {path}: {problems}") from error


def known_studies(lake: Path) -> list[str]:
    """Names of the built-in studies and of those in `lake`, sorted."""
    return sorted(_files(lake))  # their content is looked at when one is asked for, so that a fault is its own only


def study_variants(
    name: str, study: Study, profile: str | None, lake: Path, overrides: Path | None = None
) -> dict[str, Settings]:
    """The settings of each variant of a study over `profile` (and `overrides`, a file), by the variant's name.

    Raises ConfigError for a setting or method that does not exist, for a reference that is none of the methods, and
    where variants would not share their test rows.
    """
    path, overlays = _file(name, lake), study.variants or {ONE: {}}
    base = load_settings(profile, lake=lake, overrides=overrides).profile
    chosen: dict[str, Any] = {"only_methods": []}
    if not ON_IDS.keys().isdisjoint(study.methods):
        chosen["experts"] = {"deep": True}
    found: dict[str, Settings] = {}
    for variant, overlay in overlays.items():
        layers: list[tuple[Path, Mapping[str, Any]]] = [(path, study.settings), (path, overlay), (path, chosen)]
        settings = load_settings(
            profile, lake=lake, overrides=overrides, above=layers, called=f"{OF_STUDIES}{base}-{name}-{variant}"
        )
        _require_methods(study, settings, path)
        found[variant] = settings.model_copy(update={"only_methods": study.methods})
    if study.reference not in study.methods:
        meant = did_you_mean(study.reference, study.methods)
        raise ConfigError(f"the study {path}: reference: {study.reference!r} is none of its methods{meant}")
    for setting, values in (
        ("seeds.data", {settings.seeds.data for settings in found.values()}),
        ("protocol", {settings.protocol for settings in found.values()}),
        ("prompts.test_samples", {settings.prompts.test_samples for settings in found.values()}),
    ):
        if len(values) > 1:
            raise ConfigError(f"the study {path}: its variants differ in {setting}, so they have other test rows")
    return found


def _told(problem: Any, values: Mapping[str, Any]) -> str:
    place, message = problem["loc"], plain_problem(problem, Study, ABOVE_OF_STUDIES)
    if problem["type"] == "missing" and len(place) == 1 and _is_in_a_table(place[0], values):
        message += " above the first [table]"
    return ": ".join([*([".".join(map(str, place))] if place else []), message])


def _is_in_a_table(key: object, values: Mapping[str, Any]) -> bool:
    tables = [table for table in values.values() if isinstance(table, Mapping)]
    return any(key in table or _is_in_a_table(key, table) for table in tables)


def _require_methods(study: Study, settings: Settings, path: Path) -> None:
    """Raises ConfigError for methods of the study that are none in a variant of it."""
    known = settings.every_method
    if unknown := [name for name in study.methods if name not in known]:
        told = "; ".join(f"{name!r} does not exist{_meant(name, known)}" for name in unknown)
        raise ConfigError(f"the study {path}: methods: {told}")


def _meant(name: str, known: Mapping[str, object]) -> str:
    return did_you_mean(name, known) or f": there are {', '.join(known)}"


def _files(lake: Path) -> dict[str, list[Path]]:
    """Files by the name of the study; one that has another sort of name is none."""
    found: dict[str, list[Path]] = {}
    for path in (*sorted(_BUILT_IN.glob("*.toml")), *sorted((lake / "studies").glob("*.toml"))):
        if STUDY_NAME.fullmatch(path.stem):
            found.setdefault(path.stem, []).append(path)
    return found


def _file(name: str, lake: Path) -> Path:
    known = _files(lake)
    if name not in known:
        meant = did_you_mean(name, known) or ":"
        raise ConfigError(
            f"unknown study {name!r}{meant} known are {', '.join(sorted(known)) or 'none'}; "
            f"your own are files {lake / 'studies' / '<name>.toml'} (small letters, digits and _)"
        )
    path, *others = known[name]
    if others:
        raise ConfigError(f"two studies are called {name!r}, {path} and {others[0]}: rename yours")
    return path
