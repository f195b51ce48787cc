"""Profiles and variants laid over one another, the lowest first."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.settings.problems import plain_problem, unreadable
from rallrec_pipeline.settings.seeds import with_four_seeds
from rallrec_pipeline.settings.variants import DEFAULT_PROFILE, PROFILES, variant_file
from rallrec_pipeline.settings.whole import Settings

ABOVE_OF_VARIANTS = "base", "seed", "protocol", "only_methods"
ABOVE_OF_STUDIES = "title", "note", "methods", "reference", "beside"
"""Keys that belong above the first table of such a file."""


def load_settings(
    name: str | None = None,
    *,
    lake: Path | None = None,
    overrides: Path | None = None,
    above: Sequence[tuple[Path, Mapping[str, Any]]] = (),
    called: str | None = None,
) -> Settings:
    """Settings of the profile or variant `name` (default: RALLREC_PROFILE or `demo`), overlaid by a TOML file.

    A variant is the file `variants/<name>.toml` of the `lake` (default: `lake_root()`). It holds what differs from its
    `base`, another variant or profile (default: `demo`). `overrides` defaults to RALLREC_SETTINGS when that is set.
    Overlays in `above` (of a study, each with the file that it is from) lie on top of all; what comes of it is
    `called` so. Raises ConfigError.
    """
    name = name or os.environ.get("RALLREC_PROFILE") or DEFAULT_PROFILE
    layers = _layers(name, lake or lake_root())
    path = overrides or (Path(p) if (p := os.environ.get("RALLREC_SETTINGS")) else None)
    if path is not None:
        layers.append((path, _read_layer(path)))
    layers += [(path, _checked(path, layer)) for path, layer in above]
    values: dict[str, Any] = {"profile": called or name}
    for _, layer in layers:
        values = _merge(values, layer)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        keys = ABOVE_OF_STUDIES if above else ABOVE_OF_VARIANTS
        problems = "; ".join(_located(problem, layers, keys) for problem in error.errors())
        where = "" if above else f"settings of {name!r}: "  # a study's file is told by each of its problems
        raise ConfigError(f"{where}{problems}") from error


def lake_root() -> Path:
    """The lake's folder: RALLREC_LAKE, or `data_lake` below the working directory."""
    return Path(os.environ.get("RALLREC_LAKE") or "data_lake").resolve()


def _layers(name: str, lake: Path, above: tuple[str, ...] = ()) -> list[tuple[Path, dict[str, Any]]]:
    """The files that make `name`, the lowest first; `above` are the variants that it is a base of."""
    if name in above:
        raise ConfigError(f"variants that are each other's base: {' -> '.join((*above, name))}: change one `base`")
    path = variant_file(name, lake, f"base of {above[-1]!r}: " if above else "")
    values = _read_layer(path)
    if name in PROFILES:
        return [(path, values)]
    base = values.pop("base", DEFAULT_PROFILE)
    if not isinstance(base, str):
        raise ConfigError(f"{path}: base: it must be the name of a profile or variant")
    return [*_layers(base, lake, (*above, name)), (path, values)]


def _read_layer(path: Path) -> dict[str, Any]:
    """The overlay in a TOML file, with its seeds by name."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"the settings file {path} does not exist") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read the settings file {path}: {unreadable(error)}") from error
    return _checked(path, values)


def _checked(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """The overlay `values` of a file, with its seeds by name. Raises ConfigError for what no overlay may set."""
    if "profile" in values:
        raise ConfigError(f"{path}: profile: it cannot be set in a file, its value is the name that was asked for")
    try:
        return with_four_seeds(values)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _located(
    problem: Mapping[str, Any], layers: Sequence[tuple[Path, Mapping[str, Any]]], keys: Collection[str]
) -> str:
    """A problem of the settings, after the key and the uppermost file that sets it; `keys` belong above its tables."""
    steps = problem["loc"][:-1] if problem["loc"][-1:] == ("[key]",) else problem["loc"]  # a name that cannot be one
    files = [path for path, values in layers if _sets(values, steps)]
    place = " ".join(".".join(map(str, steps)).split())
    message = plain_problem(problem, Settings, keys)
    return ": ".join([*map(str, files[-1:]), *([place] if place else []), message])


def _sets(values: Any, place: Sequence[object]) -> bool:
    """Whether an overlay holds what is at `place`, be it as a part of a list."""
    if not place or not isinstance(values, Mapping):
        return True
    return place[0] in values and _sets(values[place[0]], place[1:])


def _merge(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `extra` laid over it, table by table."""
    merged = dict(base)
    for key, value in extra.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(value, Mapping) and isinstance(old, Mapping) else value
    return merged
