"""Many kills and many damaged files, over copies of one finished tiny lake; what was tried and lost, as JSON.

    python -m rallrec_pipeline_tests.faults.harness WORLD SCRATCH --kills 1000 --damages 2000 --json results.json

WORLD is a folder with `lake` and `settings.toml` in which the whole job has run. Each round of kills takes some stages
and caches away from a copy, then kills the runs that make them anew at random moments.

Whatever computes does so in a process that is forked from this one, which has only imported it: threads do not survive
a fork, and a start with all imports would take longer than most runs.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

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

KILLS_A_ROUND, STAGES_A_ROUND = 24, 8
SHORT_S, LONG_S, SHORT_SHARE = 0.6, 4.0, 0.7  # moments of kills, in seconds
DAMAGES_A_ROUND, RECORDS_SHARE = 40, 0.3
FOLDERS = ("raw", "models", "results", "refs", "cache")
KEPT = [kind for kind in KINDS if kind is not TRACES]
HEAVY = ("faiss", "matplotlib.pyplot", "peft", "sklearn.ensemble", "torch", "transformers")


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
KILL_PROMISE = (
    "nothing half visible, no finished row lost or made twice, no temporary file after the next run, which ends like "
    "an undisturbed one"
)
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
    for module in HEAVY:
        importlib.import_module(module)
    os.environ["RALLREC_SETTINGS"] = str(world / "settings.toml")
    for name in ("RALLREC_PROFILE", "DAGSTER_HOME"):
        os.environ.pop(name, None)
    chance, start = random.Random(seed), time.monotonic()
    found = try_damages(world, scratch, damages, chance, start + limit_s / 2)
    found.append(try_kills(world, scratch, kills, chance, start + limit_s))
    told = {
        "seconds": round(time.monotonic() - start),
        "faults": [asdict(one) | {"losses": one.losses} for one in found],
    }
    text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
    sys.stdout.write(text) if out is None else out.write_text(text, encoding="utf-8")


def try_kills(world: Path, scratch: Path, times: int, chance: random.Random, end: float) -> Tried:
    """Kill runs `times` times, as long as there is time."""
    tried = Tried(KILLED, KILL_PROMISE)
    while tried.times < times and time.monotonic() < end:
        lake = _copied(world, scratch)
        before = apart(_versions, lake)
        _forget(lake, chance)
        finished = apart(_origins, lake)
        for _ in range(min(KILLS_A_ROUND, times - tried.times)):
            _kill(chance.uniform(0, SHORT_S if chance.random() < SHORT_SHARE else LONG_S))
            tried.times += 1
            earlier, finished = finished, apart(_origins, lake)
            tried.rows_lost += len(set(earlier) - set(finished))
            tried.half_visible += len(apart(_damaged, lake))
        tried.not_healed += not apart(_heals, lake, before)
        tried.rows_lost += len(set(finished) - set(apart(_origins, lake)))
        tried.temporary += sum(is_temporary(path.name) for path in lake.rglob(".*"))
        _tell(f"{tried.times} kills, {tried.losses} losses")
    return tried


def try_damages(world: Path, scratch: Path, times: int, chance: random.Random, end: float) -> list[Tried]:
    """Damage files `times` times: one at a time, and all of a round at once before the run that mends them."""
    tried = {fault: Tried(fault, GONE_PROMISE if fault == GONE else HARM_PROMISE) for fault in HARMED}
    done = 0
    while done < times and time.monotonic() < end:
        lake = _copied(world, scratch)
        apart(_make, lake, ["raw_files"])  # its source is at another path now
        before = apart(_versions, lake)
        # Not a record and its files at once: of raw files nobody would then know what they were.
        of_records = chance.random() < RECORDS_SHARE
        files = [path for path in _files(lake) if _is_record(path) == of_records]
        count = min(DAMAGES_A_ROUND, times - done)
        harms = [(chance.choice(files), chance.choice(list(HARMED))) for _ in range(count)]
        unnamed = apart(_unnamed, lake, [(str(path), fault) for path, fault in harms], chance.random())
        for path, fault in harms:
            tried[fault].times += 1
            tried[fault].rows_lost += str(path) in unnamed
            if path.exists() and path.stat().st_size:
                HARMED[fault](path, chance)
        healed = apart(_heals, lake, before)
        tried[harms[-1][1]].not_healed += not healed
        tried[harms[-1][1]].temporary += sum(is_temporary(path.name) for path in lake.rglob(".*"))
        done += count
        _tell(f"{done} damages, {sum(one.losses for one in tried.values())} losses")
    return list(tried.values())


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` returns in a process of its own, through JSON; None where it fails, which is said."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            with os.fdopen(writer, "w", encoding="utf-8") as pipe:
                json.dump(function(*arguments), pipe)
            os._exit(0)
        except BaseException as error:
            _tell(f"{type(error).__name__}: {error}")
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    found = json.loads(text) if text else None
    return [tuple(one) for one in found] if found and isinstance(found, list) and isinstance(found[0], list) else found


def _kill(after_s: float) -> None:
    """Start the whole job in a process of its own and kill it after that time; it may have ended by then."""
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os._exit(materialize_dataset(SMALL).error is not None)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _unnamed(lake: Path, harms: list[tuple[str, str]], seed: float) -> list[str]:
    """Of files that are damaged one at a time and made what they were: those whose damage nobody names."""
    chance, rows = random.Random(seed), {kind.name: stored_rows(lake, kind) for kind in KEPT}
    found = []
    for name, fault in harms:
        path = Path(name)
        content, state = path.read_bytes(), path.stat()
        HARMED[fault](path, chance)
        is_known = not path.exists() or path.read_bytes() == content or _is_named(lake, path)
        # In a cache a bit may lie where no row is.
        if not is_known and not (
            path.suffix == ".sqlite" and all(stored_rows(lake, kind).equals(rows[kind.name]) for kind in KEPT)
        ):
            _tell(f"not named: {path.relative_to(lake)}: {fault}")
            found.append(name)
        path.touch()
        rewrite(path, content)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    return found


def _is_named(lake: Path, path: Path) -> bool:
    own = path.relative_to(lake).as_posix()
    return any(own == name or own.startswith(f"{name}/") for name in _damaged(lake))


def _damaged(lake: Path) -> list[str]:
    return [damage.file for damage in verify_lake(lake, SMALL, "demo").damages]


def _make(lake: Path, names: list[str]) -> str | None:
    return materialize_dataset(SMALL, names).error


def _heals(lake: Path, before: Mapping[str, str]) -> bool:
    """Whether the next run ends well and everything is what an undisturbed run makes."""
    for name in _damaged(lake):
        if "history" in Path(name).parts:
            (lake / name).unlink()  # what a past run left behind cannot be made anew
    if error := _make(lake, []):
        _tell(error)
        return False
    different = [name for name, version in _versions(lake).items() if before[name] != version]
    if different or (damaged := [name for name in _damaged(lake) if _is_in_force(lake, name)]):
        _tell(f"other than undisturbed: {different or damaged}")
        return False
    return True


def _is_in_force(lake: Path, name: str) -> bool:
    """Whether a file is of a result that the paths lead to; what is superseded is not made anew."""
    used = [in_force_now(lake, SMALL, stage).fingerprint for stage in STAGES]
    return not name.startswith("results/") or any(part in used for part in Path(name).parts)


def _versions(lake: Path) -> dict[str, str]:
    """What results hold; reports hold times."""
    return {name: in_force_now(lake, SMALL, name).data_version for name in STAGES if "report" not in name}


def _copied(world: Path, scratch: Path) -> Path:
    """A copy of the finished lake, which the environment names."""
    shutil.rmtree(scratch, ignore_errors=True)
    lake = copied_world(world, scratch)
    os.environ["RALLREC_LAKE"] = str(lake)
    return lake


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


def _files(lake: Path) -> list[Path]:
    """Everything that runs have written, but for locks and links."""
    found = (path for folder in FOLDERS for path in (lake / folder).rglob("*"))
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def _is_record(path: Path) -> bool:
    return path.name in ("manifest.json", ".source.json") or "refs" in path.parts


def _origins(lake: Path) -> list[list[str]]:
    """Kind, key, run and time of every finished row: one that was made again is of another run."""
    return [
        [kind.name, *row]
        for kind in KEPT
        for row in stored_rows(lake, kind).select("key", "run_id", "created_at").iter_rows()
    ]


def _cut(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
