"""Folders of a model or adapter on the nodes of a Ray cluster, which need not share a file system.

A node keeps what it was sent under the hash of its content, so a model travels to a node once, however many stages and
actors use it there.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.lake.files import atomic_path
from rallrec_pipeline.lake.provenance import content_version

PART_BYTES = 64 * 2**20

SentFiles = Mapping[str, list[Any]]
"""Object references of the parts of each file, by its path within the folder."""


@dataclass(frozen=True)
class NodeFolder:
    """A folder that a node needs; without a `version` (hash of its content) it is there already, at the same path."""

    path: Path
    version: str = ""

    @classmethod
    def to_send(cls, path: Path) -> NodeFolder:
        """A folder that is sent to the nodes that lack it."""
        return cls(path, content_version([path]))


def send_files(ray: Any, folder: Path) -> SentFiles:
    """Put the files of `folder` into Ray's object store, part by part."""
    return {
        file.relative_to(folder).as_posix(): _parts(ray, file) for file in sorted(folder.rglob("*")) if file.is_file()
    }


def find_on_node(folder: NodeFolder, sent: Mapping[str, SentFiles], ray: Any) -> Path | None:
    """Where `folder` is on this node; None when it has to be sent (`sent`, by version). Raises ModelError."""
    if not folder.version:
        return folder.path
    target = node_store() / folder.version / folder.path.name
    with FileLock(target.parent.with_suffix(".lock")):  # only one of a node's actors writes
        if target.exists():
            return target
        if folder.version not in sent:
            return None
        with atomic_path(target) as temporary:
            _receive(ray, sent[folder.version], temporary)
            if content_version([temporary]) != folder.version:
                raise ModelError(
                    f"{folder.path.name} did not arrive whole on a node: it was changed meanwhile, run again"
                )
    return target


def node_store() -> Path:
    """Where a node keeps what it was sent; only this user can write there."""
    store = Path(tempfile.gettempdir()) / f"rallrec-nodes-{os.getuid()}"
    store.mkdir(mode=0o700, exist_ok=True)
    if store.is_symlink() or store.stat().st_uid != os.getuid() or store.stat().st_mode & 0o022:
        raise ModelError(f"{store} may be written by others: remove it on this node and run again")
    return store


def _parts(ray: Any, file: Path) -> list[Any]:
    with file.open("rb") as stream:
        return [ray.put(part) for part in iter(lambda: stream.read(PART_BYTES), b"")]


def _receive(ray: Any, sent: SentFiles, target: Path) -> None:
    target.mkdir(parents=True)
    for name, parts in sent.items():
        file = target / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as stream:
            for part in parts:
                stream.write(ray.get(part))
