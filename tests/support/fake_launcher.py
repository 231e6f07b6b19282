"""A launcher whose engines are fakes, and clients that use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agent_magics.client import (
    AsyncClient,
    Client,
    Endpoint,
    EngineLauncher,
    EngineStartError,
    StateDir,
    StreamPolicy,
)
from tests.support.fake_engine import FakeEngine

QUICK = StreamPolicy(heartbeat=5, give_up=1.0, first_delay=0.0, longest_delay=0.05, quiet=5)


class FakeLauncher(EngineLauncher):
    """Leads to `engine`; `relaunch`, when given, makes the engine that replaces a dead one."""

    def __init__(
        self, engine: FakeEngine, relaunch: Callable[[], FakeEngine] | None = None
    ) -> None:
        super().__init__(StateDir(engine.socket.parent))
        object.__setattr__(self, "engine", engine)
        object.__setattr__(self, "relaunch", relaunch)
        object.__setattr__(self, "launches", [])

    def ensure(self, timeout: float | None = None, **options: Any) -> Endpoint:
        engine: FakeEngine = self.__dict__["engine"]
        self.__dict__["launches"].append(engine)
        if not engine.socket.exists():
            relaunch = self.__dict__["relaunch"]
            if relaunch is None:
                raise EngineStartError("The engine does not start.")
            engine = relaunch()
            object.__setattr__(self, "engine", engine)
        return replace(engine.endpoint, pid=id(engine))


def async_client(engine: FakeEngine, **options: Any) -> AsyncClient:
    relaunch = options.pop("relaunch", None)
    return AsyncClient(
        **{"launcher": FakeLauncher(engine, relaunch), "policy": QUICK, "timeout": 5.0, **options}
    )


def sync_client(engine: FakeEngine, **options: Any) -> Client:
    relaunch = options.pop("relaunch", None)
    return Client(
        **{"launcher": FakeLauncher(engine, relaunch), "policy": QUICK, "timeout": 5.0, **options}
    )
