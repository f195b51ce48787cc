"""A pool of Ray actors, each with an engine: a call goes to an idle one, and to another one if that is lost.

Nothing that was finished is computed again: a call gives its result back as soon as it is done, and only calls that
were under way on a lost actor are repeated. For each lost actor a new one is asked for. Ray starts it where there is
room, which may be a node that joins later; until then the others go on.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rallrec_pipeline.errors import ClusterError, ModelError, RallrecError, first_line
from rallrec_pipeline.language_models.engines.ray_files import NodeFolder, SentFiles, find_on_node, send_files
from rallrec_pipeline.language_models.protocols import Engine, Usage
from rallrec_pipeline.language_models.sizing.capacity import GIB

MAX_LOSSES = 3  # actors that one call may lose: after that the call itself is to blame
MAX_FAILED_STARTS = 3  # in a row
LOOK_EVERY_S = 0.2
CLOSE_S = 20.0

EngineLoader = Callable[[Path, Path | None], Engine]
"""(model folder, adapter folder) on a node -> engine; it is pickled."""


@dataclass(frozen=True)
class ActorNeeds:
    """What a node must have free for one actor."""

    cpus: float
    gpus: float = 0.0
    memory: int = 0
    """Bytes of main memory; 0 asks for none."""

    def __str__(self) -> str:
        memory = f", {self.memory / GIB:.1f} GiB of memory" if self.memory else ""
        return f"{self.cpus:g} CPUs, {self.gpus:g} GPUs{memory}"

    def room(self, resources: Mapping[str, float]) -> int:
        """How many actors a node with Ray's `resources` takes."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory}
        # A little more than the quotient: 1 / 0.1 must be ten.
        return int(min(resources.get(name, 0) / amount + 1e-9 for name, amount in wanted.items() if amount))

    @property
    def options(self) -> dict[str, Any]:
        """Options of a Ray actor."""
        memory = {"memory": self.memory} if self.memory else {}
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "scheduling_strategy": "SPREAD"} | memory


@dataclass(frozen=True)
class EngineSource:
    """What an actor loads, and how."""

    load: EngineLoader
    model: NodeFolder
    adapter: NodeFolder | None = None

    @property
    def folders(self) -> list[NodeFolder]:
        """The folders that a node needs."""
        return [self.model, *([self.adapter] if self.adapter else [])]


class EngineActor:
    """One engine in a process of its own, on some node."""

    def __init__(self) -> None:
        self.engine: Engine | None = None

    def load(self, source: EngineSource, sent: Mapping[str, SentFiles]) -> tuple[list[str], str]:
        """Load the engine. Returns the versions of the folders that this node lacks, and what engine it is.

        It is loaded only when no folder is missing.
        """
        import ray

        found = [find_on_node(folder, sent, ray) for folder in source.folders]
        missing = [folder.version for folder, path in zip(source.folders, found, strict=True) if path is None]
        if not missing:
            model, adapter = [*found, None][:2]
            assert model is not None
            self.engine = source.load(model, adapter)
        return missing, type(self.engine).__name__

    def call(self, method: str, *arguments: Any) -> tuple[Any, Usage]:
        """The result of one method of the engine, and what it cost."""
        assert self.engine is not None
        self.engine.usage = Usage()
        return getattr(self.engine, method)(*arguments), self.engine.usage

    def close(self) -> None:
        """End what the engine has started."""
        if self.engine is not None:
            self.engine.close()


class EnginePool:
    """`size` actors of `source`; calls come from as many threads. Close it, after a failure too."""

    def __init__(self, ray: Any, source: EngineSource, size: int, needs: ActorNeeds, wait_s: float) -> None:
        """It gives up when no actor was ready for `wait_s` seconds."""
        self.size = size
        self.engines: Counter[str] = Counter()
        """How many actors came to work, by what engine they have."""
        self.lost = 0
        """Actors that were lost at work."""
        self._ray, self._source, self._needs, self._wait_s = ray, source, needs, wait_s
        self._sent: dict[str, SentFiles] = {}
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._starting: dict[Any, Any] = {}  # what an actor's start will give -> actor
        self._alive: list[Any] = []
        self._closed = False
        self._calls = 0
        self._failed_starts = 0
        self._failure: Exception | None = None
        self._since = time.monotonic()  # when the last actor was alive
        self._state = threading.Condition()
        for _ in range(size):
            self._start()

    def call(self, method: str, *arguments: Any) -> tuple[Any, Usage]:
        """`EngineActor.call` on some actor; if it is lost meanwhile, on another one.

        Raises what the engine raises, and ClusterError when no actor is left or the call loses too many.
        """
        with self._state:
            self._calls += 1
        try:
            for _ in range(MAX_LOSSES):
                actor = self._take()
                try:
                    found = self._ray.get(actor.call.remote(method, *arguments))
                except self._ray.exceptions.RayTaskError as error:
                    self._idle.put(actor)
                    raise _cause(error) from None
                except self._ray.exceptions.RayError as error:  # the actor, its node, or the result on its node
                    self._replace(actor, error)
                else:
                    self._idle.put(actor)
                    return tuple(found)
            raise ClusterError(
                f"{MAX_LOSSES} Ray actors were lost over the same rows, perhaps for lack of memory: lower "
                "model.tokens_per_batch or raise ray.cpus_per_actor, and run again; finished rows are kept"
            )
        finally:
            with self._state:
                self._calls -= 1
                self._state.notify_all()

    def close(self) -> None:
        """End all actors and what their engines have started; may be called twice."""
        with self._state:
            if self._closed:
                return
            self._closed = True
            idle = self._idle_actors()
        if idle:
            self._ray.wait([actor.close.remote() for actor in idle], num_returns=len(idle), timeout=CLOSE_S)
        with self._state:
            for actor in (*self._alive, *self._starting.values()):
                self._ray.kill(actor)
            self._starting.clear()
            # Ray must not be left while a thread still asks it for a result.
            self._state.wait_for(lambda: self._calls == 0, timeout=CLOSE_S)

    def _take(self) -> Any:
        while True:
            with self._state:
                if self._closed:
                    raise ClusterError("the engine was closed while rows were under way")
                self._admit()
                if not self._alive and self._idle.empty():
                    self._check_hope()
            with suppress(queue.Empty):
                return self._idle.get(timeout=LOOK_EVERY_S)

    def _admit(self) -> None:
        """Let actors in that have started since the last look."""
        if not self._starting:
            return
        started, _ = self._ray.wait(list(self._starting), num_returns=len(self._starting), timeout=0)
        for answer in started:
            actor = self._starting.pop(answer)
            try:
                missing, engine = self._ray.get(answer)
            except self._ray.exceptions.RayTaskError as error:  # it cannot load, nor could another one there
                self._failure = _cause(error)
                self._forget(actor, self._failure)
            except self._ray.exceptions.RayError as error:
                self._failure = ClusterError(f"Ray actors do not start: {first_line(error)}")
                self._failed_starts += 1
                self._forget(actor, error)
                if self._failed_starts < MAX_FAILED_STARTS:
                    self._start()
            else:
                if missing:
                    self._starting[actor.load.remote(self._source, self._files(missing))] = actor
                else:
                    self._failed_starts = 0
                    self.engines[engine] += 1
                    self._alive.append(actor)
                    self._idle.put(actor)

    def _check_hope(self) -> None:
        """Raise when no actor is there and none will come."""
        if not self._starting:
            raise self._failure or ClusterError("all Ray actors are gone: run again; finished rows are kept")
        if time.monotonic() - self._since > self._wait_s:
            raise ClusterError(
                f"no Ray actor was ready for {self._wait_s:g} s: no node has room for one ({self._needs}), or the "
                "model takes longer to load: add nodes, lower ray.cpus_per_actor, ray.gpus_per_actor or "
                "ray.memory_per_actor, or raise ray.wait_s, and run again; finished rows are kept"
            )

    def _start(self) -> None:
        actor = self._ray.remote(EngineActor).options(**self._needs.options).remote()
        self._starting[actor.load.remote(self._source, {})] = actor

    def _files(self, versions: list[str]) -> dict[str, SentFiles]:
        for folder in self._source.folders:
            if folder.version in versions and folder.version not in self._sent:
                self._sent[folder.version] = send_files(self._ray, folder.path)
        return {version: self._sent[version] for version in versions}

    def _replace(self, actor: Any, error: Exception) -> None:
        with self._state:
            self._alive.remove(actor)
            self._since = time.monotonic()
            self.lost += 1
            if not self._closed:
                self._forget(actor, error)
                self._start()

    def _forget(self, actor: Any, error: Exception) -> None:
        _say(f"lost a Ray actor, {len(self._alive)} of {self.size} are left ({first_line(error)})")
        self._ray.kill(actor)

    def _idle_actors(self) -> list[Any]:
        idle = []
        with suppress(queue.Empty):
            while True:
                idle.append(self._idle.get_nowait())
        return idle


def _cause(error: Any) -> Exception:
    """What went wrong in an actor: an error of this project as it is, any other one with the actor's traceback."""
    cause = error.cause
    if isinstance(cause, RallrecError):
        return cause
    return ModelError(f"a Ray actor failed: {type(cause).__name__}: {first_line(cause)}")


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
