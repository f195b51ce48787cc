"""Two runs at once, in processes of their own: neither touches what the other has not finished."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rallrec_pipeline.lake.leftovers import is_temporary
from rallrec_pipeline.lake.store import all_records, in_force, read_ref
from rallrec_pipeline_tests.pipeline.tiny import add_datasets

pytestmark = pytest.mark.process
LIMIT_S = 120
FILES = 20

RUN = f"""
import sys, time
from pathlib import Path
from rallrec_pipeline.pipeline.context import Made, StageRun
from rallrec_pipeline.pipeline.stage import Stage, run_stage
from rallrec_pipeline.settings import Settings

lake, dataset, variant, rank = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
own = f"{{dataset}} {{variant}} {{rank}}"

def say(line):
    print(line, flush=True)

def compute(run):
    folder = run.out / "embeddings" / "made"
    folder.mkdir(parents=True)
    files = [folder / f"{{n}}.txt" for n in range({FILES})]
    for file in files[:-1]:
        file.write_text(own)
    say("at work")
    while not (lake / "go").exists():
        time.sleep(0.05)
    assert sorted(folder.iterdir()) == sorted(files[:-1]), "files of another run"
    assert all(file.read_text() == own for file in files[:-1]), "another run wrote here"
    files[-1].write_text(own)
    return Made([folder])

stage = Stage("made", "data", (), "", compute, lambda s, d: {{"tuning": s.tuning}}, sections=("tuning",))
settings = Settings(profile=variant, tuning={{"rank": rank}})
run = StageRun(lake, dataset, settings, own, say, lambda what: lambda done, total: None)
print("worked" if run_stage(run, {{"made": stage}}, "made").worked else "found", flush=True)
"""


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    add_datasets(tmp_path, "one", "two")
    return tmp_path


@contextmanager
def started(lake: Path, dataset: str, variant: str, rank: int) -> Iterator[subprocess.Popen[str]]:
    arguments = [sys.executable, "-c", RUN, str(lake), dataset, variant, str(rank)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(LIMIT_S, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return line
    raise AssertionError(f"it ended without {words!r}")


def go(lake: Path) -> None:
    (lake / "go").touch()


def unfinished(lake: Path, dataset: str) -> list[Path]:
    folder = lake / "results" / dataset / "made"
    return [path for path in folder.iterdir() if is_temporary(path.name)]


def assert_made(lake: Path, dataset: str, *owners: str) -> None:
    """The results of `dataset` are whole, and each holds what one owner wrote."""
    records = all_records(lake, dataset, "made")
    assert all(record.is_whole(lake) and len(record.files) == FILES for record in records)
    texts = [{path.read_text(encoding="utf-8") for path in record.paths(lake)[0].iterdir()} for record in records]
    assert sorted(map(sorted, texts)) == sorted([owner] for owner in owners)


def test_two_datasets_are_made_at_the_same_time_each_in_its_own_folder(lake: Path) -> None:
    with started(lake, "one", "demo", 1) as first, started(lake, "two", "demo", 1) as second:
        read_until(first, "at work")
        read_until(second, "at work")
        assert len(unfinished(lake, "one")) == len(unfinished(lake, "two")) == 1
        go(lake)
        for process in (first, second):
            read_until(process, "worked")
            assert process.wait(LIMIT_S) == 0
    assert_made(lake, "one", "one demo 1")
    assert_made(lake, "two", "two demo 1")
    assert not unfinished(lake, "one") and not unfinished(lake, "two")


def test_of_two_runs_of_one_dataset_the_second_waits_and_finds_what_the_first_made(lake: Path) -> None:
    with started(lake, "one", "demo", 1) as first:
        read_until(first, "at work")
        with started(lake, "one", "demo", 1) as second:
            assert f"process {first.pid} on" in read_until(second, "waiting for")
            go(lake)
            read_until(first, "worked")
            read_until(second, "found")
    assert_made(lake, "one", "one demo 1")


def test_two_variants_of_one_dataset_both_have_their_own(lake: Path) -> None:
    with started(lake, "one", "demo", 1) as first:
        read_until(first, "at work")
        with started(lake, "one", "mine", 2) as second:
            read_until(second, "waiting for")
            assert len(unfinished(lake, "one")) == 1
            go(lake)
            read_until(first, "worked")
            read_until(second, "worked")
            assert second.wait(LIMIT_S) == 0
    assert_made(lake, "one", "one demo 1", "one mine 2")
    refs = [read_ref(lake, "one", variant) for variant in ("demo", "mine")]
    assert refs[0] is not None and refs[1] is not None and refs[0].results != refs[1].results
    force = in_force(lake, "one")
    assert force is not None and force.variant == "mine"
    link = lake / "embeddings" / "made"
    assert {path.read_text(encoding="utf-8") for path in link.iterdir()} == {"one mine 2"}


def test_when_the_first_is_killed_the_second_goes_on_and_leaves_its_half_alone(lake: Path) -> None:
    with started(lake, "one", "demo", 1) as first:
        read_until(first, "at work")
        (half,) = unfinished(lake, "one")
        with started(lake, "one", "demo", 1) as second:
            read_until(second, "waiting for")
            first.kill()
            read_until(second, "at work")
            go(lake)
            read_until(second, "worked")
            assert second.wait(LIMIT_S) == 0
    assert_made(lake, "one", "one demo 1")
    assert unfinished(lake, "one") == [half] and len(list((half / "embeddings" / "made").iterdir())) == FILES - 1
