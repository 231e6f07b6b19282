"""A sandbox for tests of the engine: no container, a plain directory and plain processes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterable, Callable, Mapping
from pathlib import Path
from typing import Any

from agent_magics.sandbox import (
    ExecResult,
    FileStat,
    Interrupt,
    Limits,
    OpenFile,
    PathIsLink,
    SandboxGone,
    SandboxUnavailable,
)
from tests.support.fake_tree import FakeTree


class FakeSandbox:
    """`/workspace` in commands and paths means the directory `root/workspace`."""

    unavailable: str | None = None
    """Set on the class, or an instance, to let `start` fail."""

    def __init__(
        self,
        root: Path,
        *,
        provider: str = "auto",
        python: Any = None,
        network: Any = None,
        limits: Limits | None = None,
    ) -> None:
        self.network = network
        self.limits = limits or Limits()
        self.root = root
        self.workspace = root / "workspace"
        self.tree = FakeTree(self.workspace)
        self.provider = "fake" if provider == "auto" else provider
        self.isolated = provider != "local"
        self.alive = False
        self.python = python
        self.gone_once = False
        self.starts = 0
        self.uses = 0
        self.running = 0
        self.jobs: list[str] = []

    async def start(self) -> None:
        if self.unavailable is not None:
            raise SandboxUnavailable(self.unavailable, "Install it.")
        self.workspace.mkdir(parents=True, exist_ok=True)
        self.starts += 1
        self.alive = True

    async def run(
        self,
        command: str,
        *,
        cwd: str = "/workspace",
        timeout: float | None = 120.0,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        max_output: int = 1 << 20,
        on_output: Callable[[str, bytes], None] | None = None,
        interrupt: Interrupt | None = None,
    ) -> ExecResult:
        if self.gone_once:
            self.gone_once, self.alive = False, False
            raise SandboxGone("gone")
        started = time.monotonic()
        self.uses += 1
        self.running += 1
        process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            command.replace("/workspace", str(self.workspace)),
            cwd=self._host(cwd),
            env={"PATH": os.environ["PATH"], **(env or {})},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        if interrupt is not None:
            interrupt.begin(lambda: os.killpg(process.pid, signal.SIGINT))
        kept: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}

        async def pump(name: str, reader: asyncio.StreamReader) -> None:
            while chunk := await reader.read(65536):
                kept[name] += chunk[: max(0, max_output - len(kept[name]))]
                if on_output is not None:
                    on_output(name, chunk)

        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(stdin or b"")
        process.stdin.close()
        timed_out = False
        try:
            async with asyncio.timeout(timeout):
                await asyncio.gather(
                    pump("stdout", process.stdout), pump("stderr", process.stderr), process.wait()
                )
        except TimeoutError:
            timed_out = True
        finally:
            self.running -= 1
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.communicate()  # to the end of its pipes, so that they are closed
        code = 124 if timed_out else process.returncode or 0
        if code < 0:
            code = 128 - code
        return ExecResult(
            bytes(kept["stdout"]),
            bytes(kept["stderr"]),
            code,
            timed_out,
            False,
            "timeout" if timed_out else None,
            time.monotonic() - started,
        )

    @property
    def busy(self) -> bool:
        return self.running > 0

    async def background(self) -> list[str]:
        return self.jobs

    async def read_file(self, path: str, *, max_bytes: int = 64 << 20) -> bytes:
        self.uses += 1
        return self._host(path).read_bytes()

    async def open_file(self, path: str) -> OpenFile:
        data = await self.read_file(path)
        return OpenFile(path, len(data), data, 1, None)  # type: ignore[arg-type]

    async def write_file(
        self, path: str, data: bytes | AsyncIterable[bytes], *, follow: bool = True
    ) -> None:
        if not isinstance(data, bytes):
            data = b"".join([piece async for piece in data])
        target = self._host(path)
        if not follow and target.is_relative_to(self.workspace):
            base, real = self.workspace.resolve(), target.resolve()
            if not real.is_relative_to(base):
                raise PathIsLink(path, str(real))
            if (leads := real.relative_to(base)) != target.relative_to(self.workspace):
                raise PathIsLink(path, f"/workspace/{leads}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    async def delete_file(self, path: str) -> None:
        self._host(path).unlink()

    async def list_files(
        self, path: str = "/workspace", *, recursive: bool = False, limit: int = 10_000
    ) -> list[FileStat]:
        base = self._host(path)
        if not base.is_dir():
            raise FileNotFoundError(path)
        found = sorted(base.rglob("*") if recursive else base.iterdir())[:limit]
        return [self._stat(p) for p in found]

    async def stop(self) -> None:
        self.alive = False

    async def destroy(self) -> None:
        self.alive = False
        shutil.rmtree(self.root, ignore_errors=True)

    def _stat(self, path: Path) -> FileStat:
        status = path.lstat()
        kind = "link" if path.is_symlink() else "directory" if path.is_dir() else "file"
        name = "/workspace/" + str(path.relative_to(self.workspace))
        return FileStat(name, kind, status.st_size, status.st_mtime_ns // 1_000_000)

    def _host(self, path: str) -> Path:
        inside = Path("/workspace", path)
        if inside.is_relative_to("/workspace"):
            return self.workspace / inside.relative_to("/workspace")
        return inside
