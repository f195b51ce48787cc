"""A lake, an instance and an LLM so small that the whole job takes seconds; and the command line as a process.

`make_world` makes one in which nothing has run. The fixture `finished_world` (conftest.py) is one whose whole job has
run, once for all tests: they read it, or change a copy (`copied_world`).
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from rallrec_pipeline_tests.language_models.small_llama import NARROW, write_llama

REPOSITORY = Path(__file__).parents[2]
LINE_S = 300
SMALL = "small"
"""The dataset of the finished world."""
TITLE = "[red]Third[/red] title"
"""Its item `i3`; of those beside the ten of its core `i77` has one rating and `i88` none."""
RARE = "Rare \x1b[31m\u202etitle"

DATASET = """
title = "Small"

[source]
kind = "folder"
location = "../files/{name}"

[interactions]
file = "ratings.csv"
columns = {{ rating = "rating", timestamp = "timestamp" }}

[items]
file = "items.csv"
columns = {{ title = "title" }}

[protocol]
user_core = 3
item_core = 3
min_history = 3

[label]
scale = [1, 2, 3, 4, 5]
like_above = 3
"""

SIZES = """
[descriptions]
max_words = 8
max_new_tokens = 8
batch_size = 8

[collaborative]
epochs = 2
dimensions = 4

[alignment]
epochs = 2
hidden = 4

[text]
pca_dimensions = 4

[retrieval]
history_length = 2

[prompts]
train_samples = 6
validation_samples = 8
test_samples = 10

[scoring]
bootstrap = 20

[tuning]
batch_size = 8
"""

SETTINGS = f"""
[model]
source = "{{model}}"
name = "tiny"
dtype = "float32"

[encoder]
source = "{{model}}"
name = "tiny"
dtype = "float32"
{SIZES}
[automation]
refresh_cron = "* * * * *"
sensor_interval_s = 1
"""


def make_world(root: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], **monitoring: int) -> Path:
    """Lake with the datasets `names`, and an instance with this project's `dagster.yaml`; the environment names both.

    `monitoring` replaces times of the run monitoring. Returns the lake.
    """
    lake, home, model = root / "lake", root / "home", root / "model"
    add_datasets(lake, *names)
    for name in names:
        write_ratings(lake, name)
    write_llama(model, NARROW, template=None, begins=False)
    settings = root / "settings.toml"
    settings.write_text(SETTINGS.format(model=model.as_posix()), encoding="utf-8")
    home.mkdir()
    lines = (REPOSITORY / "dagster.yaml").read_text(encoding="utf-8").splitlines()
    for key, value in monitoring.items():
        (at,) = [number for number, line in enumerate(lines) if line.startswith(f"  {key}:")]
        lines[at] = f"  {key}: {value}"
    (home / "dagster.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    use_lake(lake, settings, monkeypatch)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    return lake


def add_datasets(lake: Path, *names: str) -> None:
    """The catalogue of a new lake: a dataset for each of `names`, whose ratings `write_ratings` makes."""
    (lake / "catalog").mkdir(parents=True)
    for name in names:
        (lake / "catalog" / f"{name}.toml").write_text(DATASET.format(name=name), encoding="utf-8")


def use_lake(lake: Path, settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment name a lake and a file of settings."""
    monkeypatch.delenv("RALLREC_PROFILE", raising=False)
    monkeypatch.setenv("RALLREC_LAKE", str(lake))
    monkeypatch.setenv("RALLREC_SETTINGS", str(settings))


def add_odd_items(lake: Path) -> None:
    """An item whose title is markup, and two outside the core."""
    file = ratings_file(lake, SMALL)
    replace_once(file.with_name("items.csv"), "i3,Title 3\n", f"i3,{TITLE}\n")
    replace_once(file.with_name("items.csv"), "i9,Title 9\n", f"i9,Title 9\ni77,{RARE}\ni88,Unrated\n")
    replace_once(file, "timestamp\n", "timestamp\nu0,i77,4,3\n")


def replace_once(file: Path, old: str, new: str) -> None:
    """Replace what is in a file exactly once."""
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, old
    file.write_text(text.replace(old, new), encoding="utf-8")


def copied_world(world: Path, folder: Path) -> Path:
    """The lake of a finished world in `folder`; its source stays where it is, which is part of what was made of it."""
    lake = folder / "lake"
    shutil.copytree(world / "lake", lake, symlinks=True)
    replace_once(lake / "catalog" / f"{SMALL}.toml", "../files", (world / "lake" / "files").as_posix())
    return lake


def keep(root: Path) -> None:
    """Lay a copy of a folder aside, for `restore`."""
    shutil.copytree(root, root.with_name(f"{root.name}.kept"), symlinks=True)


def restore(root: Path) -> None:
    """Make a folder again what it was when it was kept, at the same place: results remember where their source lies."""
    shutil.rmtree(root)
    shutil.copytree(root.with_name(f"{root.name}.kept"), root, symlinks=True)


def ratings_file(lake: Path, name: str) -> Path:
    """The raw ratings of a dataset."""
    return lake / "files" / name / "ratings.csv"


def write_ratings(lake: Path, name: str) -> None:
    """20 users, each with 8 ratings of 10 items."""
    rng = np.random.default_rng(5)
    moments = iter(rng.permutation(160))
    rows = [
        f"u{user},i{item},{rng.integers(1, 6)},{next(moments)}"
        for user in range(20)
        for item in rng.choice(10, 8, replace=False)
    ]
    file = ratings_file(lake, name)
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(["user_id,item_id,rating,timestamp", *rows, ""]), encoding="utf-8")
    items = [f"i{item},Title {item}" for item in range(10)]
    file.with_name("items.csv").write_text("\n".join(["item_id,title", *items, ""]), encoding="utf-8")


@contextmanager
def rallrec(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`rallrec` in a process of its own, which does not outlive the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rallrec_pipeline.cli", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def read_until(process: subprocess.Popen[str], words: str) -> list[str]:
    """Lines that the process writes to stderr, up to the one that holds `words`."""
    lines: list[str] = []
    watchdog = threading.Timer(LINE_S, process.kill)
    watchdog.start()
    try:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line.rstrip())
            if words in line:
                return lines
    finally:
        watchdog.cancel()
    raise AssertionError(f"no line with {words!r}, only: " + "\n".join(lines))
