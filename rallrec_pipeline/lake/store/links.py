"""Links: the paths of the contract lead to results, and one file may be of several results."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from rallrec_pipeline.lake.files import atomic_path
from rallrec_pipeline.lake.store.records import Record


def publish_links(lake: Path, record: Record, before: Record | None = None) -> None:
    """Links at the paths of the contract; those of the result before that this one has not go."""
    links = dict(_links(lake, record))
    for link in dict(_links(lake, before)) if before else ():
        if link not in links and link.is_symlink():
            link.unlink()
    for link, target in links.items():
        wanted = os.path.relpath(target, link.parent)
        if link.is_symlink() and os.readlink(link) == wanted:
            continue
        # The refs are what counts and are written to the disk: a link that a power cut takes, the next run makes again.
        with atomic_path(link, durable=False) as temporary:
            temporary.symlink_to(wanted)


def withdraw_links(lake: Path, record: Record) -> None:
    """Take away the links at the paths of the contract that lead to this result."""
    for link, target in _links(lake, record):
        if link.is_symlink() and os.readlink(link) == os.path.relpath(target, link.parent):
            link.unlink()


def _links(lake: Path, record: Record) -> Iterator[tuple[Path, Path]]:
    folder = record.folder(lake)
    for path in record.paths(lake):
        if path.is_relative_to(folder):
            yield lake / path.relative_to(folder), path


def link_tree(source: Path, target: Path) -> None:
    """Make `target` a file or folder with the bytes of `source`, sharing them on disk where the file system can."""
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        _link(source, target)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
