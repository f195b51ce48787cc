"""JSON documents that carry a checksum of their content: records, refs, provenance.

The checksum is that of all other keys in sorted order, now and in every later version, so that an older program still
tells a damaged document from one that it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rallrec_pipeline.errors import DamagedError, DataError
from rallrec_pipeline.lake.files import read_json, write_json
from rallrec_pipeline.lake.provenance import stable_hash

SEAL = "checksum"


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write a document with its checksum, atomically."""
    plain = json.loads(json.dumps(value))
    write_json(path, plain | {SEAL: stable_hash(plain)})


def read_sealed(path: Path, sealed_since: int | None = None) -> dict[str, Any]:
    """The document without its checksum; one of an older version may have none, down from the format `sealed_since`.

    Raises DamagedError when it is no JSON or its content is another one, DataError when it cannot be read at all.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    try:
        found = read_json(path)
    except DataError as error:
        if isinstance(error.__cause__, OSError):
            raise
        raise DamagedError(f"{path} is damaged: it is no JSON") from error
    if not isinstance(found, dict):
        raise DamagedError(f"{path} is damaged: it is no document")
    seal = found.pop(SEAL, None)
    if not _may_lack(found, sealed_since) if seal is None else seal != stable_hash(found):
        raise DamagedError(f"{path} is damaged: its content is not what was written")
    return found


def is_whole(path: Path) -> bool:
    """Whether a document is what was written, as far as anybody can tell: it may not be there, or not be readable."""
    try:
        read_sealed(path)
    except DamagedError:
        return False
    except DataError:
        return True
    return True


def _may_lack(found: Mapping[str, Any], sealed_since: int | None) -> bool:
    made = found.get("format", 1)
    return sealed_since is None or (isinstance(made, int) and made < sealed_since)
