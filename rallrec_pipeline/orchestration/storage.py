"""The Dagster instance of a run of the command line, and one line where its storage cannot be reached."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import dagster as dg
from sqlalchemy.exc import DBAPIError

from rallrec_pipeline.errors import StorageError
from rallrec_pipeline.lake.locks import lake_lock
from rallrec_pipeline.text import visible

RETRIES = "Retrying failed database connection"


@contextmanager
def run_instance(say: Callable[[str], None]) -> Iterator[dg.DagsterInstance]:
    """The instance of DAGSTER_HOME, or one that stays nowhere.

    Raises StorageError when its database cannot be reached or written, now or within the block.
    """
    home = Path(os.environ.get("DAGSTER_HOME", ""))
    waiting = _SaidOnce(say)
    logging.getLogger().addFilter(waiting)
    try:
        with _instance(home, say) as instance:
            yield instance
    except Exception as error:
        reason = _database_error(error)
        if reason is None:
            raise
        raise StorageError(
            f"Dagster's storage cannot be reached or written ({reason}): see that it runs and has room, and that "
            f"{home / 'dagster.yaml'} says where it is, and run again; what is finished is kept"
        ) from error
    finally:
        logging.getLogger().removeFilter(waiting)


@contextmanager
def _instance(home: Path, say: Callable[[str], None]) -> Iterator[dg.DagsterInstance]:
    if home == Path():
        with dg.DagsterInstance.ephemeral() as instance:
            yield instance
        return
    # Of two first runs one makes the tables of the storage: Dagster itself would let the other fail.
    with lake_lock(home / "storage", "_instance", say) if home.is_dir() else nullcontext():
        opened = dg.DagsterInstance.get()
    with opened as instance:
        yield instance


def _database_error(error: BaseException | None) -> str | None:
    """What a database said that is at the bottom of an error, in one line; None where none is."""
    while error is not None:
        if isinstance(error, DBAPIError):
            return visible(str(error.orig).strip().partition("\n")[0])
        error = error.__cause__ or error.__context__
    return None


class _SaidOnce(logging.Filter):
    """Of the tries to reach the database, each of which Dagster logs with all that the driver says, one line."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say, self._said = say, False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is of anything else."""
        if not str(record.msg).startswith(RETRIES):
            return True
        if not self._said:
            self._say("Dagster's storage does not answer: trying again for some seconds")
        self._said = True
        return False
