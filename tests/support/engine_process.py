"""A real engine process on a Unix socket, and a client of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0

CONFIG = """
model = "scripted/{model}"
sandbox = "local"

[providers.scripted]
base_url = "{url}"
api_key_env = "SCRIPTED_API_KEY"
"""


class EngineProcess:
    """
    `python -m agent_magics.engine`; its directories outlive it, so that it can be started again.

    Directories for sockets must have short names; `directory` is one below /tmp.
    """

    def __init__(self, *, model_url: str = "http://127.0.0.1:9", model: str = "none") -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="am-")
        self.directory = Path(self._temporary.name)
        self.state = self.directory / "state"
        self.data = self.directory / "data"
        self.config = self.directory / "config.toml"
        self.config.write_text(CONFIG.format(url=model_url, model=model))
        self.process: subprocess.Popen[bytes] | None = None
        self.python_path: tuple[str, ...] = ()
        """Directories to import from before the checkout."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()
        self._temporary.cleanup()

    @property
    def environ(self) -> dict[str, str]:
        return {
            "AGENT_MAGICS_CONFIG": str(self.config),
            "HOME": str(self.directory),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join((*self.python_path, str(ROOT))),
            "SCRIPTED_API_KEY": "sk-scripted-0123456789",
        }

    def start(self, *arguments: str, grace: float = 60) -> subprocess.Popen[bytes]:
        """Start it without waiting; its standard error goes to `stderr.txt`."""
        command = [
            *(sys.executable, "-m", "agent_magics.engine"),
            *("--state-dir", str(self.state), "--data-dir", str(self.data)),
            *("--grace", str(grace), *arguments),
        ]
        read_end, write_end = os.pipe()
        self.ready_fd = read_end
        with (self.directory / "stderr.txt").open("ab") as stderr:
            self.process = subprocess.Popen(
                [*command, "--ready-fd", str(write_end)],
                pass_fds=[write_end],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        os.close(write_end)
        return self.process

    async def ready(self) -> None:
        """Wait for the line that says that it answers."""
        async with asyncio.timeout(PATIENCE):
            line = await asyncio.to_thread(os.read, self.ready_fd, 100)
        os.close(self.ready_fd)
        assert line == b"ready\n", self.stderr

    @property
    def stderr(self) -> str:
        return (self.directory / "stderr.txt").read_text()

    @property
    def log(self) -> str:
        return (self.state / "engine.log").read_text()

    @property
    def info(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.state / "engine.json").read_text())
        return found

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                uds=str(self.state / "engine.sock"),
                verify=False,  # no TLS on a Unix socket, and its context is slow to make
            ),
            base_url="http://agent",
            headers={"Authorization": f"Bearer {self.info['token']}"},
            timeout=PATIENCE,
        )

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end."""
        assert self.process is not None
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        assert self.process is not None
        async with asyncio.timeout(PATIENCE):
            code = await asyncio.to_thread(self.process.wait)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


@asynccontextmanager
async def started(engine: EngineProcess, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The engine, running, and a client of it."""
    engine.start(**options)
    await engine.ready()
    async with engine.client() as client:
        yield client
