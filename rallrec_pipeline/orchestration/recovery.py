"""Runs whose process was killed are marked as failed, and what they held in a pool is free again.

Dagster does not notice when the process of a run dies that no daemon started: the run stays STARTED for ever, keeps its
slot of the pool `llm`, and every later run waits for that slot. So each run holds a lock of the operating system, from
before its first stage until its process ends. The system frees it however the process ends, and unlike a process id it
is never given to another, so one rule serves Linux and macOS: a run is dead when its lock can be taken.

A dataset's lock (`lake/locks.py`) cannot tell this: it belongs to a lake, which several instances may share, and a run
that waits for it does not hold it yet. These locks lie in the instance's storage (`$DAGSTER_HOME/storage/run_locks/`)
and tell of this instance's runs, whatever their lake. The record is written when the lock is held, and taken away
before it, so a lock that has a record was held once. Runs of another host and runs without a record are never touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from filelock import FileLock, Timeout

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.locks import UNSUPPORTED, holder_of, taken, was_held_here, write_holder

FOLDER = "run_locks"
AT_WORK = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)

_held: dict[Path, FileLock] = {}  # the runs of this process, also those that a later run finds to be over


def hold_run(instance: dg.DagsterInstance, run_id: str, log: Callable[[str], None]) -> None:
    """Hold the lock of a run until this process ends, unless the process that started this one for a step holds it.

    Where that is impossible the run goes on, is never recovered, and `log` is told. Runs of an ephemeral instance die
    with it.
    """
    if instance.is_ephemeral:
        return
    file = _lock_file(instance, run_id)
    lock = FileLock(file, thread_local=False)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        write_holder(file)
    except Timeout:
        return
    except (*UNSUPPORTED, DataError) as error:
        log(f"run {run_id[:8]} cannot be locked in {file.parent} ({error}): if it is killed, terminate it in the UI")
        return
    _held[file] = lock


def recover_runs(instance: dg.DagsterInstance, log: Callable[[str], None]) -> None:
    """Mark every run of `instance` as failed whose process is gone, free its slots, and say so in one line each."""
    for file in _lock_files(instance):
        if file in _held and _is_over(instance, file.stem):
            _held.pop(file).release()
        with _taken_from_the_dead(file) as dead:
            if dead:
                _bury(instance, file, log)


def is_dead(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether the process of the run is known to be gone."""
    with _taken_from_the_dead(_lock_file(instance, run_id)) as dead:
        return dead


def process_of(instance: dg.DagsterInstance, run_id: str) -> str:
    """Which process works on the run, as words for the user."""
    return holder_of(_lock_file(instance, run_id))


def _bury(instance: dg.DagsterInstance, file: Path, log: Callable[[str], None]) -> None:
    """Clean up after a run whose lock is held here; it may have ended well, just before its process did."""
    run = instance.get_run_by_id(file.stem)
    if run is not None and run.status in AT_WORK:
        message = f"run {run.run_id[:8]} was cut short: {holder_of(file)} is gone. It is marked as failed."
        instance.report_run_failed(run, message)
        log(message)
    # Of a run that is over too: a code server marks a killed worker as failed, but leaves its slots.
    instance.event_log_storage.free_concurrency_slots_for_run(file.stem)
    file.with_suffix(".json").unlink(missing_ok=True)
    file.unlink(missing_ok=True)


def _is_over(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is None or run.is_finished


@contextmanager
def _taken_from_the_dead(file: Path) -> Iterator[bool]:
    """Hold the lock of a run of this host, if another process held it once and is gone."""
    if file in _held or not was_held_here(file):
        yield False
        return
    with taken(file) as free:
        yield bool(free) and was_held_here(file)  # another process may have cleaned up just now


def _lock_file(instance: dg.DagsterInstance, run_id: str) -> Path:
    return Path(instance.storage_directory()) / FOLDER / f"{run_id}.lock"


def _lock_files(instance: dg.DagsterInstance) -> list[Path]:
    """The locks that have a record."""
    if instance.is_ephemeral:
        return []
    records = sorted((Path(instance.storage_directory()) / FOLDER).glob("*.json"))
    return [record.with_suffix(".lock") for record in records]
