"""Runs whose process was killed are marked as failed, and what they held in a pool is free again.

Dagster does not notice when the process of a run dies that no daemon started: the run stays STARTED for ever, keeps its
slot of the pool `llm`, and every later run waits for that slot. So each run holds a lock of the operating system, from
before its first stage until its process ends. The system frees it however the process ends, and unlike a process id it
is never given to another, so one rule serves Linux and macOS: a run is dead when its lock can be taken.

The locks lie in the instance's own storage (`$DAGSTER_HOME/storage/run_locks/`): whatever the lake, they tell of this
instance's runs. `<run_id>.json` is written when `<run_id>.lock` is held, and taken away before it, so a lock that has a
record was held once. Runs of another host and runs without a record are never touched.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from filelock import FileLock, Timeout

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import read_json, write_json

FOLDER = "run_locks"
AT_WORK = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
UNSUPPORTED = (OSError, NotImplementedError, DataError)  # a file system without locks, or one that is full

_held: dict[Path, FileLock] = {}  # by record: the runs of this process, also those that a later run finds to be over


def hold_run(instance: dg.DagsterInstance, run_id: str, log: Callable[[str], None]) -> None:
    """Hold the lock of a run until this process ends.

    Where that is impossible the run goes on, is never recovered, and `log` is told. Runs of an ephemeral instance die
    with it.
    """
    if instance.is_ephemeral:
        return
    record = _folder(instance) / f"{run_id}.json"
    lock = _lock(record)
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        write_json(record, {"pid": os.getpid(), "host": socket.gethostname()})
    except (*UNSUPPORTED, Timeout) as error:
        log(f"run {run_id[:8]} cannot be locked in {record.parent} ({error}): if it is killed, terminate it in the UI")
        return
    _held[record] = lock


def recover_runs(instance: dg.DagsterInstance, log: Callable[[str], None]) -> None:
    """Mark every run of `instance` as failed whose process is gone, free its slots, and say so in one line each."""
    for record in _records(instance):
        if record in _held and _is_over(instance, record.stem):
            _held.pop(record).release()
        with _taken(record) as dead:
            if dead:
                _bury(instance, record, log)


def is_dead(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether the process of the run is known to be gone."""
    record = _folder(instance) / f"{run_id}.json"
    if not record.exists():
        return False
    with _taken(record) as dead:
        return dead


def process_of(instance: dg.DagsterInstance, run_id: str) -> str:
    """Which process works on the run, as words for the user."""
    return _process(_folder(instance) / f"{run_id}.json")


def _bury(instance: dg.DagsterInstance, record: Path, log: Callable[[str], None]) -> None:
    """Clean up after a run whose lock is held here; it may have ended well, just before its process did."""
    run = instance.get_run_by_id(record.stem)
    if run is not None and run.status in AT_WORK:
        message = f"run {run.run_id[:8]} was cut short: {_process(record)} is gone. It is marked as failed."
        instance.report_run_failed(run, message)
        log(message)
    # Of a run that is over too: a code server marks a killed worker as failed, but leaves its slots.
    instance.event_log_storage.free_concurrency_slots_for_run(record.stem)
    record.unlink(missing_ok=True)
    record.with_suffix(".lock").unlink(missing_ok=True)


def _is_over(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is None or run.is_finished


@contextmanager
def _taken(record: Path) -> Iterator[bool]:
    """Hold the lock of a run whose process is gone, if it is."""
    lock = _lock(record)
    if not _can_take(lock, record):
        yield False
        return
    try:
        yield record.exists()  # another process may have cleaned up just now
    finally:
        lock.release()


def _can_take(lock: FileLock, record: Path) -> bool:
    """Take the lock of a run of this host that another process held once; of what cannot be read nothing is known."""
    if record in _held:
        return False
    try:
        if read_json(record)["host"] != socket.gethostname():
            return False
        lock.acquire(timeout=0)
    except (*UNSUPPORTED, Timeout, KeyError, TypeError):
        return False
    return True


def _process(record: Path) -> str:
    try:
        known = read_json(record)
        return f"process {int(known['pid'])} on {known['host']}"
    except (DataError, KeyError, TypeError, ValueError):
        return "an unknown process"


def _lock(record: Path) -> FileLock:
    return FileLock(record.with_suffix(".lock"), thread_local=False)


def _folder(instance: dg.DagsterInstance) -> Path:
    return Path(instance.storage_directory()) / FOLDER


def _records(instance: dg.DagsterInstance) -> list[Path]:
    return [] if instance.is_ephemeral else sorted(_folder(instance).glob("*.json"))
