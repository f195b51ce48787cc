"""The catalogue of datasets: each is one TOML file, built in or the user's own under the lake's `catalog/`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rallrec_pipeline.datasets.spec import ONLY, DatasetSpec
from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.settings import plain_problem, unreadable
from rallrec_pipeline.sources.address import without_secrets
from rallrec_pipeline.text import clean_text

BUILT_IN = Path(__file__).parent / "builtin"
AT_THE_TOP = {"title", "extends", "max_rejected", "repeats", "unknown_items", "paper_dataset"}
OF_A_COLUMN = {
    f"interactions.{key}": f'it belongs to a column: columns = {{ …, timestamp = {{ column = "when", {setting} }} }}'
    for key, setting in (("time_format", 'time_format = "%Y-%m-%d"'), ("unit", 'unit = "ms"'))
}
"""What is said of a key that stands beside the columns."""
MAX_LINE, MAX_FAULTS = 80, 4000
NAME = re.compile(r"(?!.*\.\.\.)[a-z0-9][a-z0-9._-]{0,63}")  # Dagster takes no partition with three dots in a row

NAME_RULE = (
    "a dataset's file name must be lower case letters, digits, dots, dashes and underscores, "
    "begin with a letter or digit, have at most 64 of them and no three dots in a row"
)


def load_catalog(lake: Path, on_fault: Callable[[ConfigError], None]) -> dict[str, DatasetSpec]:
    """All datasets by name; a user's file replaces a built-in one of the same name.

    A faulty file of the user is told to `on_fault` and left out, so that it does not stop the other datasets.
    """
    catalog = {path.stem: load_dataset(path) for path in sorted(BUILT_IN.glob("*.toml"))}
    for path in sorted((lake / "catalog").glob("*.toml")):
        try:
            catalog[path.stem] = load_dataset(path)
        except ConfigError as error:
            catalog.pop(path.stem, None)  # not the built-in one in its place: that would be other data
            on_fault(error)
        except Exception as error:  # whatever is wrong with one file, the other datasets go on
            catalog.pop(path.stem, None)
            on_fault(
                ConfigError(clean_text(f"{path}: it cannot be read ({type(error).__name__}: {error})", MAX_FAULTS))
            )
    return catalog


def load_dataset(path: Path) -> DatasetSpec:
    """The dataset of one TOML file, named after it. Raises ConfigError with every problem of the file."""
    found = parse_dataset(path)
    if isinstance(found, DatasetSpec):
        return found
    raise ConfigError(clean_text(f"{path}: {'; '.join(found)}", MAX_FAULTS))


def parse_dataset(path: Path) -> DatasetSpec | list[str]:
    """The dataset of one TOML file, or every problem of the file, a line each."""
    if not NAME.fullmatch(path.stem):
        return [f"{NAME_RULE}: rename the file"]
    try:
        return DatasetSpec.model_validate({**_read(path), "name": path.stem})
    except ConfigError as error:
        return [str(error).removeprefix(f"{path}: ")]
    except ValidationError as error:
        return [line for problem in error.errors() for line in _lines(problem)]


def get_dataset(name: str, lake: Path, protocol: str | None = None) -> DatasetSpec:
    """The dataset called `name` under `protocol`. Raises ConfigError that lists the known ones."""
    spec = load_dataset(dataset_file(name, lake))
    return spec if protocol is None else with_protocol(spec, protocol)


def dataset_file(name: str, lake: Path) -> Path:
    """The TOML file of the dataset called `name`, the user's first. Raises ConfigError that lists the known ones."""
    for path in (lake / "catalog" / f"{name}.toml", BUILT_IN / f"{name}.toml"):
        if NAME.fullmatch(name) and path.exists():
            return path
    if _is_there(lake / "catalog", name):
        raise ConfigError(f"{lake / 'catalog' / name}.toml is there, but {NAME_RULE}: rename the file")
    known = sorted(load_catalog(lake, on_fault=lambda _: None))
    near = get_close_matches(name.lower(), known, 1)
    meant = f", did you mean {near[0]!r}?" if near else ":"
    raise ConfigError(f"unknown dataset {name!r}{meant} known are {', '.join(known)}")


def _is_there(folder: Path, name: str) -> bool:
    """Whether `folder` itself, and none below it, has a dataset file of that name."""
    return any(path.stem == name for path in folder.glob("*.toml"))


def with_protocol(spec: DatasetSpec, protocol: str) -> DatasetSpec:
    """`spec` with `protocol` in force; a dataset with one protocol keeps it. Raises ConfigError for an unknown one."""
    if list(spec.protocols) == [ONLY]:
        protocol = ONLY
    if protocol not in spec.protocols:
        raise ConfigError(f"{spec.name} has no protocol {protocol!r}: it has {', '.join(spec.protocols)}")
    own = spec.own_label or spec.label
    label = spec.protocols[protocol].label or own
    return spec.model_copy(update={"protocol_name": protocol, "label": label, "own_label": own})


def _read(path: Path, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """Values of a TOML file, laid over those of the built-in dataset that it `extends`."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: it cannot be read ({unreadable(error)})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}{_at_fault(error, path)}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {unreadable(error)}") from error
    if "name" in values:  # it leads to folders of the lake
        raise ConfigError(f"{path}: a dataset is named after its file: take `name` out")
    base = values.pop("extends", None)
    source = values.get("source")
    if isinstance(source, dict) and source.get("kind") in ("folder", "zip") and isinstance(source.get("location"), str):
        source["location"] = _absolute(source["location"], path)
    if base is None:
        return values
    parent = BUILT_IN / f"{base}.toml"
    if not isinstance(base, str) or not NAME.fullmatch(base) or not parent.exists() or base in seen:
        known = ", ".join(sorted(file.stem for file in BUILT_IN.glob("*.toml")))
        raise ConfigError(f"{path}: `extends` must name a built-in dataset ({known}), not {base!r}")
    inherited = _read(parent, (*seen, base))
    if "protocol" in values:  # the only one: it replaces all that are inherited
        inherited.pop("protocols", None)
    return _merge(inherited, values)


def _at_fault(error: tomllib.TOMLDecodeError, path: Path) -> str:
    """The line that is no TOML, where the error tells which."""
    found = re.search(r"at line (\d+)", str(error))
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    if found is None or int(found[1]) > len(lines):
        return ""
    hint = " (text needs quotes)" if str(error).startswith("Invalid value") else ""
    if "\\" in lines[int(found[1]) - 1]:
        hint = " (a path of Windows goes between single quotes, as in 'C:\\data', or with slashes)"
    return f": {clean_text(without_secrets(lines[int(found[1]) - 1]), MAX_LINE)!r}{hint}"


def _absolute(location: str, path: Path) -> str:
    try:
        return str((path.parent / Path(location).expanduser()).resolve())
    except (OSError, ValueError, RuntimeError) as error:  # a NUL, the home of a user who is not there
        raise ConfigError(f"{path}: source.location {location!r} is no path ({error})") from error


def _merge(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `extra` laid over it, table by table; `source`, a column or an empty table replaces the old one."""
    merged = dict(base)
    for key, value in extra.items():
        old = merged.get(key)
        whole = key == "source" or not isinstance(value, Mapping) or not value or "column" in value
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and not whole else value
    return merged


def _lines(problem: Any) -> list[str]:
    """What pydantic found, a line for each of the problems that `DatasetSpec` tells together."""
    message = plain_problem(problem, DatasetSpec, AT_THE_TOP)
    if problem["type"] == "string_pattern_mismatch":
        message += f", not {problem['input']!r}"
    place = ".".join(map(str, problem["loc"]))
    message = OF_A_COLUMN.get(place, message)
    lines = [f"{place}: {message}"] if place else message.split("; ")
    return [re.sub(rf"\bprotocols\.{ONLY}\b", "protocol", line) for line in lines]  # as it is written
