"""`rallrec serve`: the application on a socket, in this one process."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
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
CONNECTIONS = 4096  # open at once; beyond, a request is turned away before its body is read


def serve_dataset(
    lake: Path, dataset: str, profile: str | None, host: str, port: int, log: Callable[[str], None]
) -> None:
    """Serve until it is stopped. Raises ConfigError when the address cannot be taken."""
    settings = load_settings(profile, lake=lake)
    limits, variant = settings.serving, settings.profile
    with _bound(host, port) as bound:
        log(f"loading recommendations of {dataset}, to score {', '.join(limits.methods)} (profile {variant})")
        work = Work(limits)
        current = Current(Loader(lake, dataset, profile, log), work, log)
        app = make_app(current, work, limits, lake)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=GRACE_S,
        )
        _listen(bound, host, port)
        log(f"serving {dataset} ({variant}) on {_address(bound)}; Ctrl-C stops it")
        if current.snapshot.is_empty:
            log("nothing can be answered yet, for the reasons above: until then requests get 503")
        _Server(config, log).run(sockets=[bound])


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
    """The address is taken, and nobody is let in until the first load is done."""
    with ExitStack() as failing:
        try:
            found = failing.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if found.family == socket.AF_INET6:
                found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            found.bind((host, port))
        except (OSError, OverflowError) as error:
            raise _refused(host, port, error) from error
        failing.pop_all()  # it stays open
    return found


def _listen(bound: socket.socket, host: str, port: int) -> None:
    try:
        bound.listen(2048)
    except OSError as error:  # another process has bound it, too, and was first
        raise _refused(host, port, error) from error


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _refused(host: str, port: int, error: OSError | OverflowError) -> ConfigError:
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.EADDRINUSE:
        return ConfigError(f"cannot listen on {host}:{port}: the address is in use, choose another --port")
    reason = os.strerror(code) if code and code > 0 else getattr(error, "strerror", None) or str(error)
    return ConfigError(f"cannot listen on {host}:{port} ({reason}): choose another --port or --host")
