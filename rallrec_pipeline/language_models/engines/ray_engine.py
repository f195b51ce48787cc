"""The three uses of an LLM on a Ray cluster: each actor has an engine, and all of them are used as one.

A call goes as a whole to one actor. The stages cut their work into chunks (`chunks.py`) and have as many calls under
way as there are actors, so nothing is cut a second time and every result is the one that one engine would have given.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.language_models.engines.choice import choose_engine, load_chosen
from rallrec_pipeline.language_models.engines.ray_files import NodeFolder
from rallrec_pipeline.language_models.engines.ray_pool import ActorNeeds, EngineLoader, EnginePool, EngineSource
from rallrec_pipeline.language_models.protocols import Engine, Progress, Sampling, Usage, Written
from rallrec_pipeline.language_models.sizing.capacity import GIB
from rallrec_pipeline.settings import ModelSettings, RaySettings


class RayEngine:
    """The engines of a pool as one; `calls_at_once` calls may come from as many threads.

    `usage` counts what all of them have done, without calls whose actor was lost.
    """

    def __init__(self, pool: EnginePool, disconnect: Any = None) -> None:
        """`disconnect` leaves the cluster when the engine is closed."""
        self.calls_at_once = pool.size
        self.usage = Usage()
        self._pool, self._disconnect, self._counting = pool, disconnect, threading.Lock()

    def generate(self, prompts: Sequence[str], sampling: Sampling, progress: Progress | None = None) -> list[str]:
        """One sampled text per chat prompt, decoded together by one actor; `progress` is not called."""
        return list(self._call("generate", list(prompts), sampling))

    def write(
        self, prompts: Sequence[str], sampling: Sampling, thinks: bool = False, progress: Progress | None = None
    ) -> list[Written]:
        """One sampled text per chat prompt, all of them by one actor; `progress` is not called."""
        return list(self._call("write", list(prompts), sampling, thinks))

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Mean last hidden state of each text, shape (n, hidden), float32; `progress` is not called."""
        return np.array(self._call("encode", list(texts)))  # a copy: Ray's own cannot be written to

    def score(
        self,
        prompts: Sequence[str],
        answers: Sequence[str],
        chat: bool,
        progress: Progress | None = None,
        said: Sequence[str] | None = None,
    ) -> NDArray[np.float64]:
        """P(answer | prompt) among `answers`, shape (n, len(answers)), float64; `progress` is not called."""
        more = () if said is None else (None, list(said))
        return np.array(self._call("score", list(prompts), list(answers), chat, *more))

    @property
    def work(self) -> dict[str, Any]:
        """How many actors were asked for, came to work (by engine) and were lost, for the stage's metadata."""
        return {
            "name": "ray",
            "actors": self.calls_at_once,
            "engines": dict(self._pool.engines),
            "lost": self._pool.lost,
        }

    def switch(self, adapter: Path | None) -> bool:
        """False: actors load one adapter."""
        return False

    def close(self) -> None:
        """End the actors and leave the cluster; may be called twice, and after a failure."""
        self._pool.close()
        disconnect, self._disconnect = self._disconnect, None
        if disconnect is not None:
            disconnect()

    def _call(self, method: str, *arguments: Any) -> Any:
        result, used = self._pool.call(method, *arguments)
        with self._counting:
            for part in fields(Usage):
                setattr(self.usage, part.name, getattr(self.usage, part.name) + getattr(used, part.name))
        return result


def load_on_node(settings: ModelSettings, folder: Path, adapter: Path | None = None) -> Engine:
    """The engine that `settings` choose on the node where this runs, as without Ray."""
    return load_chosen(choose_engine(settings, folder), folder, settings, adapter)


def ray_engine(
    settings: RaySettings,
    load: EngineLoader,
    model: Path,
    adapter: Path | None = None,
    gpus: int = 1,
    memory: int = 0,
) -> RayEngine:
    """Actors on the cluster of `settings.address`, each with the engine that `load` makes of `model` and `adapter`.

    `load` is `partial(load_on_node, model_settings)` or the like; an engine takes `gpus` GPUs where there are some, or
    else `memory` bytes. It comes back at once; the first call waits for the first actor. Raises ConfigError when Ray is
    not installed or there is no cluster at the address.
    """
    ray = import_ray()
    disconnect = connect(ray, settings)
    source = EngineSource(
        load,
        NodeFolder.to_send(model) if settings.send_model else NodeFolder(model.resolve()),
        NodeFolder.to_send(adapter) if adapter else None,
    )
    try:
        needs = actor_needs(ray, settings, gpus, memory)
        if not any(map(needs.room, _nodes(ray))):
            print(
                f"no node of the Ray cluster has room for an engine yet ({needs}): waiting", file=sys.stderr, flush=True
            )
        pool = EnginePool(ray, source, settings.actors or room(ray, needs), needs, settings.wait_s)
        return RayEngine(pool, disconnect)
    except BaseException:
        if disconnect is not None:
            disconnect()
        raise


def import_ray() -> Any:
    """The package `ray`. Raises ConfigError when it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "ray.address is set, but Ray is not installed: `pip install 'rallrec-pipeline[ray]'` (docs/scaling.md), "
            "or leave ray.address empty"
        ) from error
    return ray


def connect(ray: Any, settings: RaySettings) -> Any:
    """Join the cluster; returns the function that leaves it, or None where this process was in one already.

    Raises ConfigError when there is none at the address.
    """
    if ray.is_initialized():
        return None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # as `telemetry` of dagster.yaml
    try:
        ray.init(address=settings.address, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"no Ray cluster at ray.address {settings.address!r} ({reason}): start one with `ray start --head`, or "
            "correct the address"
        ) from error
    return ray.shutdown


def actor_needs(ray: Any, settings: RaySettings, gpus: int, memory: int) -> ActorNeeds:
    """What one engine takes of a node.

    Where the settings do not say, it takes `gpus` GPUs if any node has some, else `memory` bytes.
    """
    share = settings.gpus_per_actor
    if share is None:
        share = float(gpus) if any(resources.get("GPU") for resources in _nodes(ray)) else 0.0
    if settings.memory_per_actor is not None:
        memory = round(settings.memory_per_actor * GIB)
    return ActorNeeds(settings.cpus_per_actor, share, 0 if share else memory)


def room(ray: Any, needs: ActorNeeds) -> int:
    """How many actors the nodes have room for, at least one."""
    return max(1, sum(map(needs.room, _nodes(ray))))


def _nodes(ray: Any) -> list[dict[str, float]]:
    """What each node that is alive has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
