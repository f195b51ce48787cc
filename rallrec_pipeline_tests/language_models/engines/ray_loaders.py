"""What the actors of the Ray tests load, and a cluster of two nodes on this machine.

The engines are real ones; around them is what the tests need to see: which chunk was computed where.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from rallrec_pipeline.language_models.engines.ray_engine import load_on_node
from rallrec_pipeline.language_models.protocols import Engine, Progress, Sampling, Usage, Written
from rallrec_pipeline.settings import ModelSettings
from rallrec_pipeline_tests.language_models.engines.ray_texts import node_id

QUICK_CHECKS = {  # a lost node is noticed in two seconds, not ten
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 5000,
    "health_check_failure_threshold": 3,
}
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@contextmanager
def two_nodes(folder: Path) -> Iterator[Any]:
    """A cluster of a head without room and two nodes with room for one actor each; nothing of it is left at the end."""
    from ray.cluster_utils import Cluster

    head = NODE | {"num_cpus": 0, "include_dashboard": False, "_system_config": QUICK_CHECKS}
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_TMPDIR", "/tmp")  # its sockets need short paths
        patch.setenv("TMPDIR", str(folder))  # where the nodes keep what they are sent
        cluster = Cluster()
        try:
            for options in (head, NODE, NODE):
                cluster.add_node(**options)
            yield cluster
        finally:
            cluster.shutdown()
            own = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
            _, alive = psutil.wait_procs(own, timeout=20)
            for process in alive:
                process.kill()
    assert not alive


def load_watched(log: Path, settings: ModelSettings, folder: Path, adapter: Path | None = None) -> WatchedEngine:
    """The engine that a node chooses, which writes into the folder `log` what it does."""
    return WatchedEngine(load_on_node(settings, folder, adapter), log)


class WatchedEngine:
    """Writes a line when it begins and ends a call. The node that is first to begin a second one becomes the victim.

    If the file `hunt` is there, the victim stays in that call until it is killed.
    """

    def __init__(self, engine: Engine, log: Path) -> None:
        self.engine, self.log, self.calls = engine, log, 0
        self.usage = Usage()

    def generate(self, prompts: Sequence[str], sampling: Sampling) -> list[str]:
        return list(self._watched("generate", prompts, sampling))

    def write(self, prompts: Sequence[str], sampling: Sampling, thinks: bool = False) -> list[Written]:
        return list(self._watched("write", prompts, sampling, thinks))

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        return np.asarray(self._watched("encode", texts))

    def score(
        self,
        prompts: Sequence[str],
        answers: Sequence[str],
        chat: bool,
        progress: Progress | None = None,
        said: Sequence[str] | None = None,
    ) -> NDArray[np.float64]:
        return np.asarray(self._watched("score", prompts, answers, chat, None, said))

    def close(self) -> None:
        self.engine.close()

    def _watched(self, method: str, rows: Sequence[str], *arguments: Any) -> Any:
        self._write("begin", rows)
        self._become_victim()
        self.engine.usage = self.usage
        result = getattr(self.engine, method)(rows, *arguments)
        self._write("end", rows)
        return result

    def _write(self, what: str, rows: Sequence[str]) -> None:
        with (self.log / f"{os.getpid()}.log").open("a", encoding="utf-8") as stream:
            stream.write(f"{what}\t{node_id()}\t{rows[:1]!r}\t{len(rows)}\n")

    def _become_victim(self) -> None:
        if not (self.log / "hunt").exists():
            return
        self.calls += 1
        if self.calls == 2:
            try:
                with (self.log / "victim").open("x", encoding="utf-8") as stream:
                    stream.write(node_id())
            except FileExistsError:
                return
            time.sleep(600)


def calls(log: Path) -> list[tuple[str, ...]]:
    """(begin or end, node, first row, rows) of each call of the actors."""
    lines = [line for file in log.glob("*.log") for line in file.read_text(encoding="utf-8").splitlines()]
    return [tuple(line.split("\t")) for line in lines]


@contextmanager
def victim_removed(cluster: Any, log: Path) -> Iterator[None]:
    """In the block the victim's node is taken away, without a farewell, as soon as there is a victim."""
    over = threading.Event()
    (log / "hunt").touch()
    hunter = threading.Thread(target=_remove_victim, args=(cluster, log, over), daemon=True)
    hunter.start()
    try:
        yield
    finally:
        over.set()
        hunter.join()


def _remove_victim(cluster: Any, log: Path, over: threading.Event) -> None:
    victim = log / "victim"
    while not victim.exists() or not victim.read_text(encoding="utf-8"):
        if over.wait(0.05):
            return
    node_id = victim.read_text(encoding="utf-8")
    (node,) = [node for node in cluster.worker_nodes if node.node_id == node_id]
    cluster.remove_node(node, allow_graceful=False)
