"""An engine without an LLM for Ray actors: nothing here loads PyTorch, so that an actor starts in a moment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.language_models.protocols import Sampling, Usage

POISON = "poison"


def node_id() -> str:
    """The node of this actor."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def load_texts(folder: Path, adapter: Path | None = None) -> FolderEngine:
    """An engine that answers with what it finds in its folders."""
    if (folder / "refuse").exists():
        raise ModelError("the weights are of another world")
    return FolderEngine(folder, adapter)


class FolderEngine:
    """Generates the texts of files; a row that says POISON ends its process."""

    def __init__(self, folder: Path, adapter: Path | None) -> None:
        self.folders = [folder, *([adapter] if adapter else [])]
        self.usage = Usage()

    def generate(self, prompts: Sequence[str], sampling: Sampling) -> list[str]:
        if POISON in prompts:
            os._exit(1)
        self.usage.rows += len(prompts)
        names = [f"{folder.name}/{file}" for folder in self.folders for file in sorted(os.listdir(folder))]
        return [f"{node_id()} {prompt} {names}" for prompt in prompts]

    def close(self) -> None:
        pass
