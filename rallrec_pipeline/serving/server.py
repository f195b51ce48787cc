"""`rallrec serve`: the application on a socket, in this one process."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn

from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.serving.app import make_app
from rallrec_pipeline.serving.current import Current
from rallrec_pipeline.serving.loading import Loader
from rallrec_pipeline.serving.work import Work
from rallrec_pipeline.settings import load_settings

GRACE_S = 2
CONNECTIONS = 4096  # open at once; beyond, a caller is turned away before anything is read


def serve_dataset(
    lake: Path, dataset: str, profile: str | None, host: str, port: int, log: Callable[[str], None]
) -> None:
    """Serve until it is stopped. Raises ConfigError when the address cannot be taken."""
    settings = load_settings(profile, lake=lake)
    limits, variant = settings.serving, settings.profile
    with _bound(host, port) as listening:
        log(f"loading recommendations of {dataset}, to score {', '.join(limits.methods)} (profile {variant})")
        work = Work(limits)
        current = Current(Loader(lake, dataset, profile, log), work, log)
        address = "http://{}:{}".format(*listening.getsockname()[:2])
        log(f"serving {dataset} ({current.snapshot.variant}) on {address}; Ctrl-C stops it")
        if not current.snapshot.versions:
            log(f"nothing of {dataset} is there yet: requests get 503 until `rallrec run {dataset}` has made it")
        config = uvicorn.Config(
            make_app(current, work, limits, lake),
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=GRACE_S,
        )
        _Server(config, log).run(sockets=[listening])


class _Server(uvicorn.Server):
    """Says that it stops: answers under way have `GRACE_S` left, and the LLM ends its part of one."""

    def __init__(self, config: uvicorn.Config, log: Callable[[str], None]) -> None:
        super().__init__(config)
        self._log = log

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            self._log("stopping")
        super().handle_exit(sig, frame)


def _bound(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=2048)
    except (OSError, OverflowError) as error:
        code = error.errno if isinstance(error, OSError) else None
        if code == errno.EADDRINUSE:
            raise ConfigError(
                f"cannot listen on {host}:{port}: the address is in use, choose another --port"
            ) from error
        reason = os.strerror(code) if code and code > 0 else getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot listen on {host}:{port} ({reason}): choose another --port or --host") from error
