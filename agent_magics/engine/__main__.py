"""
`python -m agent_magics.engine`: the engine as a process.

The socket is bound before anything slow is imported, so that a client can connect at once and
just waits a little longer for its first answer.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent_magics import __version__
from agent_magics.wire import PROTOCOL

from ._state import (
    DataLock,
    Holder,
    StartError,
    StateFiles,
    data_directory,
    default_data_dir,
    default_state_dir,
    in_use,
    process_birth,
)

__all__ = ["main"]

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Options:
    """The command line. `grace` None: stay for ever."""

    state_dir: Path
    data_dir: Path
    ready_fd: int | None
    grace: float | None
    host: str | None
    port: int

    @classmethod
    def parse(cls, arguments: Sequence[str] | None) -> Options:
        parser = argparse.ArgumentParser(prog="python -m agent_magics.engine", description=__doc__)
        parser.add_argument("--state-dir", type=Path, default=default_state_dir(os.environ))
        parser.add_argument("--data-dir", type=Path, default=default_data_dir(os.environ))
        parser.add_argument("--ready-fd", type=int, help="gets a line when the engine answers")
        parser.add_argument(
            "--grace",
            type=float,
            help="seconds to stay after the last client left (default: 10; with --port for ever)",
        )
        parser.add_argument("--host", help="listen on TCP instead of a Unix socket")
        parser.add_argument("--port", type=int, help="port for --host; 0 takes a free one")
        found = parser.parse_args(arguments)
        tcp = found.host is not None or found.port is not None
        grace = found.grace if found.grace is not None or tcp else 10.0
        return cls(
            state_dir=found.state_dir,
            data_dir=found.data_dir,
            ready_fd=found.ready_fd,
            grace=grace,
            host=(found.host or "127.0.0.1") if tcp else None,
            port=found.port or 0,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an engine until it is stopped or nobody needs it. Returns the exit status."""
    options = Options.parse(arguments)
    os.umask(0o077)
    try:
        state = StateFiles(options.state_dir)
        data_dir = data_directory(options.data_dir)
        lock = DataLock(data_dir)
        if holder := lock.acquire():
            return _join(options, state, holder, data_dir)
        token = os.environ.pop("AGENT_MAGICS_TOKEN", "") or secrets.token_urlsafe(32)
        listener = state.bind() if options.host is None else _bind_tcp(options.host, options.port)
        try:
            _announce(options, state, lock, listener, token)
            return _serve(options, state, data_dir, listener, token)
        finally:
            state.withdraw()
            listener.close()
    except StartError as error:
        sys.stderr.write(f"agent-magics engine: {error}\n")
        return 1


def _bind_tcp(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        raise StartError(f"{host}:{port} can't be listened on: {error}") from error
    return listener


def _join(options: Options, state: StateFiles, holder: Holder, data_dir: Path) -> int:
    """Another engine has the data: what asks here is led there. Raises StartError."""
    if holder.url or options.host is not None:
        raise StartError(in_use(data_dir, holder))
    state.lead_to(holder)
    sys.stderr.write(f"agent-magics engine: process {holder.pid} serves {data_dir} already.\n")
    _tell_ready(options)
    return 0 if options.ready_fd is not None else 1


def _tell_ready(options: Options) -> None:
    if options.ready_fd is not None:
        with suppress(OSError):  # the starter has stopped waiting
            os.write(options.ready_fd, b"ready\n")
        os.close(options.ready_fd)


def _announce(
    options: Options, state: StateFiles, lock: DataLock, listener: socket.socket, token: str
) -> None:
    info = {"pid": os.getpid(), "version": __version__, "protocol": PROTOCOL, "token": token}
    if options.host is None:
        state.tell_work("starting")
        state.announce({**info, "birth": process_birth()})
        lock.describe(socket=str(state.socket_path))
        return
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    lock.describe(url=url)
    sys.stdout.write(json.dumps({**info, "url": url}) + "\n")
    sys.stdout.flush()


def _serve(
    options: Options, state: StateFiles, data_dir: Path, listener: socket.socket, token: str
) -> int:
    os.environ["PYDANTIC_AI_NO_BANNER"] = "1"
    from ._config import ConfigError, EngineConfig

    try:  # first: what is wrong with it is told before the slowest is imported
        config = EngineConfig.load(None, os.environ)
    except ConfigError as error:
        raise StartError(str(error)) from error

    from ._serve import ServeOptions, run

    return run(
        ServeOptions(
            config=config,
            listener=listener,
            token=token,
            data_dir=data_dir,
            log_path=state.open_log(),
            private=options.host is None or options.host in _LOOPBACK,
            hosts=(options.host,) if options.host else (),
            grace=options.grace,
            on_ready=lambda: _tell_ready(options),
            on_leaving=state.withdraw,
            on_work=state.tell_work if options.host is None else None,
            restore=state.restore,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
