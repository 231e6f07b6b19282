"""
The engine's process: the real parts wired together, its HTTP server, its life and its end.

It lives while somebody holds it (a lease, a stream, a running request) or a turn runs, and goes
`grace` seconds later. On SIGTERM turns are aborted and told so, containers stopped.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from agent_magics import __version__
from agent_magics.sandbox import open_sandbox

from ._agents import AgentBook
from ._app import create_app
from ._config import EngineConfig, config_path
from ._engine import Engine
from ._errors import log_unforeseen
from ._extensions import Extensions
from ._guard import ConnectionLimits, Guard
from ._logging import configure_logging
from ._policy import DEFAULT_RULES
from ._presence import Presence
from ._state import StartError, storage_problem
from ._store import Store, StoreDamaged, StoreError
from .models import ModelRegistry
from .tools import INSTRUCTIONS, build_tools, tool_title

__all__ = ["ServeOptions", "run"]

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LOOK = 0.5
"""Seconds between two looks at the state directory."""
_LAST_PATIENCE = 5.0
"""Seconds for turns to end when nothing of it can be stored."""
_FAREWELL = 2
"""Seconds that requests get to come to their end."""
_DESCRIPTORS = 1 << 14
_WAITING = 2048
"""Connections that wait to be accepted; asyncio would accept as many at once."""
_SWITCH_INTERVAL = 0.001
"""The store's thread needs the GIL for a moment, often, beside a busy loop."""


@dataclass(frozen=True)
class ServeOptions:
    """
    `on_leaving` is called before the last things are done, so that a successor can start,
    `on_work` with the number of things at work. `restore` puts right what happened to the state
    directory; it returns a new socket to listen at, if that is needed.
    """

    config: EngineConfig
    listener: socket.socket
    token: str = field(repr=False)
    data_dir: Path
    log_path: Path
    private: bool
    hosts: tuple[str, ...]
    grace: float | None
    on_ready: Callable[[], None]
    on_leaving: Callable[[], None]
    connections: ConnectionLimits | None = None
    on_work: Callable[[int], None] | None = None
    restore: Callable[[], socket.socket | None] = lambda: None


class _Server(uvicorn.Server):
    """uvicorn without signal handlers: the engine has to end its turns first."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(options: ServeOptions) -> int:
    """Serve until the end. Raises StartError. Returns the exit status."""
    configure_logging(options.log_path)
    _allow_many_descriptors()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    return asyncio.run(_Process(options).run())


def _allow_many_descriptors() -> None:
    """Each connection of a container to the network takes two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class _Process:
    def __init__(self, options: ServeOptions) -> None:
        self._options = options
        self._config = options.config
        self._stop = asyncio.Event()
        self._reason = ""
        self._failed = False
        self._damaged = False

    async def run(self) -> int:
        began = time.monotonic()
        registry = ModelRegistry(self._config, os.environ)
        engine = await self._open(registry)
        presence, guard = Presence(self._options.on_work), Guard(self._options.connections)
        engine.sessions.on_turns = presence.set_turns
        presence.set_turns(0)
        server = self._server(engine, presence, guard)
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._leave, signal.Signals(number).name)
        serving = asyncio.create_task(server.serve(sockets=[self._options.listener]))
        serving.add_done_callback(functools.partial(self._task_ended, "the server"))
        watching = asyncio.create_task(self._watch(engine, presence))
        watching.add_done_callback(functools.partial(self._task_ended, "the watch"))
        restoring = asyncio.create_task(self._keep_reachable(server))
        restoring.add_done_callback(functools.partial(self._task_ended, "the watch on its files"))
        guarding = asyncio.create_task(guard.run())
        guarding.add_done_callback(functools.partial(self._task_ended, "the guard"))
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event
            await asyncio.sleep(0.002)
        self._options.listener.listen(_WAITING)
        log.info(
            "engine %s, process %d, ready after %.2f s",
            __version__,
            os.getpid(),
            time.monotonic() - began,
        )
        self._options.on_ready()
        await self._stop.wait()
        log.info("leaving: %s", self._reason)
        watching.cancel()
        guarding.cancel()
        restoring.cancel()
        self._options.on_leaving()
        await self._end(engine, presence, server, serving)
        await registry.aclose()
        log.info("left")
        return 1 if self._failed else 0

    async def _open(self, registry: ModelRegistry) -> Engine:
        """
        The engine with what is stored; damage that only shows now is repaired, once.

        Raises StartError.
        """
        try:
            try:
                return await self._open_once(registry)
            except StoreDamaged as error:
                log.error("%s", error)
                self._stop.clear()
                self._failed = False
                return await self._open_once(registry)
        except StoreError as error:
            raise StartError(str(error)) from error
        except OSError as error:
            raise StartError(storage_problem(self._options.data_dir, error)) from error
        except Exception as error:
            ref = log_unforeseen(error, "starting")
            raise StartError(
                f"Unexpected error at the start; {self._options.log_path} has more under {ref}."
            ) from error

    async def _open_once(self, registry: ModelRegistry) -> Engine:
        """Raises StoreError."""
        store = Store(self._options.data_dir / "engine.db", on_failure=self._store_failed)
        folder = config_path(None, os.environ)[0].parent
        try:
            engine = await Engine.open(
                store,
                registry,
                tools=build_tools(),
                instructions=INSTRUCTIONS,
                tool_title=tool_title,
                rules=(*DEFAULT_RULES, *self._config.network.rules, *self._config.rules),
                open_sandbox=functools.partial(open_sandbox, options=self._config.containers),
                sessions_dir=self._options.data_dir / "sessions",
                sandbox=self._config.sandbox,
                extensions=Extensions.of_config(
                    self._config, folder, os.environ, self._options.log_path.parent
                ),
                agents=AgentBook(self._config.agents),
                compaction=self._config.compaction,
                limits=self._config.limits,
                container_limits=self._config.container_limits,
                idle=self._config.idle,
                snapshot_limits=self._config.snapshot,
                network=self._config.network,
            )
        except BaseException:
            await store.close()
            raise
        store.on_damage = self._store_damaged
        return engine

    def _store_damaged(self) -> None:
        """In any thread. Leave when no turn runs: the next start repairs the store."""
        self._damaged = True

    def _server(self, engine: Engine, presence: Presence, guard: Guard) -> _Server:
        app = create_app(
            engine,
            presence,
            token=self._options.token,
            private=self._options.private,
            hosts=self._options.hosts,
        )
        return _Server(
            uvicorn.Config(
                app,
                access_log=False,
                backlog=guard.accepted_at_once,
                http=guard.protocol(),
                lifespan="off",
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=_FAREWELL,
                timeout_keep_alive=75,
                ws="none",
            )
        )

    async def _end(
        self,
        engine: Engine,
        presence: Presence,
        server: _Server,
        serving: asyncio.Task[None],
    ) -> None:
        presence.closing.set()
        try:
            # Without a store the ends of turns can't be told: a successor tells them.
            async with asyncio.timeout(_LAST_PATIENCE if self._failed else None):
                await engine.finish()
        except (StoreError, TimeoutError) as error:
            log.error("turns could not be closed: %s", error)
        server.should_exit = True
        await asyncio.wait([serving])
        try:
            await engine.close()
        except StoreError as error:
            log.error("the store could not be closed: %s", error)

    async def _watch(self, engine: Engine, presence: Presence) -> None:
        """Leave when nobody has been there for a while."""
        grace = self._options.grace
        if grace is None:  # it stays until it is told to leave
            await self._stop.wait()
            return
        while engine.busy or (presence.alone_for <= grace and not self._damaged):  # noqa: ASYNC110
            await asyncio.sleep(min(0.25, max(0.02, grace / 4)))
        alone = f"nobody was here for {grace:g} s"
        self._leave("the store is damaged" if self._damaged else alone)

    async def _keep_reachable(self, server: _Server) -> None:
        """Make the socket and what tells of it again, should somebody remove them."""
        problem = ""
        while True:
            await asyncio.sleep(_LOOK)
            try:
                listener = self._options.restore()
            except (OSError, StartError) as error:
                if str(error) != problem:
                    log.error("the engine can't be found any more: %s", error)
                problem = str(error)
                continue
            if listener is not None:
                log.warning("the state directory had been removed; it is made again")
                before = server.servers
                await server.startup(sockets=[listener])
                server.servers += before

    def _task_ended(self, what: str, task: asyncio.Task[None]) -> None:
        """What the engine can't do without has ended."""
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            self._failed = True
            log_unforeseen(error, f"running {what}")
        self._leave(f"{what} ended")

    def _store_failed(self, error: StoreError) -> None:
        self._failed = True
        self._leave(str(error))

    def _leave(self, reason: str) -> None:
        if not self._stop.is_set():
            self._reason = reason
            self._stop.set()
