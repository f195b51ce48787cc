"""A repository of the Hugging Face hub."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from rallrec_pipeline.errors import ModelError


def download_snapshot(hub_id: str, patterns: Sequence[str], target: Path) -> None:
    """The files of a hub id that match `patterns`, in `target`. Raises ModelError with the hub's own reason."""
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(hub_id, local_dir=target, allow_patterns=list(patterns))
    except Exception as error:  # the hub client raises a dozen unrelated types
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"cannot fetch the model {hub_id!r} ({reason}): give model.source a local folder or another hub id"
        ) from error
    shutil.rmtree(target / ".cache", ignore_errors=True)
