"""Many kills and many damaged files, over copies of one finished tiny lake; what was tried and lost, as JSON.

    python -m rallrec_pipeline_tests.faults.harness WORLD SCRATCH --kills 1000 --damages 2000 --json results.json

WORLD is a folder with `lake` and `settings.toml` in which the whole job has run (`worlds.make_finished`). Each round of
kills takes some stages and caches away from a copy, then kills the runs that make them anew at random moments.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rallrec_pipeline.lake import memo
from rallrec_pipeline.lake.leftovers import is_temporary
from rallrec_pipeline.lake.memo import KINDS, TRACES
from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline.pipeline.context import SHARED
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.pipeline.status.verify import verify_lake
from rallrec_pipeline_tests.lake.flips import flip, rewrite
from rallrec_pipeline_tests.lake.stored import stored_rows
from rallrec_pipeline_tests.pipeline.given import in_force_now
from rallrec_pipeline_tests.pipeline.tiny import SMALL, copied_world

KILLS_A_ROUND, STAGES_A_ROUND = 12, 8
SHORT_S, LONG_S = 0.6, 4.0
DAMAGES_A_ROUND = 40
FOLDERS = ("raw", "models", "results", "refs", "cache")
KEPT = [kind for kind in KINDS if kind is not TRACES]
Versions = dict[str, str]


@dataclass
class Tried:
    """How often a fault was tried, and what was lost."""

    fault: str
    promise: str
    times: int = 0
    rows_lost: int = 0
    """Finished rows of the LLM that were gone or made a second time, and files that nobody named."""
    half_visible: int = 0
    """Results or rows that were not what was written, though they had a name."""
    temporary: int = 0
    """Temporary files that were left after the next run."""
    not_healed: int = 0
    """Rounds after which the next run did not end as an undisturbed one."""

    @property
    def losses(self) -> int:
        """All of them."""
        return self.rows_lost + self.half_visible + self.temporary + self.not_healed


KILLED = "a run is killed (`kill -9`) at a random moment"
KILL_PROMISE = "nothing half visible, no finished row lost or made twice, no temporary file after the next run, which ends like an undisturbed one"
GONE = "a file is gone"
GONE_PROMISE = "made anew, the same"
HARMED = {
    "a bit of a file turns over, its size and time kept": flip,
    "a file is cut short": lambda path, chance: _cut(path, chance.randrange(path.stat().st_size or 1)),
    "a file is empty": lambda path, chance: _cut(path, 0),
    "a file is full of something else": lambda path, chance: path.write_bytes(chance.randbytes(path.stat().st_size)),
    GONE: lambda path, chance: path.unlink(),
}
HARM_PROMISE = "found before use and named; made anew, the same"


def main(
    world: Path,
    scratch: Path,
    kills: int = 1000,
    damages: int = 2000,
    seed: int = 1,
    out: Annotated[Path | None, typer.Option("--json")] = None,
    limit_s: float = float("inf"),
) -> None:
    """Try, until all was tried or the time is over, and write what was found."""
    chance, end = random.Random(seed), time.monotonic() + limit_s
    os.environ["RALLREC_SETTINGS"] = str(world / "settings.toml")
    os.environ.pop("RALLREC_PROFILE", None), os.environ.pop("DAGSTER_HOME", None)
    found = [*try_damages(world, scratch, damages, chance, end), try_kills(world, scratch, kills, chance, end)]
    told = {"faults": [asdict(one) | {"losses": one.losses} for one in found]}
    text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
    print(text) if out is None else out.write_text(text, encoding="utf-8")


def try_kills(world: Path, scratch: Path, times: int, chance: random.Random, end: float) -> Tried:
    """Kill runs `times` times, as long as there is time."""
    tried = Tried(KILLED, KILL_PROMISE)
    while tried.times < times and time.monotonic() < end:
        lake, before = _copied(world, scratch)
        _forget(lake, chance)
        for _ in range(min(KILLS_A_ROUND, times - tried.times)):
            finished = _origins(lake)
            _kill(chance.uniform(0, SHORT_S if chance.random() < 0.7 else LONG_S))
            tried.times += 1
            tried.rows_lost += len(finished - _origins(lake))
            tried.half_visible += len(verify_lake(lake, SMALL, "demo").damages)
        finished = _origins(lake)
        tried.not_healed += _in_a_process(partial(_heals, lake, before))
        tried.rows_lost += len(finished - _origins(lake))
        tried.temporary += sum(is_temporary(path.name) for path in lake.rglob(".*"))
        print(f"{tried.times} kills, {tried.losses} losses", file=sys.stderr, flush=True)
    return tried


def try_damages(world: Path, scratch: Path, times: int, chance: random.Random, end: float) -> list[Tried]:
    """Damage files `times` times: one at a time, and then as many at once as were tried before."""
    tried = {fault: Tried(fault, GONE_PROMISE if fault == GONE else HARM_PROMISE) for fault in HARMED}
    done = 0
    while done < times and time.monotonic() < end:
        lake, before = _copied(world, scratch)
        memo._mended.clear()
        materialize_dataset(SMALL, ["raw_files"])  # its source is at another path now
        files, rows = _files(lake), {kind.name: stored_rows(lake, kind) for kind in KEPT}
        harms = [(chance.choice(files), chance.choice(list(HARMED))) for _ in range(min(DAMAGES_A_ROUND, times - done))]
        for path, fault in harms:
            _damage_one(lake, path, fault, tried[fault], rows, chance)
        for path, fault in harms:
            if path.exists() and path.stat().st_size:
                HARMED[fault](path, chance)
        tried[harms[-1][1]].not_healed += _in_a_process(partial(_heals, lake, before))
        done += len(harms)
        print(f"{done} damages, {sum(one.losses for one in tried.values())} losses", file=sys.stderr, flush=True)
    return list(tried.values())


def _damage_one(
    lake: Path, path: Path, fault: str, tried: Tried, rows: dict[str, object], chance: random.Random
) -> None:
    """Damage a file, ask whether that is known, and make it what it was."""
    bytes_before, state = path.read_bytes(), path.stat()
    HARMED[fault](path, chance)
    if path.exists() and path.read_bytes() == bytes_before:
        return  # of an empty file, or by chance
    tried.times += 1
    if not _is_known(lake, path):
        # In a cache a bit may lie where no row is.
        sound = path.suffix == ".sqlite" and all(_rows_are(lake, kind, rows[kind.name]) for kind in KEPT)
        tried.rows_lost += not sound
        if not sound:
            print(f"not named: {path.relative_to(lake)}: {fault}", file=sys.stderr)
    path.touch()
    rewrite(path, bytes_before)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def _rows_are(lake: Path, kind: memo.Kind, rows: object) -> bool:
    return stored_rows(lake, kind).equals(rows)  # type: ignore[arg-type]


def _is_known(lake: Path, path: Path) -> bool:
    own = path.relative_to(lake).as_posix()
    told = [damage.file for damage in verify_lake(lake, SMALL, "demo").damages]
    return not path.exists() or any(own == name or own.startswith(f"{name}/") for name in told)


def _heals(lake: Path, before: Versions) -> bool:
    """Whether the next run ends well and everything is what an undisturbed run makes; in a process of its own."""
    memo._mended.clear()
    for history in (lake / "refs").rglob("history/*.json"):
        if any(damage.file == history.relative_to(lake).as_posix() for damage in verify_lake(lake, SMALL, "demo").damages):
            history.unlink()  # what a past run left behind cannot be made anew
    summary = materialize_dataset(SMALL)
    if summary.error is not None:
        print(summary.error, file=sys.stderr)
        return False
    if damages := verify_lake(lake, SMALL, "demo").damages:
        print(*damages, sep="\n", file=sys.stderr)
        return False
    different = [name for name, version in before.items() if in_force_now(lake, SMALL, name).data_version != version]
    if different:
        print(f"other than undisturbed: {different}", file=sys.stderr)
    return not different


def _copied(world: Path, scratch: Path) -> tuple[Path, Versions]:
    """A copy of the finished lake, and what its results hold; reports hold times."""
    shutil.rmtree(scratch, ignore_errors=True)
    lake = copied_world(world, scratch)
    os.environ["RALLREC_LAKE"] = str(lake)
    names = [name for name in STAGES if "report" not in name]
    return lake, {name: in_force_now(lake, SMALL, name).data_version for name in names}


def _forget(lake: Path, chance: random.Random) -> None:
    """Take away what some stages have made, and finished rows of some kinds."""
    for name in chance.sample(sorted(STAGES), STAGES_A_ROUND):
        for dataset in (SMALL, SHARED):
            shutil.rmtree(lake / "results" / dataset / name, ignore_errors=True)
    for kind in KEPT:
        if chance.random() < 0.5:
            for file in (lake / "cache").glob(f"{kind.name}.sqlite*"):
                file.unlink()
    if chance.random() < 0.5:
        shutil.rmtree(lake / "cache" / "adapters", ignore_errors=True)


def _kill(after_s: float) -> None:
    """Start the whole job in a process of its own and kill it after that time; it may have ended by then."""
    child = os.fork()
    if child == 0:
        _silent()
        os._exit(materialize_dataset(SMALL).error is not None)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _in_a_process(holds: Callable[[], bool]) -> bool:
    """Whether `holds` is false or raises, in a process of its own: what a kill would leave in this one does not count."""
    child = os.fork()
    if child == 0:
        try:
            ok = holds()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            ok = False
        sys.stderr.flush()
        os._exit(not ok)
    return os.waitpid(child, 0)[1] != 0


def _silent() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1), os.dup2(null, 2)


def _files(lake: Path) -> list[Path]:
    """Everything that runs have written, but for locks and links."""
    found = (path for folder in FOLDERS for path in (lake / folder).rglob("*"))
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def _origins(lake: Path) -> set[tuple[str, str, str, str]]:
    """Kind, key, run and time of every finished row: one that was made again is of another run."""
    return {
        (kind.name, *row)
        for kind in KEPT
        for row in stored_rows(lake, kind).select("key", "run_id", "created_at").iter_rows()
    }


def _cut(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


if __name__ == "__main__":
    typer.run(main)
