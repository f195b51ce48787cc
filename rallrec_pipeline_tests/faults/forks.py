"""Work in processes that are forked from this one, which has only imported what they need, and their ends by SIGKILL.

Threads do not survive a fork, so this process itself computes nothing. A start with all imports would take longer than
most runs of a tiny lake.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from tempfile import TemporaryFile
from typing import IO, Any

HEAVY = ("faiss", "matplotlib.pyplot", "peft", "sklearn.ensemble", "torch", "transformers")
CHANGES = frozenset(
    f"{module}.{name}"
    for module, names in {
        "os": ("rename", "remove", "rmdir", "mkdir", "link", "symlink", "truncate", "utime"),
        "shutil": ("copyfile", "copytree", "move", "rmtree"),
        "sqlite3": ("connect",),
    }.items()
    for name in names
)
"""Audit events before a file is changed; beside them `open` for writing."""
WRITES = os.O_WRONLY | os.O_RDWR
LOOK_S, LONGEST_S = 0.005, 1800.0  # between two looks at a process, and for which it may be looked at


def import_all() -> None:
    """Import what runs import when they need it."""
    for module in HEAVY:
        importlib.import_module(module)


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
            tell(f"{type(error).__name__}: {error}")
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else None


class RunFailed(Exception):
    """A run that was to be killed ended by itself, and not well."""


def killed_after(run: Callable[[], object], seconds: float) -> bool:
    """Whether a process that does `run` was alive when it was killed, after it had computed for that time.

    A busy machine does not move the moment within the run. Raises RunFailed when it failed before, or did not end.
    """
    with TemporaryFile("w+") as said:
        child, end = _started(run, lambda: None, said), time.monotonic() + LONGEST_S
        clock = ~child << 3 | 2  # of the processor time of another process, as `clock_getcpuclockid` makes its number
        while time.clock_gettime(clock) < seconds:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return _was_killed(status, said)
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                raise RunFailed(f"after {LONGEST_S:.0f} s it had neither ended nor computed for {seconds:.1f} s")
            time.sleep(LOOK_S)
        os.kill(child, signal.SIGKILL)
        return _was_killed(os.waitpid(child, 0)[1], said)


def killed_at_change(run: Callable[[], object], number: int) -> bool:
    """Whether a process that does `run` killed itself before that change of a file; it may have made fewer.

    Raises RunFailed when it failed before.
    """
    with TemporaryFile("w+") as said:
        child = _started(run, lambda: _count_down(number), said)
        return _was_killed(os.waitpid(child, 0)[1], said)


def _was_killed(status: int, said: IO[str]) -> bool:
    if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status):
        said.seek(0)
        raise RunFailed(said.read())
    return os.WIFSIGNALED(status)


def measured(run: Callable[[], object]) -> tuple[float, int]:
    """How many seconds a process computes that does `run`, and how many changes of files it makes.

    Raises RunFailed when it fails.
    """
    found = apart(_measured, run)
    if found is None:
        raise RunFailed("the run that is measured")
    seconds, changes = found
    return seconds, changes


def _measured(run: Callable[[], object]) -> tuple[float, int]:
    changes, start = 0, time.process_time()

    def count() -> None:
        nonlocal changes
        changes += 1

    _at_change(count)
    run()
    return time.process_time() - start, changes


def _started(run: Callable[[], object], before: Callable[[], None], said: IO[str]) -> int:
    """The id of a process that says nothing but, into `said`, what it fails by."""
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        try:
            before()
            run()
            os._exit(0)
        except BaseException as error:
            said.write(f"{type(error).__name__}: {error}")
            said.flush()
            os._exit(1)
    return child


def _count_down(number: int) -> None:
    """End this process before its `number`th change of a file (from 1)."""
    left = number

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    _at_change(count)


def _at_change(act: Callable[[], None]) -> None:
    """Let this process `act` before each change of a file, from now on."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES):
            act()

    sys.addaudithook(hook)


def tell(line: str) -> None:
    """Say how far it is, or what was found."""
    print(line, file=sys.stderr, flush=True)
