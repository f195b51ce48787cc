"""Errors a user can cause. Each message is one line: what, where, how to mend."""


class RallrecError(Exception):
    """Base of every error that is shown to the user as one line, without a traceback."""


class DataError(RallrecError):
    """Raw files or tables are missing, truncated, malformed or break their schema."""


class DamagedError(DataError):
    """The bytes of a file are not those that were written."""


class ConfigError(RallrecError):
    """A setting, profile, dataset name or TOML file is wrong."""


class StaleArtefactError(RallrecError):
    """An upstream artefact is missing or was made from other inputs than those at hand."""


class ModelError(RallrecError):
    """Model weights or a tokenizer are missing, unreadable or do not fit the task."""


class ClusterError(RallrecError):
    """Machines of a Ray cluster are gone or have no room."""


class StorageError(RallrecError):
    """The database of Dagster's storage cannot be reached or written."""


class RequestError(RallrecError):
    """A request to the server is wrong, or cannot be answered now; `status` is that of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def first_line(error: object) -> str:
    """The first line of what an error says, or its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
