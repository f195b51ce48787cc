"""Many kills and many damaged files, over copies of one finished tiny lake.

    python -m rallrec_pipeline_tests.faults.harness --kills 200 --damages 400 --minutes 30

What was tried and lost is added to docs/faults.json, of which the table in docs/operate.md is made; `--json` names
another file. `--world` names a folder with `lake` and `settings.toml` in which the whole job has run; without it one is
made.

A kill counts where the run was alive and had not ended. A round of kills takes some stages and caches away, kills the
runs that make them anew, and takes more away whenever one has ended by itself; then a run is left alone. A round of
damages tries each by itself, whether it is named, and then all of them at once before the run that mends them.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from rallrec_pipeline.lake.leftovers import is_temporary, remove_leftovers
from rallrec_pipeline.lake.locks import lake_lock
from rallrec_pipeline.lake.memo import KINDS, TRACES
from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline.pipeline.context import SHARED
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.pipeline.origin import code_commit
from rallrec_pipeline.pipeline.status.verify import Damage, verify_lake
from rallrec_pipeline.settings import load_settings
from rallrec_pipeline_tests.faults.forks import apart, import_all, killed_after, killed_at_change, seconds_of, tell
from rallrec_pipeline_tests.faults.kept import KEPT as FIGURES
from rallrec_pipeline_tests.faults.kept import Tried, add
from rallrec_pipeline_tests.faults.page import write_page
from rallrec_pipeline_tests.lake.flips import flip, rewrite
from rallrec_pipeline_tests.lake.stored import stored_rows
from rallrec_pipeline_tests.pipeline.finished import make_finished
from rallrec_pipeline_tests.pipeline.given import in_force_now, make_stages
from rallrec_pipeline_tests.pipeline.tiny import SMALL, copied_world

KILLS_A_ROUND, STAGES_A_ROUND = 12, 8
JOB_SHARE, CHANGE_SHARE = 0.1, 0.5  # of kills: runs by the whole job, and those before a change of a file
MOST_CHANGES = 600  # that a run makes to files; fewer where less is missing
FEWEST, MOST = 5, 40  # damages of a round
FOLDERS = ("raw", "models", "results", "refs", "cache")
ROWS = [kind for kind in KINDS if kind is not TRACES]

KILLED, CHANGED = (
    "a run is killed (`kill -9`) at a random moment",
    "a run is killed (`kill -9`) just before a random change of a file",
)
KILL_PROMISE = (
    "nothing half visible, no finished row lost or made twice, no temporary file after the next run, which ends like "
    "an undisturbed one"
)
GONE = "a file is gone"
GONE_PROMISE = "made anew, the same"
HARM_PROMISE = "found before use and named; made anew, the same"


def _cut(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


HARMED: dict[str, Callable[[Path, random.Random], object]] = {
    "a bit of a file turns over, its size and time kept": flip,
    "a file is cut short": lambda path, chance: _cut(path, chance.randrange(path.stat().st_size or 1)),
    "a file is empty": lambda path, chance: _cut(path, 0),
    "a file is full of something else": lambda path, chance: path.write_bytes(chance.randbytes(path.stat().st_size)),
    GONE: lambda path, chance: path.unlink(),
}


@dataclass(frozen=True)
class Limits:
    """How many to try, and until when (`time.monotonic`)."""

    times: int
    end: float

    def left(self, done: int) -> int:
        """How many more there is time for."""
        return self.times - done if time.monotonic() < self.end else 0


Round = Mapping[str, Tried]
"""What one round has tried, by fault."""


def main(
    kills: int = 1000,
    damages: int = 2000,
    minutes: float = float("inf"),
    seed: Annotated[int | None, typer.Option(help="Of chance; by default another each time.")] = None,
    world: Annotated[Path | None, typer.Option(help="A finished tiny world; by default it is made.")] = None,
    out: Annotated[Path, typer.Option("--json")] = FIGURES,
) -> None:
    """Try, until all was tried or the time is over, and add what was found; after Ctrl-C that of whole rounds."""
    import_all()
    code_commit()  # kept: the code may be edited while this goes on
    chance, start, found = random.Random(seed), time.monotonic(), dict[str, Tried]()
    with TemporaryDirectory(prefix="rallrec-faults-") as scratch:
        if world is None:
            world = Path(scratch) / "world"
            apart(make_finished, world)
        os.environ["RALLREC_SETTINGS"] = str(world / "settings.toml")
        for name in ("RALLREC_PROFILE", "DAGSTER_HOME"):
            os.environ.pop(name, None)
        place, half = Path(scratch) / "copy", 30 * minutes
        rounds = chain(
            damage_rounds(world, place, Limits(damages, start + half), chance),
            kill_rounds(world, place, Limits(kills, start + 2 * half), chance),
        )
        try:
            for tried in rounds:
                for fault, one in tried.items():
                    found[fault] = found.get(fault, Tried(fault, one.promise)) + one
                together = sum(found.values(), Tried("", ""))
                tell(f"{together.times} tried, {together.losses} losses")
        finally:
            add(list(found.values()), time.monotonic() - start, out)
    if out == FIGURES:
        write_page()
    for one in found.values():
        tell(f"{one.times} times, {one.losses} losses: {one.fault}")


def kill_rounds(world: Path, scratch: Path, limits: Limits, chance: random.Random) -> Iterator[Round]:
    """Kill runs, as long as there is time."""
    done, lasts_s = 0, 0.0
    while count := min(KILLS_A_ROUND, limits.left(done)):
        tried = {fault: Tried(fault, KILL_PROMISE) for fault in (KILLED, CHANGED)}
        lake = _copied(world, scratch)
        before = apart(_versions, lake)
        _forget(lake, chance)
        if not lasts_s:  # the first round tells how long such a run takes
            lasts_s = seconds_of(lambda lake=lake: _stages(lake))
            _forget(lake, chance)
        finished, last = apart(_origins, lake), tried[KILLED]
        for _ in range(count):
            if not limits.left(done):
                break
            fault = CHANGED if chance.random() < CHANGE_SHARE else KILLED
            while not _kill(lake, fault, lasts_s, chance):
                _forget(lake, chance)
                finished = apart(_origins, lake)
            last = tried[fault]
            last.times += 1
            done += 1
            earlier, finished = finished, apart(_origins, lake)
            damages = apart(_named, lake)
            last.rows_lost += len(_rows(earlier) - _rows(finished))
            last.half_visible += 1 if damages is None else len(damages)
        last.not_healed += not apart(_heals, lake, before)
        last.rows_lost += len(_rows(finished) - _rows(apart(_origins, lake)))
        last.temporary += _temporary(lake)
        yield tried


def damage_rounds(world: Path, scratch: Path, limits: Limits, chance: random.Random) -> Iterator[Round]:
    """Damage files: one at a time, and all of a round at once before the run that mends them."""
    done = 0
    while count := min(chance.randint(FEWEST, MOST), limits.left(done)):
        tried = {fault: Tried(fault, GONE_PROMISE if fault == GONE else HARM_PROMISE) for fault in HARMED}
        lake = _copied(world, scratch)
        apart(_make, ["raw_files"])  # its source is at another path now
        before, files = apart(_versions, lake), _files(lake)
        harms = [(chance.choice(files), chance.choice(list(HARMED))) for _ in range(count)]
        unnamed = apart(_unnamed, lake, [(str(path), fault) for path, fault in harms], chance.random())
        for path, fault in harms:
            tried[fault].times += 1
            tried[fault].unnamed += unnamed is None or str(path) in unnamed
            if path.exists() and path.stat().st_size:
                HARMED[fault](path, chance)
        last = tried[harms[-1][1]]
        last.not_healed += not apart(_heals, lake, before)
        last.temporary += _temporary(lake)
        done += count
        yield tried


def _kill(lake: Path, fault: str, lasts_s: float, chance: random.Random) -> bool:
    """Start a run and kill it; whether it had not ended before."""
    if fault == CHANGED:
        return killed_at_change(lambda: _stages(lake), chance.randint(1, MOST_CHANGES))
    if chance.random() < JOB_SHARE:
        return killed_after(lambda: materialize_dataset(SMALL), chance.uniform(0, 2 * lasts_s))
    return killed_after(lambda: _stages(lake), chance.uniform(0, lasts_s))


def _stages(lake: Path) -> None:
    """A run without Dagster: what lies there of killed ones goes, then all stages in their order."""
    with lake_lock(lake, SMALL, _silent):
        remove_leftovers(lake, SMALL)
        remove_leftovers(lake, SHARED, "models")
        make_stages(lake, SMALL, load_settings())


def _silent(line: str) -> None:
    """What a run says that is about to be killed."""


def _unnamed(lake: Path, harms: list[tuple[str, str]], seed: float) -> list[str]:
    """Of files that are damaged one at a time and made what they were: those whose damage nobody names."""
    chance, rows = random.Random(seed), {kind.name: stored_rows(lake, kind) for kind in ROWS}
    found = []
    for name, fault in harms:
        path = Path(name)
        content, state = path.read_bytes(), path.stat()
        HARMED[fault](path, chance)
        is_known = not path.exists() or path.read_bytes() == content or _is_named(lake, path)
        # In a cache a bit may lie where no row is.
        if not is_known and not (
            path.suffix == ".sqlite" and all(stored_rows(lake, kind).equals(rows[kind.name]) for kind in ROWS)
        ):
            tell(f"not named: {path.relative_to(lake)}: {fault}")
            found.append(name)
        path.touch()
        rewrite(path, content)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    return found


def _is_named(lake: Path, path: Path) -> bool:
    own = path.relative_to(lake).as_posix()
    return any(own == name or own.startswith(f"{name}/") for name in _named(lake))


def _named(lake: Path) -> list[str]:
    return [damage.file for damage in _damages(lake)]


def _damages(lake: Path) -> list[Damage]:
    return verify_lake(lake, SMALL, "demo").damages


def _make(names: list[str]) -> str | None:
    return materialize_dataset(SMALL, names).error


def _heals(lake: Path, before: Mapping[str, str]) -> bool:
    """Whether the next run ends well, everything is what an undisturbed run makes, and nothing damaged is left.

    Of what is left the line must say how it goes: a cache is mended by the run that needs it, and what no run can make
    anew, or needs, is to be deleted.
    """
    if error := _make([]):
        tell(error)
        return False
    left = _damages(lake)
    for damage in left:
        if "delete" in damage.mend:
            _delete(lake, damage.file)
    if any("the next run that needs it" in damage.mend for damage in left):
        for name in (name for name, stage in STAGES.items() if stage.uses_llm):
            shutil.rmtree(lake / "results" / SMALL / name, ignore_errors=True)
        if error := _make([]):
            tell(error)
            return False
    different = [name for name, version in _versions(lake).items() if before[name] != version]
    for line in (*different, *map(str, _damages(lake))):
        tell(f"other than undisturbed: {line}")
    return not different and not _damages(lake)


def _delete(lake: Path, name: str) -> None:
    """As a line of `rallrec status --verify` says it: the file, or the whole result that nobody has any more."""
    parts = Path(name).parts
    path = lake.joinpath(*parts[:4]) if parts[0] == "results" else lake / name
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


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
    for kind in ROWS:
        if chance.random() < 0.5:
            for file in (lake / "cache").glob(f"{kind.name}.sqlite*"):
                file.unlink()
    if chance.random() < 0.5:
        shutil.rmtree(lake / "cache" / "adapters", ignore_errors=True)


def _files(lake: Path) -> list[Path]:
    """Everything that runs have written, but for locks and links."""
    found = (path for folder in FOLDERS for path in (lake / folder).rglob("*"))
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def _origins(lake: Path) -> list[list[str]]:
    """Kind, key, run and time of every finished row: one that was made again is of another run."""
    return [
        [kind.name, *row]
        for kind in ROWS
        for row in stored_rows(lake, kind).select("key", "run_id", "created_at").iter_rows()
    ]


def _rows(origins: Iterable[Any] | None) -> set[tuple[str, ...]]:
    return {tuple(row) for row in origins or ()}


def _temporary(lake: Path) -> int:
    return sum(is_temporary(path.name) for path in lake.rglob(".*"))


if __name__ == "__main__":
    typer.run(main)
