"""Where the files of a dataset lie, and whether they are there."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from rallrec_pipeline.datasets.catalog import BUILT_IN
from rallrec_pipeline.datasets.checking.findings import Findings, listed, shown
from rallrec_pipeline.datasets.guessing.layout import binary_format
from rallrec_pipeline.datasets.readers import raw_folder
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.datasets.unpacking import plain_file
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import file_sha256
from rallrec_pipeline.sources.record import has_changed, source_files
from rallrec_pipeline.sources.source import SourceFile, parts_of


def is_listed(path: Path, lake: Path) -> bool:
    """Whether `rallrec run` finds the TOML file where it is."""
    return path.resolve().parent in ((lake / "catalog").resolve(), BUILT_IN.resolve())


def check_place(spec: DatasetSpec, path: Path, lake: Path, found: Findings) -> None:
    """A relative place starts at the TOML file, which has yet to be moved into the catalogue."""
    written = tomllib.loads(path.read_text(encoding="utf-8-sig")).get("source", {}).get("location", "")
    is_relative = written and not Path(written).expanduser().is_absolute()
    if is_relative and spec.source.kind in ("folder", "zip") and not is_listed(path, lake):
        found.warning(f"source.location {shown(written)} starts at the file's own folder: write {spec.source.location}")


@contextmanager
def linked_files(spec: DatasetSpec, path: Path, lake: Path, found: Findings) -> Iterator[Path]:
    """A lake for the readers that holds nothing but links to the real files: they write beside what they read.

    Packed files are unpacked for it, once for all that is looked at; those that cannot be are told where they are read.
    """
    base = lake if lake.is_dir() and os.access(lake, os.W_OK) else None
    _check_age(spec, lake, found)
    with TemporaryDirectory(dir=base, prefix=".check-") as scratch, ExitStack() as unpacked:
        folder = raw_folder(Path(scratch), spec.name)
        folder.mkdir(parents=True)
        for file, real, name in _real_files(spec, path, lake, found):
            if file.sha256 and (digest := _digest(real)) != file.sha256:
                found.problem(f"{real} has SHA-256 {digest[:12]}…, not {file.sha256[:12]}…: correct sha256 or the file")
            link, plain = folder / file.name / name if name else folder / file.name, real
            with suppress(DataError, OSError):
                if binary_format(real) != "excel":  # which is a zip itself
                    plain = unpacked.enter_context(plain_file(real, Path(scratch)))
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(plain.resolve())
        yield Path(scratch)


def _check_age(spec: DatasetSpec, lake: Path, found: Findings) -> None:
    """A zip that has changed since it was unpacked: what is checked is the old one."""
    folder = raw_folder(lake, spec.name)
    try:
        is_old = spec.source.kind == "zip" and has_changed(spec.origin, folder, source_files(spec.origin, folder))
    except OSError:
        return  # a zip that cannot be read is no matter while its files are there
    if is_old:
        fetch = f"run `rallrec run {spec.name} --select raw_files` and check again"
        found.warning(f"{folder} is of another zip than {spec.source.location} is now: {fetch}")


def _real_files(spec: DatasetSpec, path: Path, lake: Path, found: Findings) -> list[tuple[SourceFile, Path, str]]:
    """Each file that is there, where it lies, and its name among the parts of its table; the others are problems."""
    local = spec.source.kind == "folder"
    folder = Path(spec.source.location) if local else raw_folder(lake, spec.name)
    names = {file: file.path if local else file.name for file in spec.files}
    at = {file: parts_of(folder, name) for file, name in names.items()}
    there = [(file, real, part) for file, parts in at.items() for real, part in parts.items()]
    lacking = ", ".join(names[file] for file, parts in at.items() if not parts)
    if lacking and not local:
        first = "" if is_listed(path, lake) else f"put {path.name} into {lake / 'catalog'} and "
        fetch = f"run `rallrec run {spec.name} --select raw_files`"
        found.problem(f"{folder} lacks {lacking}: not fetched yet, {first}{fetch}")
    elif lacking and not os.path.isdir(folder):
        found.problem(f"there is no folder {folder}: correct source.location")
    elif lacking:
        held = listed(sorted(os.listdir(folder)) if os.access(folder, os.R_OK | os.X_OK) else [])
        found.problem(f"the folder {folder} lacks {lacking} (it has {held}): correct source.location or the names")
    return there


def _digest(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        return f"unknown ({error.strerror})"
