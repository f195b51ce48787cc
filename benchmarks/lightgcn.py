"""LightGCN on MovieLens-100K: our epochs/s against RecBole's, at recall@20 that is no worse.

Both sides see the same training interactions, dimensions, layers, batch size and learning rate, are trained in turns, a
few epochs each, and stop when recall@20 on the validation interactions rises no more. One evaluator, ours, judges the
vectors of both: all items are ranked, those known before are masked. Ours is fitted with several seeds; the run fails
if its recall on the test interactions is lower than RecBole's by more than the error of the seeds.

Needs the raw files in the lake: `rallrec run movielens-100k --select raw_files` first (`make bench` sees to it).
RecBole is installed once, into `peers/recbole` of the lake (Python 3.11; some minutes). Takes about five minutes.

    python benchmarks/lightgcn.py --cpu     processor seconds of one thread each, for a machine that is busy
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
import torch

from rallrec_pipeline.datasets.catalog import get_dataset
from rallrec_pipeline.datasets.kcore import core_of
from rallrec_pipeline.datasets.readers import read_raw
from rallrec_pipeline.embeddings.graph import Edges, Recall
from rallrec_pipeline.embeddings.lightgcn_trainer import Trainer
from rallrec_pipeline.settings import CollaborativeSettings, lake_root

HERE = Path(__file__).resolve().parent
REQUIREMENTS, WORKER = HERE / "requirements-recbole.txt", HERE / "peers" / "recbole_lightgcn.py"
NAME, PROTOCOL, TARGET = "movielens-100k", "five_core", 5.0
DIMENSIONS, LAYERS, BATCH, LEARNING_RATE, RECALL_AT = 64, 3, 2048, 2e-3, 20
SEEDS = (0, 1, 2, 3)  # of ours; the peer has the first
ROUND, PATIENCE, MOST_ROUNDS = 5, 3, 40  # epochs a turn; turns without a better validation recall; turns at most
ERRORS = 2.0  # standard errors that our recall may lie below the peer's


@dataclass(frozen=True)
class Split:
    """Interactions in random order, cut at 80% and 90%."""

    train: Edges
    valid: Edges
    test: Edges
    n_users: int
    n_items: int

    def judges(self) -> tuple[Recall, Recall]:
        """Recall on the validation and on the test interactions; all that come before are known."""
        both = (np.concatenate(pair) for pair in zip(columns(self.train), columns(self.valid), strict=True))
        return Recall(RECALL_AT, self.train, self.valid), Recall(RECALL_AT, Edges(*both), self.test)


class Side(Protocol):
    """One of the two that are compared."""

    def train(self, epochs: int) -> list[float]:
        """Train; the seconds of each epoch."""

    def vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Propagated vectors of users and items, on the CPU."""


@dataclass
class Course:
    """How the training of one side went, turn by turn."""

    side: Side
    seconds: list[float] = field(default_factory=list)
    valid: list[float] = field(default_factory=list)
    test: list[float] = field(default_factory=list)

    def turn(self, valid: Recall, test: Recall) -> None:
        """Train some epochs and judge the vectors."""
        self.seconds += self.side.train(ROUND)
        vectors = self.side.vectors()
        self.valid.append(valid(*vectors))
        self.test.append(test(*vectors))

    @property
    def done(self) -> bool:
        """Whether validation recall has stopped rising."""
        return len(self.valid) - 1 - self.best >= PATIENCE if self.valid else False

    @property
    def best(self) -> int:
        """The turn with the best validation recall."""
        return int(np.argmax(self.valid))

    @property
    def recall(self) -> float:
        """Recall on the test interactions after that turn."""
        return self.test[self.best]


class Ours:
    """Our trainer in this process."""

    def __init__(self, split: Split, settings: CollaborativeSettings, seed: int, cpu: bool) -> None:
        self.trainer = Trainer(split.train, split.n_users, split.n_items, settings, np.random.default_rng(seed))
        self.n_users, self.clock = split.n_users, time.process_time if cpu else time.perf_counter

    def train(self, epochs: int) -> list[float]:
        """Train; the seconds of each epoch."""
        times = [self.clock()]
        for _ in range(epochs):
            self.trainer.epoch()
            times.append(self.clock())
        return [float(seconds) for seconds in np.diff(times)]

    def vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Propagated vectors of users and items."""
        found = self.trainer.vectors().cpu()
        return found[: self.n_users], found[self.n_users :]


class RecBole:
    """RecBole's trainer in a process of its own environment."""

    def __init__(self, split: Split, folder: Path, seed: int, cpu: bool) -> None:
        self.clock = "cpu" if cpu else "seconds"
        self.folder = folder
        write_atomic_files(split, folder / "data")
        settings = {
            "embedding_size": DIMENSIONS,
            "n_layers": LAYERS,
            "train_batch_size": BATCH,
            "learning_rate": LEARNING_RATE,
            "seed": seed,
        }
        environment = os.environ | ({"OMP_NUM_THREADS": "1"} if cpu else {})
        self.process = subprocess.Popen(
            [peer_python(), "-W", "ignore", str(WORKER)],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ask(json.dumps(settings))

    def train(self, epochs: int) -> list[float]:
        """Train; the seconds of each epoch."""
        return list(self._ask(f"train {epochs}")[self.clock])

    def vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Propagated vectors of users and items."""
        self._ask(f"vectors {self.folder / 'vectors.npz'}")
        with np.load(self.folder / "vectors.npz") as found:
            return torch.from_numpy(found["user_id"]), torch.from_numpy(found["item_id"])

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _ask(self, command: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"RecBole ended with status {self.process.wait()}; its messages are above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def main() -> None:
    """Train both sides in turns, compare, print the row."""
    parser = argparse.ArgumentParser(description="LightGCN, epochs/s, against RecBole.")
    parser.add_argument("--cpu", action="store_true", help="processor seconds of one thread each, not the clock")
    cpu = parser.parse_args().cpu
    if cpu:
        torch.set_num_threads(1)
    settings = CollaborativeSettings(
        graph="binary", dimensions=DIMENSIONS, layers=LAYERS, batch_size=BATCH, learning_rate=LEARNING_RATE
    )
    split = read_split()
    with TemporaryDirectory() as folder:
        peer = RecBole(split, Path(folder), SEEDS[0], cpu)
        try:
            theirs, *ours = take_turns(
                split, [Course(peer), *(Course(Ours(split, settings, seed, cpu)) for seed in SEEDS)]
            )
        finally:
            peer.close()
    found = row(theirs, ours, cpu)
    if error := shortfall(theirs, ours):
        print(found, file=sys.stderr)
        raise SystemExit(error)
    print(json.dumps(found))


def take_turns(split: Split, courses: list[Course]) -> list[Course]:
    """Train all to the end, one after the other, so that what slows the machine slows both sides."""
    valid, test = split.judges()
    for _ in range(MOST_ROUNDS):
        at_work = [course for course in courses if not course.done]
        if not at_work:
            break
        for course in at_work:
            course.turn(valid, test)
        states = (f"{len(c.seconds)} epochs of {np.median(c.seconds):.3f} s, recall {c.recall:.4f}" for c in at_work)
        print("; ".join(states), file=sys.stderr)
    return courses


def row(theirs: Course, ours: list[Course], cpu: bool) -> dict[str, Any]:
    """The result as benchmarks/run.py wants it, and `notes` on recall."""
    fast = 1 / float(np.median([s for course in ours for s in course.seconds]))
    slow = 1 / float(np.median(theirs.seconds))
    recalls = [round(course.recall, 4) for course in ours]
    return {
        "name": "LightGCN epochs, MovieLens-100K" + (", processor time of one thread" if cpu else ""),
        "unit": "epochs/s",
        "ours": round(fast, 3),
        "peer": round(slow, 3),
        "peer_name": f"RecBole 1.2.1; recall@{RECALL_AT} {theirs.recall:.3f}, ours {np.mean(recalls):.3f}",
        "ratio": round(fast / slow, 2),
        "target": TARGET,
        "notes": {
            f"recall@{RECALL_AT}": {"ours": recalls, "peer": round(theirs.recall, 4)},
            "epochs": {"ours": [best_epoch(course) for course in ours], "peer": best_epoch(theirs)},
        },
    }


def best_epoch(course: Course) -> int:
    """The epoch whose vectors count."""
    return (course.best + 1) * ROUND


def shortfall(theirs: Course, ours: list[Course]) -> str | None:
    """What is wrong where our recall is lower than the peer's by more than chance: both have the error of our seeds."""
    recalls = np.array([course.recall for course in ours])
    error = float(recalls.std(ddof=1)) * np.sqrt(1 + 1 / len(recalls))
    if recalls.mean() >= theirs.recall - ERRORS * error:
        return None
    return (
        f"our recall@{RECALL_AT} is {recalls.mean():.4f}, RecBole's {theirs.recall:.4f}, the standard error of the "
        f"difference {error:.4f}: the comparison is void"
    )


def read_split() -> Split:
    """The interactions of the default protocol, 80/10/10 at random."""
    lake = lake_root()
    spec = get_dataset(NAME, lake, PROTOCOL)
    raw = read_raw(spec, lake)
    core = core_of(raw.interactions, raw.items, spec.protocol)
    (users, n_users), (items, n_items) = (numbered(core[name].to_numpy()) for name in ("user_id", "item_id"))
    edges = Edges(users, items, np.ones(len(core), np.float32))
    parts = np.split(np.random.default_rng(0).permutation(len(edges)), [len(edges) * 8 // 10, len(edges) * 9 // 10])
    train, valid, test = (edges[part] for part in parts)
    return Split(train, valid, test, n_users, n_items)


def numbered(ids: np.ndarray) -> tuple[np.ndarray, int]:
    """(number of each id, how many there are)."""
    names, codes = np.unique(ids.astype(str), return_inverse=True)
    return codes.astype(np.int64), len(names)


def columns(edges: Edges) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arrays of `edges`."""
    return edges.users, edges.items, edges.values


def write_atomic_files(split: Split, folder: Path) -> None:
    """The split as RecBole reads it."""
    folder.mkdir()
    for name in ("train", "valid", "test"):
        edges: Edges = getattr(split, name)
        pairs = np.stack([edges.users, edges.items], axis=1)
        header = "user_id:token\titem_id:token"
        np.savetxt(folder / f"data.{name}.inter", pairs, "%d", "\t", header=header, comments="")


def peer_python() -> str:
    """The interpreter of RecBole's environment, which is made where it is missing or was made for other packages."""
    folder = lake_root() / "peers" / "recbole"
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    wanted = REQUIREMENTS.read_text(encoding="utf-8")
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        print(f"installing RecBole into {folder} (once; some minutes)", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-q", "-r", str(REQUIREMENTS)]
        for command in ([sys.executable, "-m", "venv", str(folder)], pip):
            if status := subprocess.run(command, stdout=sys.stderr, check=False).returncode:
                raise SystemExit(f"cannot install RecBole (status {status}): {' '.join(command)}")
        stamp.write_text(wanted, encoding="utf-8")
    return str(python)


if __name__ == "__main__":
    main()
