"""Many kills and many damaged files, over copies of finished tiny lakes.

    python -m rallrec_pipeline_tests.faults.harness --kills 200 --damages 400 --minutes 30

After each round what was tried and lost is added to docs/faults.json, of which the table in docs/operate.md is made;
`--json` names another file. `--world` and `--real-world` name folders with `lake` and `settings.toml` in which the
whole job has run, of the tiny LLM and of the real models; without them they are made (`worlds.py`).

A kill counts where the run was alive and had not ended. A round of kills takes some stages and caches away, kills the
runs that make them anew, and takes more away whenever one has ended by itself; then a run is left alone. A round of
damages tries each by itself, whether it is named, and then all of them at once before the run that mends them. Kills
and damages take turns, so that a harness that is stopped has tried both.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from rallrec_pipeline.lake.leftovers import is_temporary, remove_leftovers
from rallrec_pipeline.lake.locks import lake_lock
from rallrec_pipeline.lake.memo_rows import KINDS, TRACES
from rallrec_pipeline.lake.provenance import now
from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline.pipeline.context import SHARED
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.pipeline.origin import code_commit
from rallrec_pipeline.pipeline.status.verify import Damage, verify_lake
from rallrec_pipeline.settings import load_settings
from rallrec_pipeline_tests.faults.forks import (
    RunFailed,
    apart,
    import_all,
    killed_after,
    killed_at_change,
    measured,
    tell,
)
from rallrec_pipeline_tests.faults.kept import KEPT as FIGURES
from rallrec_pipeline_tests.faults.kept import Tried, add
from rallrec_pipeline_tests.faults.page import write_page
from rallrec_pipeline_tests.faults.worlds import MAKE, REAL, TINY, World, prepared, versions
from rallrec_pipeline_tests.lake.flips import flip, rewrite
from rallrec_pipeline_tests.lake.stored import stored_rows
from rallrec_pipeline_tests.pipeline.given import make_stages
from rallrec_pipeline_tests.pipeline.tiny import SMALL

KILLS_A_ROUND = {TINY: 20, REAL: 5}
STAGES_A_ROUND = 8
JOB_SHARE, CHANGE_SHARE = 0.1, 0.5  # of kills: runs by the whole job, and those before a change of a file
JOB_S = 3.5  # of computing that Dagster adds to a run
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


@dataclass
class Harness:
    """Where it works, until when (`time.monotonic`), and with which chance."""

    place: Path
    """Folder of the copy at work."""
    end: float
    chance: random.Random
    longest: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Seconds of computing and changes of files of a run that makes everything anew, by LLM: others end before it."""

    @property
    def is_over(self) -> bool:
        """Whether there is no time left."""
        return time.monotonic() >= self.end


Round = Mapping[str, Tried]
"""What one round has tried, by fault."""


def main(
    kills: int = 1000,
    damages: int = 2000,
    minutes: float = float("inf"),
    seed: Annotated[int | None, typer.Option(help="Of chance; by default another each time.")] = None,
    world: Annotated[Path | None, typer.Option(help="A finished tiny world; by default it is made.")] = None,
    real_world: Annotated[Path | None, typer.Option(help="The same of the real models.")] = None,
    real_every: Annotated[int, typer.Option(help="Each such round has the real models; 0: none.")] = 10,
    out: Annotated[Path, typer.Option("--json")] = FIGURES,
) -> None:
    """Try, until all was tried or the time is over, and add what was found after each round."""
    import_all()
    code_commit()  # kept: the code may be edited while this goes on
    start, started, found = time.monotonic(), now(), dict[tuple[str, str], Tried]()
    with TemporaryDirectory(prefix="rallrec-faults-") as scratch:
        folder = Path(scratch)
        harness = Harness(folder / "copy", start + 60 * minutes, random.Random(seed))
        worlds = _worlds(folder, {TINY: world, REAL: real_world}, real_every)
        for tried in rounds(harness, worlds, kills, damages):
            for one in tried.values():
                address = one.fault, one.llm
                found[address] = found.get(address, Tried(one.fault, one.promise, one.llm)) + one
            add(list(found.values()), time.monotonic() - start, out, started, _cpu_seconds())
            if out == FIGURES:
                write_page()
            together = sum(found.values(), Tried("", ""))
            tell(f"{together.times} tried, {together.losses} losses, {_cpu_seconds():.0f} s of computing")
    for one in found.values():
        tell(f"{one.times} times, {one.losses} losses, {one.llm}: {one.fault}")


def _worlds(scratch: Path, given: Mapping[str, Path | None], real_every: int) -> Callable[[bool], World]:
    """What gives the world of the next round, exact or not; one is made when it is first needed."""
    known, numbers = dict[tuple[str, bool], World](), count(1)

    def next_world(exact: bool) -> World:
        llm = REAL if real_every and next(numbers) % real_every == 0 else TINY
        if (llm, exact) not in known:
            made = given[llm] or scratch / f"made-{list(MAKE).index(llm)}"
            if not made.exists():
                apart(MAKE[llm], made)
            known[llm, exact] = prepared(llm, made, scratch / f"world-{len(known)}", exact)
        return known[llm, exact]

    return next_world


def rounds(harness: Harness, worlds: Callable[[bool], World], kills: int, damages: int) -> Iterator[Round]:
    """One round after another, of what was tried least, until all that is asked for was tried or the time is over."""
    done = {kill_round: 0, damage_round: 0}
    asked = {kill_round: kills, damage_round: damages}
    while not harness.is_over and (left := [one for one in done if done[one] < asked[one]]):
        chosen = min(left, key=lambda one: done[one] / asked[one])
        tried = chosen(harness, worlds(chosen is damage_round), asked[chosen] - done[chosen])
        done[chosen] += sum(one.times for one in tried.values())
        yield tried


def kill_round(harness: Harness, world: World, most: int) -> Round:
    """Kill runs one after another, then leave one alone."""
    chance, tried = harness.chance, {fault: Tried(fault, KILL_PROMISE, world.llm) for fault in (KILLED, CHANGED)}
    lake = world.copied(harness.place)
    if world.llm not in harness.longest:
        _forget(lake, chance, len(STAGES), 1.0)
        harness.longest[world.llm] = measured(lambda: _stages(lake))
        seconds, changes = harness.longest[world.llm]
        tell(f"{world.llm}: the longest run computes for {seconds:.1f} s and makes {changes} changes of files")
    _forget(lake, chance)
    finished, last = apart(_seen, lake), tried[KILLED]
    for _ in range(min(most, KILLS_A_ROUND[world.llm])):
        if harness.is_over:
            break
        fault = CHANGED if chance.random() < CHANGE_SHARE else KILLED
        last = tried[fault]
        try:
            while not _kill(lake, fault, harness.longest[world.llm], chance):
                _forget(lake, chance)
                finished = apart(_seen, lake)
        except RunFailed as error:
            tell(f"a run after {last.times} kills failed: {error}")
            last.not_healed += 1
            return tried
        last.times += 1
        earlier, finished = finished, apart(_seen, lake)
        last.rows_lost += len(_rows(earlier) - _rows(finished))
        last.half_visible += 1 if finished is None else len(finished["named"])
    last.not_healed += not apart(_heals, lake, world.versions)
    last.rows_lost += len(_rows(finished) - _rows(apart(_seen, lake)))
    last.temporary += _temporary(lake)
    return tried


def damage_round(harness: Harness, world: World, most: int) -> Round:
    """Damage files: one at a time, and all of them at once before the run that mends them."""
    chance, llm = harness.chance, world.llm
    tried = {fault: Tried(fault, GONE_PROMISE if fault == GONE else HARM_PROMISE, llm) for fault in HARMED}
    lake = world.copied(harness.place)
    files = _files(lake)
    times = min(chance.randint(FEWEST, MOST), most)
    harms = [(chance.choice(files), chance.choice(list(HARMED))) for _ in range(times)]
    unnamed = apart(_unnamed, lake, [(str(path), fault) for path, fault in harms], chance.random())
    for path, fault in harms:
        tried[fault].times += 1
        tried[fault].unnamed += unnamed is None or str(path) in unnamed
        if path.exists() and path.stat().st_size:
            HARMED[fault](path, chance)
    last = tried[harms[-1][1]]
    last.not_healed += not apart(_heals, lake, world.versions)
    last.temporary += _temporary(lake)
    return tried


def _kill(lake: Path, fault: str, longest: tuple[float, int], chance: random.Random) -> bool:
    """Start a run and kill it; whether it had not ended before. Raises RunFailed when it failed before.

    Early moments are likelier: most runs have less to make than the longest, and would often end before a late one.
    """
    (seconds, changes), share = longest, chance.random() ** 2
    if fault == CHANGED:
        return killed_at_change(lambda: _stages(lake), 1 + int(share * changes))
    if chance.random() < JOB_SHARE:
        return killed_after(_job, share * (JOB_S + seconds))
    return killed_after(lambda: _stages(lake), share * seconds)


def _stages(lake: Path) -> None:
    """A run without Dagster: what lies there of killed ones goes, then all stages in their order."""
    with lake_lock(lake, SMALL, _silent):
        remove_leftovers(lake, SMALL)
        remove_leftovers(lake, SHARED, "models")
        make_stages(lake, SMALL, load_settings())


def _job() -> None:
    """The whole job of Dagster. Raises RunFailed when it fails."""
    if error := _make([]):
        raise RunFailed(error)


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
    different = [name for name, version in versions(lake).items() if before[name] != version]
    for line in (*different, *map(str, _damages(lake))):
        tell(f"other than undisturbed: {line}")
    return not different and not _damages(lake)


def _delete(lake: Path, name: str) -> None:
    """As a line of `rallrec status --verify` says it: the file, or the whole result that nobody has any more."""
    parts = Path(name).parts
    path = lake.joinpath(*parts[:4]) if parts[0] == "results" else lake / name
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _forget(lake: Path, chance: random.Random, stages: int = STAGES_A_ROUND, share: float = 0.5) -> None:
    """Take away what some stages have made, and about a `share` of the caches."""
    for name in chance.sample(sorted(STAGES), stages):
        for dataset in (SMALL, SHARED):
            shutil.rmtree(lake / "results" / dataset / name, ignore_errors=True)
    for kind in ROWS:
        if chance.random() < share:
            for file in (lake / "cache").glob(f"{kind.name}.sqlite*"):
                file.unlink()
    if chance.random() < share:
        shutil.rmtree(lake / "cache" / "adapters", ignore_errors=True)


def _files(lake: Path) -> list[Path]:
    """Everything that runs have written, but for locks, links and what is empty: some faults would not change it."""
    found = (path for folder in FOLDERS for path in (lake / folder).rglob("*"))
    return sorted(path for path in found if path.is_file() and not path.is_symlink() and path.stat().st_size)


def _seen(lake: Path) -> dict[str, Any]:
    """Every finished row by kind, key, run and time: one that was made again is of another run; and what is damaged."""
    found = [
        [kind.name, *row]
        for kind in ROWS
        for row in stored_rows(lake, kind).select("key", "run_id", "created_at").iter_rows()
    ]
    return {"rows": found, "named": _named(lake)}


def _rows(seen: Mapping[str, Any] | None) -> set[tuple[str, ...]]:
    return {tuple(row) for row in seen["rows"]} if seen else set()


def _temporary(lake: Path) -> int:
    return sum(is_temporary(path.name) for path in lake.rglob(".*"))


def _cpu_seconds() -> float:
    """What this process and all that have ended have computed."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    typer.run(main)
