"""A real cluster of two nodes: results of one engine, a node that is lost, and what happens when none is left."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pytest

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.descriptions import describe_items
from rallrec_pipeline.embeddings import text
from rallrec_pipeline.embeddings.text import embed_texts
from rallrec_pipeline.errors import ClusterError, ConfigError, ModelError
from rallrec_pipeline.inference.score import ScoredPrompts, ScoreStore, score_missing_prompts
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import DESCRIPTIONS, SCORES, VECTORS
from rallrec_pipeline.lake.vectors import vectors_of
from rallrec_pipeline.language_models.chunks import in_chunks
from rallrec_pipeline.language_models.engines.ray_engine import RayEngine, actor_needs, connect, ray_engine, room
from rallrec_pipeline.language_models.engines.ray_pool import ActorNeeds
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.language_models.protocols import Engine, Progress, Sampling
from rallrec_pipeline.settings import DescriptionSettings, ModelSettings, RaySettings
from rallrec_pipeline_tests.language_models.engines.contract import EngineContract, Holds, Load, wait_until
from rallrec_pipeline_tests.language_models.engines.ray_loaders import (
    NODE,
    calls,
    load_watched,
    two_nodes,
    victim_removed,
)
from rallrec_pipeline_tests.language_models.engines.ray_texts import POISON, load_texts
from rallrec_pipeline_tests.language_models.small_llama import LIVELY, write_llama

pytestmark = pytest.mark.ray
if "CI" not in os.environ:
    pytest.importorskip("ray")

MODEL = ModelSettings(dtype="float32", tokens_per_batch=256)
TITLES = ["Heat", "Toy Story", "Fargo", "Alien", "Casablanca", "Brazil", "Seven", "Stalker", "Ran", "Solaris"]
PROMPTS = pl.DataFrame(
    {
        "sample_id": range(len(TITLES)),
        "split": "test",
        "label": 1,
        "prompt": [f"Ratings from 1 to 5:\n{title}:{i % 5 + 1}\nAlien:" for i, title in enumerate(TITLES)],
    }
)
ITEMS = pl.DataFrame({"item_id": TITLES[:6], "title": TITLES[:6], "year": "1995", "genres": "Drama"})
FAR_TOO_MUCH = 1 << 46  # bytes; Ray counts in 1/10,000 of a byte with 64 bits
SAMPLING = Sampling(4, 0.8, 0.9, seed=1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with two_nodes(tmp_path_factory.mktemp("nodes")) as found:
        yield found


@pytest.fixture
def settings(cluster: Any) -> RaySettings:
    return RaySettings(address=cluster.address, actors=2, send_model=False, wait_s=600)


@pytest.fixture
def plain(model_path: Path) -> TransformersEngine:
    return TransformersEngine.load(model_path, MODEL)


class TestTheTinyLlmOnRay(EngineContract):
    tells_progress = False

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return write_llama(tmp_path_factory.mktemp("llm") / "model", LIVELY | {"max_position_embeddings": 2048})

    @pytest.fixture(scope="class")
    @classmethod
    def log(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("log")

    @pytest.fixture(scope="class")
    @classmethod
    def load(cls, cluster: Any, folder: Path, log: Path) -> Load:
        settings = RaySettings(address=cluster.address, actors=1, send_model=False, wait_s=600)
        return partial(ray_engine, settings, partial(load_watched, log, MODEL), folder)

    @pytest.fixture
    def holds(self, log: Path) -> Holds:
        """The process of the actor that was last at work."""
        return lambda _: partial(psutil.pid_exists, int(max(log.iterdir(), key=lambda file: file.stat().st_mtime).stem))


def test_two_nodes_give_what_one_engine_gives_and_one_may_be_lost(
    cluster: Any,
    settings: RaySettings,
    plain: TransformersEngine,
    model_path: Path,
    spec: DatasetSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(text, "CHUNK", 3)
    engine = ray_engine(settings, partial(load_watched, tmp_path, MODEL), model_path)
    try:
        found = described(engine, spec, tmp_path / "ray")
        assert found.equals(described(plain, spec, tmp_path / "plain"))
        vectors = encoded(engine, tmp_path / "ray")
        np.testing.assert_allclose(vectors, encoded(plain, tmp_path / "plain"), rtol=1e-3, atol=1e-3)
        assert engine.usage == plain.usage and engine.usage.new_tokens > 0
        assert len({node for what, node, *_ in calls(tmp_path) if what == "end"}) == 2  # both nodes worked
        for file in tmp_path.glob("*.log"):
            file.unlink()
        with victim_removed(cluster, tmp_path):
            scores = scored(engine, spec, tmp_path / "ray")
        assert engine.work["lost"] == 1
    finally:
        engine.close()
        cluster.add_node(**NODE)
    whole = scored(plain, spec, tmp_path / "plain")
    assert scores.scored == len(TITLES) and scores.table.drop("p_yes", "probabilities").equals(
        whole.table.drop("p_yes", "probabilities")
    )
    np.testing.assert_allclose(scores.table["p_yes"], whole.table["p_yes"], atol=1e-4)
    ended = Counter(call[2:] for call in calls(tmp_path) if call[0] == "end")
    begun = Counter(call[2:] for call in calls(tmp_path) if call[0] == "begin")
    assert set(ended.values()) == {1} and ended.keys() == begun.keys() and len(ended) == 5
    assert sorted(begun.values()) == [1, 1, 1, 1, 2]  # only the lost chunk was begun again
    kept = Memo(tmp_path / "ray", SCORES).find(scores.rows["input_hash"])
    assert kept.height == len(TITLES)


def described(engine: Engine, spec: DatasetSpec, lake: Path) -> pl.DataFrame:
    limits = DescriptionSettings(batch_size=2, max_new_tokens=12)
    made = describe_items(ITEMS, spec, lambda: engine, Memo(lake, DESCRIPTIONS), limits, "model", 7, "run")
    return made.table.drop("created_at")


def encoded(engine: Engine, lake: Path) -> np.ndarray[Any, Any]:
    made = embed_texts(TITLES, TITLES, lambda: engine, Memo(lake, VECTORS), "model", "run")
    return vectors_of(made.table)


def scored(engine: Engine, spec: DatasetSpec, lake: Path) -> ScoredPrompts:
    store = ScoreStore(Memo(lake, SCORES), "model", "", "run", flush_every=2)
    return score_missing_prompts(lambda: engine, PROMPTS, "rating", spec, store)


def folder_of(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_text(name, encoding="utf-8")
    return path


def opened(settings: RaySettings, model: Path, adapter: Path | None = None) -> RayEngine:
    return ray_engine(settings, load_texts, model, adapter)


def test_model_and_adapter_travel_to_the_nodes(settings: RaySettings, tmp_path: Path) -> None:
    model, adapter = folder_of(tmp_path / "tiny", "config.json", "weights"), folder_of(tmp_path / "rallrec", "lora")
    engine = opened(settings.model_copy(update={"send_model": True}), model, adapter)
    try:
        found = [engine.generate(["a", "b"], SAMPLING) for _ in range(3)]
    finally:
        engine.close()
        engine.close()
    assert all("tiny/config.json" in t and "tiny/weights" in t and "rallrec/lora" in t for text in found for t in text)
    assert engine.usage.rows == 6


def test_a_chunk_that_ends_its_actors_is_given_up_and_the_others_are_kept(
    settings: RaySettings, tmp_path: Path
) -> None:
    engine = opened(settings, folder_of(tmp_path / "model"))

    def work(chunk: Sequence[str], part: Progress | None) -> Sequence[str]:
        engine.generate(chunk, SAMPLING)
        return chunk

    kept: list[Sequence[str]] = []
    try:
        with pytest.raises(ClusterError, match="3 Ray actors were lost over the same rows"):
            kept.extend(in_chunks(work, [POISON, *"abcdef"], 1, engine.calls_at_once))
    finally:
        engine.close()
    assert kept and [POISON] not in kept and engine.work["lost"] == 3


def test_a_model_that_no_node_can_load_is_said_as_without_ray(settings: RaySettings, tmp_path: Path) -> None:
    engine = opened(settings, folder_of(tmp_path / "model", "refuse"))
    try:
        with pytest.raises(ModelError, match=r"^the weights are of another world$"):
            engine.generate(["a"], SAMPLING)
    finally:
        engine.close()


def test_no_room_is_said_after_a_while(settings: RaySettings, tmp_path: Path) -> None:
    large = settings.model_copy(update={"cpus_per_actor": 64, "wait_s": 0.5, "actors": 1})
    engine = opened(large, folder_of(tmp_path / "model"))
    try:
        with pytest.raises(ClusterError, match=r"no Ray actor was ready for 0.5 s: .*\(64 CPUs, 0 GPUs\)"):
            engine.generate(["a"], SAMPLING)
    finally:
        engine.close()


def test_as_many_actors_as_there_is_room_for(settings: RaySettings, tmp_path: Path) -> None:
    engine = opened(settings.model_copy(update={"actors": 0}), folder_of(tmp_path / "model"))
    engine.close()
    assert engine.calls_at_once == 2


def test_an_actor_takes_a_gpu_where_a_node_has_one_and_memory_elsewhere(
    cluster: Any, settings: RaySettings, tmp_path: Path
) -> None:
    """Ray counts what a node says it has, so a node may say that it has GPUs."""
    import ray

    disconnect = connect(ray, settings)
    assert actor_needs(ray, settings, 2, 5) == ActorNeeds(1, 0, 5)
    node = cluster.add_node(**NODE | {"num_cpus": 8, "num_gpus": 4})
    try:
        needs = actor_needs(ray, settings, 2, 5)
        assert needs == ActorNeeds(1, 2, 0) and room(ray, needs) == 2
        assert actor_needs(ray, settings.model_copy(update={"gpus_per_actor": 0}), 2, 5) == ActorNeeds(1, 0, 5)
        one = settings.model_copy(update={"actors": 1})
        engine = ray_engine(one, load_texts, folder_of(tmp_path / "model"), gpus=3)
        try:
            engine.generate(["a"], SAMPLING)
            wait_until(lambda: ray.available_resources().get("GPU") == 1)
        finally:
            engine.close()
    finally:
        cluster.remove_node(node)
        if disconnect is not None:
            disconnect()


def test_an_actor_waits_for_memory_and_says_so(
    settings: RaySettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = settings.model_copy(update={"actors": 1, "wait_s": 0.5})
    engine = ray_engine(one, load_texts, folder_of(tmp_path / "model"), memory=FAR_TOO_MUCH)
    try:
        with pytest.raises(ClusterError, match=r"\(1 CPUs, 0 GPUs, 65536.0 GiB of memory\).*ray.memory_per_actor"):
            engine.generate(["a"], SAMPLING)
    finally:
        engine.close()
    assert "has room for an engine yet (1 CPUs, 0 GPUs, 65536.0 GiB of memory)" in capsys.readouterr().err
    none = one.model_copy(update={"memory_per_actor": 0.0, "wait_s": 600})
    engine = ray_engine(none, load_texts, tmp_path / "model", memory=FAR_TOO_MUCH)
    try:
        assert engine.generate(["a"], SAMPLING)
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("needs", "resources", "room"),
    [
        (ActorNeeds(1, 0, 10 << 30), {"CPU": 64, "memory": float(32 << 30)}, 3),
        (ActorNeeds(1, 0, 10 << 30), {"CPU": 64, "memory": float(8 << 30)}, 0),
        (ActorNeeds(1, 0.2), {"CPU": 64, "GPU": 1.0}, 5),
        (ActorNeeds(1, 0.1), {"CPU": 64, "GPU": 1.0}, 10),
        (ActorNeeds(4, 1), {"CPU": 64, "GPU": 2.0}, 2),
        (ActorNeeds(1, 1), {"CPU": 64}, 0),
        (ActorNeeds(0.3), {"CPU": 1.0}, 3),
    ],
)
def test_what_a_node_holds(needs: ActorNeeds, resources: dict[str, float], room: int) -> None:
    assert needs.room(resources) == room


def test_without_ray_one_line_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"Ray is not installed: `pip install 'rallrec-pipeline\[ray\]'`"):
        opened(RaySettings(address="auto"), folder_of(tmp_path / "model"))
